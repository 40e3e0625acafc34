package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/iampolicy"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

// tagNeeds are the permissions to tag each named resource.
func tagNeeds(call *query.Call) []iampolicy.Request {
	tags, err := readTags(call.Params)
	if err != nil {
		tags = nil
	}
	var out []iampolicy.Request
	for _, id := range call.Params.List("ResourceId") {
		kind := ""
		call.Cloud.Read(func(m *cloud.Model) { _, kind = m.TagsOf(id) })
		if kind == "" {
			kind = kindOf(id)
		}
		r := resource(call, kind, id)
		addRequestTags(r.Context, tags)
		out = append(out, r)
	}
	if len(out) == 0 {
		out = append(out, iampolicy.Request{Action: "ec2:" + call.Action, Resource: "*"})
	}
	return out
}

// kindOf guesses a resource's type from its id, for one that is not there.
func kindOf(id string) string {
	for kind, k := range map[string]kind{
		"network-interface": eniKind(), "instance": instanceKind(), "subnet": subnetKind(), "vpc": vpcKind(),
		"route-table": tableKind(), "security-group": groupKind(),
	} {
		if k.check(id) == nil {
			return kind
		}
	}
	return "*"
}

func createTags() query.Action {
	return query.Action{
		Name:   "CreateTags",
		Params: []string{"ResourceId", "Tag"},
		Needs:  tagNeeds,
		Run: func(call *query.Call) (any, error) {
			ids := call.Params.List("ResourceId")
			tags, err := readTags(call.Params)
			if err != nil {
				return nil, err
			}
			if len(ids) == 0 || len(tags) == 0 {
				return nil, apierror.New("MissingParameter", "The request must contain the parameters resourceIdSet and tagSet")
			}
			return done{true}, call.Cloud.CreateTags(call.Context, ids, tags)
		},
	}
}
