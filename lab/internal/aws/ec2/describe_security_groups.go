package ec2

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func describeSecurityGroups() query.Action {
	type group struct {
		OwnerID     string          `xml:"ownerId"`
		ID          string          `xml:"groupId"`
		Name        string          `xml:"groupName"`
		Description string          `xml:"groupDescription"`
		VPCID       string          `xml:"vpcId"`
		ARN         string          `xml:"securityGroupArn"`
		Ingress     []permissionXML `xml:"ipPermissions>item"`
		Egress      []permissionXML `xml:"ipPermissionsEgress>item"`
		Tags        []tagXML        `xml:"tagSet>item"`
	}
	type answer struct {
		Set       []group `xml:"securityGroupInfo>item"`
		NextToken string  `xml:"nextToken,omitempty"`
	}
	return query.Action{
		Name:   "DescribeSecurityGroups",
		Params: []string{"Filter", "GroupId", "GroupName", "MaxResults", "NextToken"},
		Run: func(call *query.Call) (any, error) {
			var out answer
			var err error
			call.Cloud.Read(func(m *cloud.Model) {
				all := cloud.Sorted(m.Groups)
				if names := call.Params.List("GroupName"); len(names) > 0 {
					for _, n := range names {
						if !slices.ContainsFunc(all, func(g *cloud.SecurityGroup) bool { return g.Name == n }) {
							err = apierror.New("InvalidGroup.NotFound", "The security group '%s' does not exist", n)
							return
						}
					}
					all = slices.DeleteFunc(all, func(g *cloud.SecurityGroup) bool { return !slices.Contains(names, g.Name) })
				}
				var list []*cloud.SecurityGroup
				list, out.NextToken, err = groupListing(m).selected(call.Params, all)
				for _, g := range list {
					out.Set = append(out.Set, group{
						OwnerID: m.Account, ID: g.ID, Name: g.Name, Description: g.Description, VPCID: g.VPCID,
						ARN:     fmt.Sprintf("arn:aws:ec2:%s:%s:security-group/%s", m.Region, m.Account, g.ID),
						Ingress: permissionsXML(m.Account, g.Ingress), Egress: permissionsXML(m.Account, g.Egress), Tags: tagsXML(g.Tags),
					})
				}
			})
			return out, err
		},
	}
}

func groupListing(m *cloud.Model) listing[*cloud.SecurityGroup] {
	rules := func(egress bool, get func(cloud.Rule) string) func(*cloud.SecurityGroup) []string {
		return func(g *cloud.SecurityGroup) []string {
			var out []string
			list := g.Ingress
			if egress {
				list = g.Egress
			}
			for _, r := range list {
				out = append(out, one(get(r))...)
			}
			return out
		}
	}
	fields := map[string]func(*cloud.SecurityGroup) []string{
		"description": func(g *cloud.SecurityGroup) []string { return one(g.Description) },
		"group-id":    func(g *cloud.SecurityGroup) []string { return one(g.ID) },
		"group-name":  func(g *cloud.SecurityGroup) []string { return one(g.Name) },
		"owner-id":    func(*cloud.SecurityGroup) []string { return one(m.Account) },
		"vpc-id":      func(g *cloud.SecurityGroup) []string { return one(g.VPCID) },
	}
	for prefix, egress := range map[string]bool{"ip-permission.": false, "egress.ip-permission.": true} {
		fields[prefix+"cidr"] = rules(egress, func(r cloud.Rule) string {
			if r.Group != "" {
				return ""
			}
			return r.CIDR.String()
		})
		fields[prefix+"group-id"] = rules(egress, func(r cloud.Rule) string { return r.Group })
		fields[prefix+"protocol"] = rules(egress, func(r cloud.Rule) string { return r.Protocol })
		fields[prefix+"from-port"] = rules(egress, func(r cloud.Rule) string { return strconv.Itoa(r.FromPort) })
		fields[prefix+"to-port"] = rules(egress, func(r cloud.Rule) string { return strconv.Itoa(r.ToPort) })
	}
	return listing[*cloud.SecurityGroup]{
		kind: groupKind(), idParam: "GroupId", plural: "GroupIds", low: 5, high: 1000,
		id: func(g *cloud.SecurityGroup) string { return g.ID }, tags: func(g *cloud.SecurityGroup) map[string]string { return g.Tags }, fields: fields,
	}
}
