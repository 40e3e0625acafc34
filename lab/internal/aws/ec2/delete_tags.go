package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func deleteTags() query.Action {
	return query.Action{
		Name:   "DeleteTags",
		Params: []string{"ResourceId", "Tag"},
		Needs:  tagNeeds,
		Run: func(call *query.Call) (any, error) {
			ids := call.Params.List("ResourceId")
			if len(ids) == 0 {
				return nil, apierror.New("MissingParameter", "The request must contain the parameter resourceIdSet")
			}
			tags := map[string]*string{}
			for _, t := range call.Params.Structs("Tag") {
				var value *string
				if t.Has("Value") {
					v := t.String("Value")
					value = &v
				}
				tags[t.String("Key")] = value
			}
			return done{true}, call.Cloud.DeleteTags(call.Context, ids, tags)
		},
	}
}
