package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

type referencedXML struct {
	GroupID string `xml:"groupId"`
	UserID  string `xml:"userId"`
}

type ruleXML struct {
	ID          string         `xml:"securityGroupRuleId"`
	GroupID     string         `xml:"groupId"`
	Owner       string         `xml:"groupOwnerId"`
	Egress      bool           `xml:"isEgress"`
	Protocol    string         `xml:"ipProtocol"`
	From        int            `xml:"fromPort"`
	To          int            `xml:"toPort"`
	CIDR        string         `xml:"cidrIpv4,omitempty"`
	Referenced  *referencedXML `xml:"referencedGroupInfo,omitempty"`
	Description string         `xml:"description,omitempty"`
}

func authorizeSecurityGroupIngress() query.Action {
	type answer struct {
		Return bool      `xml:"return"`
		Rules  []ruleXML `xml:"securityGroupRuleSet>item"`
	}
	return query.Action{
		Name: "AuthorizeSecurityGroupIngress",
		Params: []string{"GroupId", "GroupName", "IpPermissions", "IpProtocol", "FromPort", "ToPort", "CidrIp", "SourceSecurityGroupName",
			"SourceSecurityGroupOwnerId", "TagSpecification"},
		Needs: on([2]string{"security-group", "GroupId"}),
		Run: func(call *query.Call) (any, error) {
			group, err := groupID(call)
			if err != nil {
				return nil, err
			}
			rules, err := readRules(call.Params)
			if err != nil {
				return nil, err
			}
			made, err := call.Cloud.AuthorizeRules(call.Context, group, cloud.Ingress, rules)
			out := answer{Return: true}
			for _, r := range made {
				x := ruleXML{ID: r.ID, GroupID: group, Owner: call.Cloud.Account(), Protocol: r.Protocol, From: r.FromPort, To: r.ToPort, Description: r.Description}
				if r.Group != "" {
					x.Referenced = &referencedXML{GroupID: r.Group, UserID: call.Cloud.Account()}
				} else {
					x.CIDR = r.CIDR.String()
				}
				out.Rules = append(out.Rules, x)
			}
			return out, err
		},
	}
}
