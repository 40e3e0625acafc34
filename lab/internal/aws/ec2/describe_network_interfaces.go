package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func describeNetworkInterfaces() query.Action {
	type answer struct {
		Set       []eniXML `xml:"networkInterfaceSet>item"`
		NextToken string   `xml:"nextToken,omitempty"`
	}
	return query.Action{
		Name:   "DescribeNetworkInterfaces",
		Params: []string{"Filter", "NetworkInterfaceId", "MaxResults", "NextToken", "IncludeManagedResources"},
		Run: func(call *query.Call) (any, error) {
			var out answer
			var err error
			call.Cloud.Read(func(m *cloud.Model) {
				l := listing[*cloud.ENI]{
					kind: eniKind(), idParam: "NetworkInterfaceId", plural: "NetworkInterfaceIds", id: func(e *cloud.ENI) string { return e.ID },
					fields: eniFilters(m), tags: func(e *cloud.ENI) map[string]string { return e.Tags }, low: 5, high: 1000,
				}
				var list []*cloud.ENI
				list, out.NextToken, err = l.selected(call.Params, cloud.Sorted(m.ENIs))
				for _, e := range list {
					out.Set = append(out.Set, newENIXML(m, e))
				}
			})
			return out, err
		},
	}
}
