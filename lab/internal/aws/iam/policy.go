package iam

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

type policyXML struct {
	Name        string `xml:"PolicyName"`
	ID          string `xml:"PolicyId"`
	ARN         string `xml:"Arn"`
	Path        string `xml:"Path"`
	Version     string `xml:"DefaultVersionId"`
	Attachments int    `xml:"AttachmentCount"`
	Attachable  bool   `xml:"IsAttachable"`
	Description string `xml:"Description,omitempty"`
	Created     string `xml:"CreateDate"`
	Updated     string `xml:"UpdateDate"`
}

func newPolicyXML(m *cloud.Model, p *cloud.Policy) policyXML {
	n := 0
	for _, r := range m.Roles {
		if slices.Contains(r.Attached, p.ARN) {
			n++
		}
	}
	return policyXML{p.Name, p.ID, p.ARN, p.Path, "v1", n, true, p.Description, when(p.Created), when(p.Created)}
}

func policyARN(call *query.Call) string { return call.Params.String("PolicyArn") }

func policy(m *cloud.Model, arn string) (*cloud.Policy, error) {
	if p := m.Policies[arn]; p != nil {
		return p, nil
	}
	return nil, cloud.NoSuchEntity("Policy %s was not found.", arn)
}

func policyActions() []query.Action {
	type one struct {
		Policy policyXML `xml:"Policy"`
	}
	type many struct {
		Policies  []policyXML `xml:"Policies>member"`
		Truncated bool        `xml:"IsTruncated"`
	}
	type version struct {
		Version struct {
			Document string `xml:"Document"`
			ID       string `xml:"VersionId"`
			Default  bool   `xml:"IsDefaultVersion"`
			Created  string `xml:"CreateDate"`
		} `xml:"PolicyVersion"`
	}
	return []query.Action{
		{
			Name: "CreatePolicy", Params: []string{"PolicyName", "PolicyDocument", "Path", "Description", "Tags"},
			Needs: need(func(call *query.Call) string {
				return fmt.Sprintf("arn:aws:iam::%s:policy/%s", call.Cloud.Account(), call.Params.String("PolicyName"))
			}),
			Run: func(call *query.Call) (any, error) {
				p := call.Params
				in := cloud.Policy{Name: p.Required("PolicyName"), Document: p.Required("PolicyDocument"), Path: p.String("Path"), Description: p.String("Description"), Tags: readTags(p)}
				if err := p.Err(); err != nil {
					return nil, err
				}
				if err := checkName("policyName", in.Name); err != nil {
					return nil, err
				}
				if err := checked(in.Document, false); err != nil {
					return nil, err
				}
				made, err := call.Cloud.CreatePolicy(call.Context, in)
				if err != nil {
					return nil, err
				}
				var out one
				call.Cloud.Read(func(m *cloud.Model) { out.Policy = newPolicyXML(m, &made) })
				return out, nil
			},
		},
		{
			Name: "GetPolicy", Params: []string{"PolicyArn"}, Needs: need(policyARN),
			Run: func(call *query.Call) (any, error) {
				var out one
				var err error
				call.Cloud.Read(func(m *cloud.Model) {
					var p *cloud.Policy
					if p, err = policy(m, policyARN(call)); err == nil {
						out.Policy = newPolicyXML(m, p)
					}
				})
				return out, err
			},
		},
		{
			Name: "GetPolicyVersion", Params: []string{"PolicyArn", "VersionId"}, Needs: need(policyARN),
			Run: func(call *query.Call) (any, error) {
				var out version
				var err error
				call.Cloud.Read(func(m *cloud.Model) {
					var p *cloud.Policy
					if p, err = policy(m, policyARN(call)); err != nil {
						return
					}
					if v := call.Params.String("VersionId"); v != "v1" {
						err = cloud.NoSuchEntity("Policy %s version %s does not exist or is not attachable.", p.ARN, v)
						return
					}
					out.Version.Document, out.Version.ID, out.Version.Default, out.Version.Created = document(p.Document), "v1", true, when(p.Created)
				})
				return out, err
			},
		},
		{
			Name: "ListPolicies", Params: []string{"Scope", "OnlyAttached", "PathPrefix", "PolicyUsageFilter", "Marker", "MaxItems"},
			Run: func(call *query.Call) (any, error) {
				scope := call.Params.String("Scope")
				var out many
				call.Cloud.Read(func(m *cloud.Model) {
					for _, p := range cloud.Sorted(m.Policies) {
						aws := strings.HasPrefix(p.ARN, "arn:aws:iam::aws:")
						if scope == "Local" && aws || scope == "AWS" && !aws {
							continue
						}
						out.Policies = append(out.Policies, newPolicyXML(m, p))
					}
				})
				return out, nil
			},
		},
		{
			Name: "DeletePolicy", Params: []string{"PolicyArn"}, Needs: need(policyARN),
			Run: func(call *query.Call) (any, error) {
				return nil, call.Cloud.ChangeIAM(call.Context, func(m *cloud.Model) error {
					p, err := policy(m, policyARN(call))
					if err != nil {
						return err
					}
					if newPolicyXML(m, p).Attachments > 0 {
						return apierror.WithStatus(409, "DeleteConflict", "Cannot delete a policy attached to entities.")
					}
					delete(m.Policies, p.ARN)
					return nil
				})
			},
		},
	}
}
