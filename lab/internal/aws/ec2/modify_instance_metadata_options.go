package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func modifyInstanceMetadataOptions() query.Action {
	type answer struct {
		ID      string       `xml:"instanceId"`
		Options *metadataXML `xml:"instanceMetadataOptions"`
	}
	return query.Action{
		Name:   "ModifyInstanceMetadataOptions",
		Params: []string{"InstanceId", "HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint"},
		Needs:  on([2]string{"instance", "InstanceId"}),
		Run: func(call *query.Call) (any, error) {
			p := call.Params
			id := p.Required("InstanceId")
			o := cloud.Metadata{HTTPTokens: p.String("HttpTokens"), HTTPEndpoint: p.String("HttpEndpoint"), HopLimit: p.Count("HttpPutResponseHopLimit")}
			if err := p.Err(); err != nil {
				return nil, err
			}
			if err := instanceKind().check(id); err != nil {
				return nil, err
			}
			now, err := call.Cloud.SetMetadataOptions(call.Context, id, o)
			return answer{ID: id, Options: newMetadataXML(now, "pending")}, err
		},
	}
}
