// Package vpc evaluates what a VPC does with a packet: security groups, network ACLs, routes and the
// source check, as far as EC2 describes them. It is pure.
package vpc

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Network is what EC2 describes of the two ends of a flow.
type Network struct {
	CIDRs      []netip.Prefix
	Interfaces []Interface
	Groups     []Group
	Routes     []RouteTable // one for each subnet of Interfaces
	ACLs       []ACL        // likewise
	// Unknown names what couldn't be described, with the reason.
	Unknown []string
}

// Interface is an ENI.
type Interface struct {
	ID, Subnet  string
	Addresses   []netip.Addr
	Groups      []string
	SourceCheck bool
	Attached    bool
}

// Group is a security group.
type Group struct {
	ID, Name        string
	Ingress, Egress []Rule
}

// Rule allows. Protocol is a name, "-1" every one; From and To are ports, or ICMP's type and code; -1: any.
type Rule struct {
	Protocol string
	From, To int
	Prefixes []netip.Prefix
	Groups   []string
	// Lists are managed prefix lists, whose content isn't looked at.
	Lists []string
}

// RouteTable is a subnet's.
type RouteTable struct {
	ID, Subnet string
	Routes     []Route
	// Lists are managed prefix lists that have routes; their content isn't looked at.
	Lists []string
}

// Route of a table; a blackhole's target is gone.
type Route struct {
	Prefix    netip.Prefix
	Target    string
	Blackhole bool
}

// ACL is a subnet's, its entries in the order of their numbers.
type ACL struct {
	ID, Subnet      string
	Ingress, Egress []Entry
}

// Entry of an ACL.
type Entry struct {
	Number   int
	Allow    bool
	Protocol string
	From, To int
	Prefix   netip.Prefix
}

// Packet is the first of a flow.
type Packet struct {
	From, To netip.Addr
	Protocol string
	Port     uint16
}

// Verdict of one check.
type Verdict struct {
	// Blocked: the VPC drops it. Unsure: it depends on what isn't described, Text says on what.
	Blocked, Unsure bool
	Kind            string // route, source-check, group, acl
	Object          string
	Text            string
}

// Owner is the ENI that has an address.
func (n *Network) Owner(a netip.Addr) (Interface, bool) {
	i := slices.IndexFunc(n.Interfaces, func(i Interface) bool { return slices.Contains(i.Addresses, a) })
	if i < 0 {
		return Interface{}, false
	}
	return n.Interfaces[i], true
}

func (r Rule) protocol(p Packet) bool {
	if r.Protocol == "-1" {
		return true
	}
	if r.Protocol != p.Protocol {
		return false
	}
	if p.Protocol == "icmp" || p.Protocol == "icmpv6" {
		return r.From == -1 || r.From == 8 || r.From == 128
	}
	return r.From == -1 || int(p.Port) >= r.From && int(p.Port) <= r.To
}

// allows tells whether a group's rules let a packet from or to the peer pass, and on which prefix lists it
// depends otherwise.
func allows(rules []Rule, p Packet, peer netip.Addr, groups []string) (ok bool, lists []string) {
	for _, r := range rules {
		if !r.protocol(p) {
			continue
		}
		if slices.ContainsFunc(r.Prefixes, func(x netip.Prefix) bool { return x.Contains(peer) }) ||
			slices.ContainsFunc(r.Groups, func(g string) bool { return slices.Contains(groups, g) }) {
			return true, nil
		}
		lists = append(lists, r.Lists...)
	}
	return false, lists
}

func (n *Network) groups(i Interface, p Packet, egress bool) (Verdict, bool) {
	peer, other, word := p.From, p.To, "inbound"
	if egress {
		peer, other, word = p.To, p.From, "outbound"
	}
	peerENI, _ := n.Owner(peer)
	var lists, names []string
	for _, id := range i.Groups {
		g := slices.IndexFunc(n.Groups, func(g Group) bool { return g.ID == id })
		if g < 0 {
			return Verdict{Unsure: true, Kind: "group", Object: id, Text: "security group " + id + " could not be read"}, true
		}
		rules := n.Groups[g].Ingress
		if egress {
			rules = n.Groups[g].Egress
		}
		ok, more := allows(rules, p, peer, peerENI.Groups)
		if ok {
			return Verdict{}, false
		}
		lists = append(lists, more...)
		names = append(names, strings.TrimSpace(id+" "+n.Groups[g].Name))
	}
	v := Verdict{
		Kind: "group", Object: "security group " + strings.Join(names, ", "),
		Text: fmt.Sprintf("no %s rule of %s's ENI %s allows %s with %s", word, other, i.ID, service(p), peer),
	}
	if len(lists) > 0 {
		v.Unsure = true
		v.Text += ", unless the prefix list " + strings.Join(lists, ", ") + " holds it"
	} else {
		v.Blocked = true
	}
	return v, true
}

