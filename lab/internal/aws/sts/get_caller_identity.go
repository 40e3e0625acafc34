package sts

import "github.com/weft-cni/weft/lab/internal/aws/query"

func getCallerIdentity() query.Action {
	type answer struct {
		ARN     string `xml:"Arn"`
		UserID  string `xml:"UserId"`
		Account string `xml:"Account"`
	}
	return query.Action{
		Name: "GetCallerIdentity",
		Free: true,
		Run: func(call *query.Call) (any, error) {
			return answer{call.Principal.ARN, call.Principal.UserID, call.Principal.Account}, nil
		},
	}
}
