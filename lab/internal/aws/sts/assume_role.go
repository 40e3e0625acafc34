package sts

import (
	"fmt"

	"github.com/weft-cni/weft/lab/internal/aws/iampolicy"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func assumeRole() query.Action {
	type answer struct {
		Credentials credentialsXML `xml:"Credentials"`
		User        assumedXML     `xml:"AssumedRoleUser"`
	}
	return query.Action{
		Name:   "AssumeRole",
		Params: []string{"RoleArn", "RoleSessionName", "DurationSeconds", "Policy", "ExternalId"},
		// The trust policy can make the identity policy unnecessary: Run decides by both.
		Free: true,
		Run: func(call *query.Call) (any, error) {
			in, err := readAsked(call)
			if err != nil {
				return nil, err
			}
			who := call.Principal
			refused := denied("User: %s is not authorized to perform: sts:AssumeRole on resource: %s", who.ARN, call.Params.String("RoleArn"))
			if !in.known {
				return nil, refused
			}
			trust, err := iampolicy.Parse(in.role.Trust, true)
			if err != nil {
				return nil, refused
			}
			ctx := map[string][]string{"aws:PrincipalArn": {who.ARN}, "aws:PrincipalAccount": {who.Account}, "sts:RoleSessionName": {in.session}}
			if id := call.Params.String("ExternalId"); id != "" {
				ctx["sts:ExternalId"] = []string{id}
			}
			named := iampolicy.Caller{Kind: "AWS", Names: []string{who.ARN}}
			if who.Role != "" {
				named.Names = append(named.Names, who.Role)
			}
			account := iampolicy.Caller{Kind: "AWS", Names: append(named.Names, who.Account, fmt.Sprintf("arn:aws:iam::%s:root", who.Account))}
			own := query.Decide(who, iampolicy.Request{Action: "sts:AssumeRole", Resource: in.role.ARN, Context: ctx})
			wide := iampolicy.EvaluateTrust(trust, account, "sts:AssumeRole", ctx)
			narrow := iampolicy.EvaluateTrust(trust, named, "sts:AssumeRole", ctx)
			// Whoever the role names itself needs no right of their own; whoever it trusts with the account does.
			if own == iampolicy.ExplicitDeny || wide != iampolicy.Allow || narrow != iampolicy.Allow && own != iampolicy.Allow {
				return nil, refused
			}
			cred, session, err := call.Cloud.Session(call.Context, in.role.Name, in.session, in.life, in.policy)
			return answer{newCredentials(cred), assumedXML{session.UserID, session.ARN}}, err
		},
	}
}
