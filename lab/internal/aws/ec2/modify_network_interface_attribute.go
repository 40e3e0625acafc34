package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func modifyNetworkInterfaceAttribute() query.Action {
	return query.Action{
		Name:   "ModifyNetworkInterfaceAttribute",
		Params: []string{"NetworkInterfaceId", "Attachment", "SecurityGroupId", "Description", "SourceDestCheck"},
		Needs:  on([2]string{"network-interface", "NetworkInterfaceId"}, [2]string{"security-group", "SecurityGroupId"}),
		Run: func(call *query.Call) (any, error) {
			p := call.Params
			id := p.Required("NetworkInterfaceId")
			attributes := 0
			for _, name := range []string{"Attachment", "SecurityGroupId", "Description", "SourceDestCheck"} {
				if p.Has(name) {
					attributes++
				}
			}
			switch {
			case p.Err() != nil:
				return nil, p.Err()
			case attributes == 0:
				return nil, apierror.New("InvalidParameterCombination", "No attributes specified.")
			case attributes > 1:
				return nil, apierror.New("InvalidParameterCombination", "Fields for multiple attribute types specified")
			}
			if err := eniKind().check(id); err != nil {
				return nil, err
			}
			var err error
			switch {
			case p.Has("Attachment"):
				a := p.Struct("Attachment")
				attachment, on := a.Required("AttachmentId"), a.Bool("DeleteOnTermination")
				if !a.Has("DeleteOnTermination") {
					a.Required("DeleteOnTermination")
				}
				if err := a.Err(); err != nil {
					return nil, err
				}
				if err := attachmentKind().check(attachment); err != nil {
					return nil, err
				}
				err = call.Cloud.SetDeleteOnTermination(call.Context, id, attachment, on)
			case p.Has("SecurityGroupId"):
				err = call.Cloud.SetENIGroups(call.Context, id, p.List("SecurityGroupId"))
			case p.Has("Description"):
				err = call.Cloud.SetENIDescription(call.Context, id, p.Struct("Description").String("Value"))
			default:
				s := p.Struct("SourceDestCheck")
				on := s.Bool("Value")
				if err := s.Err(); err != nil {
					return nil, err
				}
				err = call.Cloud.SetSourceDestCheck(call.Context, id, on)
			}
			return done{true}, err
		},
	}
}
