package ec2

import "github.com/weft-cni/weft/lab/internal/aws/query"

func unassignPrivateIPAddresses() query.Action {
	return query.Action{
		Name:     "UnassignPrivateIpAddresses",
		Params:   []string{"NetworkInterfaceId", "PrivateIpAddress", "Ipv4Prefix"},
		NoDryRun: true,
		Needs:    on([2]string{"network-interface", "NetworkInterfaceId"}),
		Run: func(call *query.Call) (any, error) {
			p := call.Params
			id, addresses, prefixes := p.Required("NetworkInterfaceId"), p.Addrs("PrivateIpAddress"), p.Prefixes("Ipv4Prefix")
			if err := p.Err(); err != nil {
				return nil, err
			}
			if err := eniKind().check(id); err != nil {
				return nil, err
			}
			return done{true}, call.Cloud.Unassign(call.Context, id, addresses, prefixes)
		},
	}
}
