package iam

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

type roleXML struct {
	Path        string   `xml:"Path"`
	Name        string   `xml:"RoleName"`
	ID          string   `xml:"RoleId"`
	ARN         string   `xml:"Arn"`
	Created     string   `xml:"CreateDate"`
	Trust       string   `xml:"AssumeRolePolicyDocument"`
	Description string   `xml:"Description,omitempty"`
	MaxSession  int      `xml:"MaxSessionDuration"`
	Tags        []tagXML `xml:"Tags>member"`
}

func newRoleXML(r *cloud.Role) roleXML {
	x := roleXML{r.Path, r.Name, r.ID, r.ARN, when(r.Created), document(r.Trust), r.Description, r.MaxSession, nil}
	for _, k := range slices.Sorted(maps.Keys(r.Tags)) {
		x.Tags = append(x.Tags, tagXML{k, r.Tags[k]})
	}
	return x
}

var entityName = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)

func checkName(field, name string) error {
	if !entityName.MatchString(name) {
		return apierror.New("ValidationError", "The specified value for %s is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-", field)
	}
	return nil
}

func roleActions() []query.Action {
	type one struct {
		Role roleXML `xml:"Role"`
	}
	type many struct {
		Roles     []roleXML `xml:"Roles>member"`
		Truncated bool      `xml:"IsTruncated"`
	}
	return []query.Action{
		{
			Name: "CreateRole", Params: []string{"RoleName", "AssumeRolePolicyDocument", "Path", "Description", "MaxSessionDuration", "Tags"}, Needs: need(roleARN),
			Run: func(call *query.Call) (any, error) {
				p := call.Params
				r := cloud.Role{Name: p.Required("RoleName"), Trust: p.Required("AssumeRolePolicyDocument"), Path: p.String("Path"), Description: p.String("Description"),
					MaxSession: p.Int("MaxSessionDuration", 3600), Tags: readTags(p)}
				if err := p.Err(); err != nil {
					return nil, err
				}
				if err := checkName("roleName", r.Name); err != nil {
					return nil, err
				}
				if r.MaxSession < 3600 || r.MaxSession > 43200 {
					return nil, apierror.New("ValidationError", "MaxSessionDuration must be between 3600 and 43200 seconds")
				}
				if err := checked(r.Trust, true); err != nil {
					return nil, err
				}
				made, err := call.Cloud.CreateRole(call.Context, r)
				return one{newRoleXML(&made)}, err
			},
		},
		{
			Name: "GetRole", Params: []string{"RoleName"}, Needs: need(roleARN),
			Run: func(call *query.Call) (any, error) {
				var out one
				var err error
				call.Cloud.Read(func(m *cloud.Model) {
					var r *cloud.Role
					if r, err = role(m, call.Params.String("RoleName")); err == nil {
						out.Role = newRoleXML(r)
					}
				})
				return out, err
			},
		},
		{
			Name: "ListRoles", Params: []string{"PathPrefix", "Marker", "MaxItems"}, Needs: need(func(call *query.Call) string { return fmt.Sprintf("arn:aws:iam::%s:role/", call.Cloud.Account()) }),
			Run: func(call *query.Call) (any, error) {
				var out many
				call.Cloud.Read(func(m *cloud.Model) {
					for _, r := range cloud.Sorted(m.Roles) {
						if strings.HasPrefix(r.Path, call.Params.String("PathPrefix")) {
							out.Roles = append(out.Roles, newRoleXML(r))
						}
					}
				})
				return out, nil
			},
		},
		{
			Name: "UpdateAssumeRolePolicy", Params: []string{"RoleName", "PolicyDocument"}, Needs: need(roleARN),
			Run: func(call *query.Call) (any, error) {
				text := call.Params.Required("PolicyDocument")
				if err := call.Params.Err(); err != nil {
					return nil, err
				}
				if err := checked(text, true); err != nil {
					return nil, err
				}
				return nil, call.Cloud.ChangeIAM(call.Context, func(m *cloud.Model) error {
					r, err := role(m, call.Params.String("RoleName"))
					if err != nil {
						return err
					}
					r.Trust = text
					return nil
				})
			},
		},
		{
			Name: "DeleteRole", Params: []string{"RoleName"}, Needs: need(roleARN),
			Run: func(call *query.Call) (any, error) {
				return nil, call.Cloud.ChangeIAM(call.Context, func(m *cloud.Model) error {
					r, err := role(m, call.Params.String("RoleName"))
					if err != nil {
						return err
					}
					if len(r.Inline) > 0 {
						return apierror.WithStatus(409, "DeleteConflict", "Cannot delete entity, must delete policies first.")
					}
					if len(r.Attached) > 0 {
						return apierror.WithStatus(409, "DeleteConflict", "Cannot delete entity, must detach all policies first.")
					}
					for _, p := range m.InstanceProfile {
						if p.Role == r.Name {
							return apierror.WithStatus(409, "DeleteConflict", "Cannot delete entity, must remove roles from instance profile first.")
						}
					}
					delete(m.Roles, r.Name)
					return nil
				})
			},
		},
	}
}