func service(p Packet) string {
	if p.Port == 0 {
		return p.Protocol
	}
	return fmt.Sprintf("%s port %d", p.Protocol, p.Port)
}

func (n *Network) route(i Interface, to netip.Addr) (Verdict, bool) {
	t := slices.IndexFunc(n.Routes, func(t RouteTable) bool { return t.Subnet == i.Subnet })
	if t < 0 {
		return Verdict{}, false
	}
	var best *Route
	for k := range n.Routes[t].Routes {
		r := &n.Routes[t].Routes[k]
		if r.Prefix.Contains(to) && (best == nil || r.Prefix.Bits() > best.Prefix.Bits()) {
			best = r
		}
	}
	v := Verdict{Blocked: true, Kind: "route", Object: "route table " + n.Routes[t].ID}
	switch {
	case best == nil:
		v.Text = fmt.Sprintf("the route table of subnet %s has no route for %s", i.Subnet, to)
		if lists := n.Routes[t].Lists; len(lists) > 0 {
			v.Blocked, v.Unsure = false, true
			v.Text += ", unless the prefix list " + strings.Join(lists, ", ") + " holds it"
		}
	case best.Blackhole:
		v.Text = fmt.Sprintf("the route of subnet %s for %s (%s by %s) leads nowhere: its target is gone", i.Subnet, to, best.Prefix, best.Target)
	default:
		return Verdict{}, false
	}
	return v, true
}

// acl looks at one direction; port 0 stands for the ephemeral ports of an answer, of which the highest decides.
func (n *Network) acl(subnet string, p Packet, egress, answer bool) (Verdict, bool) {
	k := slices.IndexFunc(n.ACLs, func(a ACL) bool { return a.Subnet == subnet })
	if k < 0 {
		return Verdict{}, false
	}
	entries, peer, word := n.ACLs[k].Ingress, p.From, "inbound"
	if egress {
		entries, peer, word = n.ACLs[k].Egress, p.To, "outbound"
	}
	port := int(p.Port)
	what := service(p)
	if answer {
		port = 61000
		what = "answers to " + what
	}
	number := "the default"
	for _, e := range entries {
		if e.Protocol != "-1" && e.Protocol != p.Protocol || !e.Prefix.Contains(peer) {
			continue
		}
		if e.From != -1 && p.Port != 0 && (port < e.From || port > e.To) {
			continue
		}
		if e.Allow {
			return Verdict{}, false
		}
		number = fmt.Sprintf("rule %d", e.Number)
		break
	}
	return Verdict{Blocked: true, Kind: "acl", Object: "network ACL " + n.ACLs[k].ID,
		Text: fmt.Sprintf("%s of the %s rules of subnet %s denies %s with %s", number, word, subnet, what, peer)}, true
}

// Check follows a packet from the ENI that sends it by to the one that has its destination, and its answer
// back. source is what the packet has as sender when it leaves, which after translation isn't p.From.
func (n *Network) Check(p Packet, by Interface, source netip.Addr) []Verdict {
	var out []Verdict
	add := func(v Verdict, ok bool) {
		if ok {
			out = append(out, v)
		}
	}
	sent := p
	sent.From = source
	if by.SourceCheck && !slices.Contains(by.Addresses, source) {
		add(Verdict{Blocked: true, Kind: "source-check", Object: "ENI " + by.ID,
			Text: fmt.Sprintf("the source/destination check of ENI %s drops packets from %s, which isn't an address of it", by.ID, source)}, true)
	}
	add(n.groups(by, sent, true))
	add(n.route(by, p.To))
	to, there := n.Owner(p.To)
	if there && to.Subnet != by.Subnet || !there {
		add(n.acl(by.Subnet, sent, true, false))
	}
	if there {
		if to.Subnet != by.Subnet {
			add(n.acl(to.Subnet, sent, false, false))
		}
		add(n.groups(to, sent, false))
		if to.Subnet != by.Subnet {
			back := Packet{From: p.To, To: source, Protocol: p.Protocol, Port: p.Port}
			add(n.acl(to.Subnet, back, true, true))
			add(n.acl(by.Subnet, back, false, true))
			add(n.route(to, source))
		}
	} else {
		back := Packet{From: p.To, To: source, Protocol: p.Protocol, Port: p.Port}
		add(n.acl(by.Subnet, back, false, true))
	}
	return out
}
