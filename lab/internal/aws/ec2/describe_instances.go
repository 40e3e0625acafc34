package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func describeInstances() query.Action {
	type reservation struct {
		ID        string        `xml:"reservationId"`
		OwnerID   string        `xml:"ownerId"`
		Groups    []groupXML    `xml:"groupSet>item"`
		Instances []instanceXML `xml:"instancesSet>item"`
		Requester string        `xml:"requesterId,omitempty"`
	}
	type answer struct {
		Set       []reservation `xml:"reservationSet>item"`
		NextToken string        `xml:"nextToken,omitempty"`
	}
	return query.Action{
		Name:   "DescribeInstances",
		Params: []string{"Filter", "InstanceId", "MaxResults", "NextToken", "IncludeManagedResources"},
		Run: func(call *query.Call) (any, error) {
			var out answer
			var err error
			call.Cloud.Read(func(m *cloud.Model) {
				l := listing[*cloud.Instance]{
					kind: instanceKind(), idParam: "InstanceId", plural: "InstanceIds", low: 5, high: 1000,
					id: func(i *cloud.Instance) string { return i.ID }, tags: func(i *cloud.Instance) map[string]string { return i.Tags }, fields: instanceFilters(m),
				}
				var list []*cloud.Instance
				list, out.NextToken, err = l.selected(call.Params, cloud.Sorted(m.Instances))
				for _, i := range list {
					out.Set = append(out.Set, reservation{ID: i.Reservation, OwnerID: m.Account, Instances: []instanceXML{newInstanceXML(m, i)}})
				}
			})
			return out, err
		},
	}
}
