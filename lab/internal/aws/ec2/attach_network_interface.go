package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func attachNetworkInterface() query.Action {
	type answer struct {
		ID          string `xml:"attachmentId"`
		NetworkCard int    `xml:"networkCardIndex"`
	}
	return query.Action{
		Name:   "AttachNetworkInterface",
		Params: []string{"NetworkInterfaceId", "InstanceId", "DeviceIndex", "NetworkCardIndex"},
		Needs:  on([2]string{"instance", "InstanceId"}, [2]string{"network-interface", "NetworkInterfaceId"}),
		Run: func(call *query.Call) (any, error) {
			p := call.Params
			in := cloud.AttachInput{ENI: p.Required("NetworkInterfaceId"), Instance: p.Required("InstanceId"), DeviceIndex: p.Int("DeviceIndex", 0), NetworkCard: p.Int("NetworkCardIndex", 0)}
			p.Required("DeviceIndex")
			if err := p.Err(); err != nil {
				return nil, err
			}
			if err := eniKind().check(in.ENI); err != nil {
				return nil, err
			}
			if err := instanceKind().check(in.Instance); err != nil {
				return nil, err
			}
			a, err := call.Cloud.Attach(call.Context, in)
			return answer{ID: a.ID, NetworkCard: a.NetworkCard}, err
		},
	}
}
