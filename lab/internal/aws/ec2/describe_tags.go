package ec2

import (
	"maps"
	"slices"
	"strings"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func describeTags() query.Action {
	type tag struct {
		ID    string `xml:"resourceId"`
		Type  string `xml:"resourceType"`
		Key   string `xml:"key"`
		Value string `xml:"value"`
	}
	type answer struct {
		Set       []tag  `xml:"tagSet>item"`
		NextToken string `xml:"nextToken,omitempty"`
	}
	return query.Action{
		Name:   "DescribeTags",
		Params: []string{"Filter", "MaxResults", "NextToken"},
		Run: func(call *query.Call) (any, error) {
			var all []tag
			call.Cloud.Read(func(m *cloud.Model) {
				var ids []string
				ids = slices.AppendSeq(ids, maps.Keys(m.ENIs))
				ids = slices.AppendSeq(ids, maps.Keys(m.Instances))
				ids = slices.AppendSeq(ids, maps.Keys(m.Subnets))
				ids = slices.AppendSeq(ids, maps.Keys(m.VPCs))
				ids = slices.AppendSeq(ids, maps.Keys(m.Groups))
				ids = slices.AppendSeq(ids, maps.Keys(m.RouteTables))
				for _, id := range ids {
					tags, kind := m.TagsOf(id)
					for k, v := range tags {
						all = append(all, tag{id, kind, k, v})
					}
				}
			})
			order := func(t tag) string { return t.ID + "\x00" + t.Key }
			slices.SortFunc(all, func(a, b tag) int { return strings.Compare(order(a), order(b)) })
			l := listing[tag]{
				id: order, low: 5, high: 1000,
				fields: map[string]func(tag) []string{
					"key": func(t tag) []string { return one(t.Key) }, "value": func(t tag) []string { return []string{t.Value} },
					"resource-id": func(t tag) []string { return one(t.ID) }, "resource-type": func(t tag) []string { return one(t.Type) },
				},
				tags: func(t tag) map[string]string { return map[string]string{t.Key: t.Value} },
			}
			var out answer
			var err error
			out.Set, out.NextToken, err = l.selected(call.Params, all)
			return out, err
		},
	}
}
