package ec2

import (
	"fmt"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/iampolicy"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func arn(call *query.Call, kind, id string) string {
	return fmt.Sprintf("arn:aws:ec2:%s:%s:%s/%s", call.Cloud.Region(), call.Cloud.Account(), kind, id)
}

// resource is the permission that a call needs on one resource, with the resource's tags for conditions.
func resource(call *query.Call, kind, id string) iampolicy.Request {
	r := iampolicy.Request{Action: "ec2:" + call.Action, Resource: arn(call, kind, id), Context: map[string][]string{}}
	call.Cloud.Read(func(m *cloud.Model) {
		tags, _ := m.TagsOf(id)
		for k, v := range tags {
			r.Context["aws:ResourceTag/"+k] = []string{v}
			r.Context["ec2:ResourceTag/"+k] = []string{v}
		}
		vpc := ""
		switch {
		case m.ENIs[id] != nil:
			vpc = m.ENIs[id].VPCID
			r.Context["ec2:Subnet"] = []string{arn(call, "subnet", m.ENIs[id].SubnetID)}
		case m.Subnets[id] != nil:
			vpc = m.Subnets[id].VPCID
		case m.Groups[id] != nil:
			vpc = m.Groups[id].VPCID
		}
		if vpc != "" {
			r.Context["ec2:Vpc"] = []string{arn(call, "vpc", vpc)}
		}
	})
	return r
}

// on makes Needs of an action that works on the resource which a parameter names, and on more of them.
func on(kindsByParam ...[2]string) func(*query.Call) []iampolicy.Request {
	return func(call *query.Call) []iampolicy.Request {
		var out []iampolicy.Request
		for _, k := range kindsByParam {
			ids := call.Params.List(k[1])
			if id := call.Params.String(k[1]); id != "" {
				ids = append(ids, id)
			}
			for _, id := range ids {
				out = append(out, resource(call, k[0], id))
			}
		}
		if len(out) == 0 {
			// Nothing named: whoever may not do it on anything learns so before the parameters are looked at.
			out = append(out, iampolicy.Request{Action: "ec2:" + call.Action, Resource: "*"})
		}
		return out
	}
}
