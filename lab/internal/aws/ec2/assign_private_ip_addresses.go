package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func assignPrivateIPAddresses() query.Action {
	type address struct {
		IP string `xml:"privateIpAddress"`
	}
	type answer struct {
		ENI       string      `xml:"networkInterfaceId"`
		Addresses []address   `xml:"assignedPrivateIpAddressesSet>item"`
		Prefixes  []prefixXML `xml:"assignedIpv4PrefixSet>item"`
		Return    bool        `xml:"return"`
	}
	return query.Action{
		Name:     "AssignPrivateIpAddresses",
		Params:   []string{"NetworkInterfaceId", "PrivateIpAddress", "SecondaryPrivateIpAddressCount", "Ipv4Prefix", "Ipv4PrefixCount", "AllowReassignment"},
		NoDryRun: true,
		Needs:    on([2]string{"network-interface", "NetworkInterfaceId"}),
		Run: func(call *query.Call) (any, error) {
			p := call.Params
			in := cloud.AssignInput{
				ENI: p.Required("NetworkInterfaceId"), Addresses: p.Addrs("PrivateIpAddress"), Count: p.Count("SecondaryPrivateIpAddressCount"),
				Prefixes: p.Prefixes("Ipv4Prefix"), PrefixCount: p.Count("Ipv4PrefixCount"), Reassignment: p.Bool("AllowReassignment"),
			}
			if err := p.Err(); err != nil {
				return nil, err
			}
			if err := eniKind().check(in.ENI); err != nil {
				return nil, err
			}
			got, err := call.Cloud.Assign(call.Context, in)
			if err != nil {
				return nil, err
			}
			out := answer{ENI: got.ENI, Return: true}
			for _, a := range got.Addresses {
				out.Addresses = append(out.Addresses, address{a.String()})
			}
			for _, x := range got.Prefixes {
				out.Prefixes = append(out.Prefixes, prefixXML{x.String()})
			}
			return out, nil
		},
	}
}
