package iam

import (
	"maps"
	"slices"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

// changeRole makes the Run of an action that alters one role.
func changeRole(f func(call *query.Call, m *cloud.Model, r *cloud.Role) error) func(*query.Call) (any, error) {
	return func(call *query.Call) (any, error) {
		return nil, call.Cloud.ChangeIAM(call.Context, func(m *cloud.Model) error {
			r, err := role(m, call.Params.String("RoleName"))
			if err != nil {
				return err
			}
			return f(call, m, r)
		})
	}
}

// attachmentActions tie policies to roles.
func attachmentActions() []query.Action {
	type attached struct {
		Name string `xml:"PolicyName"`
		ARN  string `xml:"PolicyArn"`
	}
	type attachedList struct {
		Policies  []attached `xml:"AttachedPolicies>member"`
		Truncated bool       `xml:"IsTruncated"`
	}
	type inlineList struct {
		Names     []string `xml:"PolicyNames>member"`
		Truncated bool     `xml:"IsTruncated"`
	}
	type inline struct {
		Role     string `xml:"RoleName"`
		Name     string `xml:"PolicyName"`
		Document string `xml:"PolicyDocument"`
	}
	return []query.Action{
		{
			Name: "AttachRolePolicy", Params: []string{"RoleName", "PolicyArn"}, Needs: need(roleARN),
			Run: changeRole(func(call *query.Call, m *cloud.Model, r *cloud.Role) error {
				p, err := policy(m, policyARN(call))
				if err != nil {
					return err
				}
				if !slices.Contains(r.Attached, p.ARN) {
					r.Attached = append(r.Attached, p.ARN)
				}
				return nil
			}),
		},
		{
			Name: "DetachRolePolicy", Params: []string{"RoleName", "PolicyArn"}, Needs: need(roleARN),
			Run: changeRole(func(call *query.Call, _ *cloud.Model, r *cloud.Role) error {
				i := slices.Index(r.Attached, policyARN(call))
				if i < 0 {
					return cloud.NoSuchEntity("Policy %s was not found.", policyARN(call))
				}
				r.Attached = slices.Delete(r.Attached, i, i+1)
				return nil
			}),
		},
		{
			Name: "ListAttachedRolePolicies", Params: []string{"RoleName", "PathPrefix", "Marker", "MaxItems"}, Needs: need(roleARN),
			Run: func(call *query.Call) (any, error) {
				var out attachedList
				var err error
				call.Cloud.Read(func(m *cloud.Model) {
					var r *cloud.Role
					if r, err = role(m, call.Params.String("RoleName")); err != nil {
						return
					}
					for _, arn := range r.Attached {
						if p := m.Policies[arn]; p != nil {
							out.Policies = append(out.Policies, attached{p.Name, p.ARN})
						}
					}
				})
				return out, err
			},
		},
		{
			Name: "PutRolePolicy", Params: []string{"RoleName", "PolicyName", "PolicyDocument"}, Needs: need(roleARN),
			Run: func(call *query.Call) (any, error) {
				name, text := call.Params.Required("PolicyName"), call.Params.Required("PolicyDocument")
				if err := call.Params.Err(); err != nil {
					return nil, err
				}
				if err := checkName("policyName", name); err != nil {
					return nil, err
				}
				if err := checked(text, false); err != nil {
					return nil, err
				}
				return changeRole(func(_ *query.Call, _ *cloud.Model, r *cloud.Role) error {
					if r.Inline == nil {
						r.Inline = map[string]string{}
					}
					r.Inline[name] = text
					return nil
				})(call)
			},
		},
		{
			Name: "DeleteRolePolicy", Params: []string{"RoleName", "PolicyName"}, Needs: need(roleARN),
			Run: changeRole(func(call *query.Call, _ *cloud.Model, r *cloud.Role) error {
				name := call.Params.String("PolicyName")
				if _, ok := r.Inline[name]; !ok {
					return cloud.NoSuchEntity("The role policy with name %s cannot be found.", name)
				}
				delete(r.Inline, name)
				return nil
			}),
		},
		{
			Name: "GetRolePolicy", Params: []string{"RoleName", "PolicyName"}, Needs: need(roleARN),
			Run: func(call *query.Call) (any, error) {
				var out inline
				var err error
				call.Cloud.Read(func(m *cloud.Model) {
					var r *cloud.Role
					if r, err = role(m, call.Params.String("RoleName")); err != nil {
						return
					}
					name := call.Params.String("PolicyName")
					text, ok := r.Inline[name]
					if !ok {
						err = cloud.NoSuchEntity("The role policy with name %s cannot be found.", name)
						return
					}
					out = inline{r.Name, name, document(text)}
				})
				return out, err
			},
		},
		{
			Name: "ListRolePolicies", Params: []string{"RoleName", "Marker", "MaxItems"}, Needs: need(roleARN),
			Run: func(call *query.Call) (any, error) {
				var out inlineList
				var err error
				call.Cloud.Read(func(m *cloud.Model) {
					var r *cloud.Role
					if r, err = role(m, call.Params.String("RoleName")); err == nil {
						out.Names = slices.Sorted(maps.Keys(r.Inline))
					}
				})
				return out, err
			},
		},
	}
}
