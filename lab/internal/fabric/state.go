// Package fabric is the lab's VPC on the wire: namespaces, veth pairs, routes and nftables rules that
// treat a packet as AWS does. It is told the whole desired state and makes the kernel match; it knows
// nothing of APIs.
package fabric

import "net/netip"

// State is everything that the fabric shall be. Apply makes the kernel match it, as often as asked.
type State struct {
	// Lab prefixes every namespace: <Lab>-vpc, <Lab>-inet.
	Lab string
	// VPC is the VPC's CIDR block. Its address +2 is the resolver.
	VPC netip.Prefix
	// NATGateway is the public address of what private subnets send to the internet.
	NATGateway netip.Addr
	Subnets    []Subnet
	// Namespaces are those of instances and of whatever else has ENIs; the fabric makes and removes them.
	Namespaces []string
	ENIs       []ENI
	// Groups are security groups by id.
	Groups map[string]Group
}

// Subnet is one subnet of the VPC. Its router is CIDR's address +1.
type Subnet struct {
	ID   string
	CIDR netip.Prefix
	// Public: the default route is the internet gateway, which translates 1:1 the addresses that have a
	// public one and drops the rest. Otherwise it is the NAT gateway.
	Public bool
	// Isolated: there is no default route, and what leaves the VPC is dropped.
	Isolated bool
}

// ENI is an elastic network interface. One with an empty Namespace is not attached.
type ENI struct {
	ID        string
	MAC       string
	SubnetID  string
	Namespace string
	// Device is the interface's name inside the namespace: eth0, ens6.
	Device string
	// Addresses, the primary first; Prefixes are /28 blocks.
	Addresses []netip.Addr
	Prefixes  []netip.Prefix
	// Public maps a private address to its public one.
	Public map[netip.Addr]netip.Addr
	// Configure: the fabric brings the device up with its primary address and a default route, as the
	// operating system does for an instance's first interface. Otherwise it is left down and bare.
	Configure bool
	// SourceDestCheck drops what comes from, or goes to, an address that the ENI doesn't have.
	SourceDestCheck bool
	Groups          []string
}

// Group is a security group: what is allowed in and out. Replies to what was allowed are.
type Group struct {
	Ingress []Rule
	Egress  []Rule
}

// Rule allows traffic with a CIDR or with the members of a group.
type Rule struct {
	// Protocol is "-1" for all, "tcp", "udp", "icmp" or a number.
	Protocol string
	// FromPort and ToPort bound the destination port (TCP, UDP) or are ICMP type and code, -1 for all.
	FromPort, ToPort int
	CIDR             netip.Prefix // invalid if Group is set
	Group            string
}
