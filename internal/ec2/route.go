package ec2

import (
	"net/netip"
	"slices"
	"strings"
)

// DefaultRoute is what the default route of a subnet leads to.
type DefaultRoute string

// The kinds of default route.
const (
	InternetGateway DefaultRoute = "InternetGateway"
	NATGateway      DefaultRoute = "NATGateway"
	TransitGateway  DefaultRoute = "TransitGateway"
	NoDefault       DefaultRoute = "None"
	Unknown         DefaultRoute = "Unknown"
)

// RouteOf says where the default route of a subnet leads. A subnet without an association has the VPC's
// main table.
func RouteOf(subnetID string, tables []RouteTable) DefaultRoute {
	var main, own *RouteTable
	for i := range tables {
		t := &tables[i]
		if t.Main {
			main = t
		}
		for _, s := range t.Subnets {
			if s == subnetID {
				own = t
			}
		}
	}
	if own == nil {
		own = main
	}
	if own == nil {
		return Unknown
	}
	for _, r := range own.Routes {
		if r.Destination != "0.0.0.0/0" {
			continue
		}
		switch {
		case !r.Active:
			return NoDefault
		case strings.HasPrefix(r.Target, "igw-"):
			return InternetGateway
		case strings.HasPrefix(r.Target, "nat-"):
			return NATGateway
		case strings.HasPrefix(r.Target, "tgw-"):
			return TransitGateway
		case strings.HasPrefix(r.Target, "eni-"), strings.HasPrefix(r.Target, "i-"):
			// A NAT instance or an appliance: it gives a source address to whatever it is sent.
			return NATGateway
		default:
			return Unknown
		}
	}
	return NoDefault
}

// Peers are the IPv4 blocks that route tables in use lead to by a VPC peering or a transit gateway, without
// default routes. What is there knows the pods' own addresses, as far as its routes lead back.
func Peers(tables []RouteTable) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range tables {
		if !t.Main && len(t.Subnets) == 0 {
			continue
		}
		for _, r := range t.Routes {
			p, err := netip.ParsePrefix(r.Destination)
			if err != nil || !p.Addr().Is4() || p.Bits() == 0 || !r.Active {
				continue
			}
			if strings.HasPrefix(r.Target, "pcx-") || strings.HasPrefix(r.Target, "tgw-") {
				out = append(out, p.Masked())
			}
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}
