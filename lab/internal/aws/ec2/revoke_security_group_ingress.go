package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func revokeSecurityGroupIngress() query.Action {
	return query.Action{
		Name: "RevokeSecurityGroupIngress",
		Params: []string{"GroupId", "GroupName", "IpPermissions", "IpProtocol", "FromPort", "ToPort", "CidrIp", "SecurityGroupRuleId",
			"SourceSecurityGroupName", "SourceSecurityGroupOwnerId"},
		Needs: on([2]string{"security-group", "GroupId"}),
		Run: func(call *query.Call) (any, error) {
			group, err := groupID(call)
			if err != nil {
				return nil, err
			}
			var rules []cloud.Rule
			for _, id := range call.Params.List("SecurityGroupRuleId") {
				rules = append(rules, cloud.Rule{ID: id})
			}
			if len(rules) == 0 {
				if rules, err = readRules(call.Params); err != nil {
					return nil, err
				}
			}
			return done{true}, call.Cloud.RevokeRules(call.Context, group, cloud.Ingress, rules)
		},
	}
}
