package ec2

import "github.com/weft-cni/weft/lab/internal/aws/query"

func deleteNetworkInterface() query.Action {
	return query.Action{
		Name:   "DeleteNetworkInterface",
		Params: []string{"NetworkInterfaceId"},
		Needs:  on([2]string{"network-interface", "NetworkInterfaceId"}),
		Run: func(call *query.Call) (any, error) {
			id := call.Params.Required("NetworkInterfaceId")
			if err := call.Params.Err(); err != nil {
				return nil, err
			}
			if err := eniKind().check(id); err != nil {
				return nil, err
			}
			return done{true}, call.Cloud.DeleteENI(call.Context, id)
		},
	}
}
