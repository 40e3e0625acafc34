package ec2

import "strings"

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
