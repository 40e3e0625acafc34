package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/iampolicy"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func detachNetworkInterface() query.Action {
	return query.Action{
		Name:   "DetachNetworkInterface",
		Params: []string{"AttachmentId", "Force"},
		Needs: func(call *query.Call) []iampolicy.Request {
			eni, instance := "*", "*"
			call.Cloud.Read(func(m *cloud.Model) {
				for _, e := range m.ENIs {
					if e.Attachment != nil && e.Attachment.ID == call.Params.String("AttachmentId") {
						eni, instance = e.ID, e.Attachment.InstanceID
					}
				}
			})
			return []iampolicy.Request{resource(call, "network-interface", eni), resource(call, "instance", instance)}
		},
		Run: func(call *query.Call) (any, error) {
			id, force := call.Params.Required("AttachmentId"), call.Params.Bool("Force")
			if err := call.Params.Err(); err != nil {
				return nil, err
			}
			if err := attachmentKind().check(id); err != nil {
				return nil, err
			}
			return done{true}, call.Cloud.Detach(call.Context, id, force)
		},
	}
}
