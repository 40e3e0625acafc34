package iam

import (
	"fmt"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

// profileActions are those of instance profiles: how one learns a node's role.
func profileActions() []query.Action {
	type profile struct {
		Path    string    `xml:"Path"`
		Name    string    `xml:"InstanceProfileName"`
		ID      string    `xml:"InstanceProfileId"`
		ARN     string    `xml:"Arn"`
		Created string    `xml:"CreateDate"`
		Roles   []roleXML `xml:"Roles>member"`
	}
	type one struct {
		Profile profile `xml:"InstanceProfile"`
	}
	return []query.Action{{
		Name: "GetInstanceProfile", Params: []string{"InstanceProfileName"},
		Needs: need(func(call *query.Call) string {
			return fmt.Sprintf("arn:aws:iam::%s:instance-profile/%s", call.Cloud.Account(), call.Params.String("InstanceProfileName"))
		}),
		Run: func(call *query.Call) (any, error) {
			name := call.Params.String("InstanceProfileName")
			var out one
			err := cloud.NoSuchEntity("Instance Profile %s cannot be found.", name)
			call.Cloud.Read(func(m *cloud.Model) {
				p := m.InstanceProfile[name]
				if p == nil {
					return
				}
				out.Profile, err = profile{"/", p.Name, p.ID, p.ARN, when(p.Created), nil}, nil
				if r := m.Roles[p.Role]; r != nil {
					out.Profile.Roles = append(out.Profile.Roles, newRoleXML(r))
				}
			})
			return out, err
		},
	}}
}
