package fabric

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"
)

// table is the name of the fabric's tables of the families inet and arp.
const table = "fabric"

// hopsTable is the name of the table that makes a packet inside the VPC cost no hop; insideMark tells it which.
const (
	hopsTable  = "hops"
	insideMark = 1
)

// revisionPrefix begins the name of an empty chain that says which ruleset the kernel has.
const revisionPrefix = "rev_"

// Sets that packets fill: their counters survive a change of the ruleset.
var dropSets = map[Kind]map[Direction]string{
	KindMAC:           {Out: "drop_mac"},
	KindSourceCheck:   {Out: "drop_sourcecheck"},
	KindUnassigned:    {Out: "drop_unassigned"},
	KindGateway:       {Out: "drop_gateway"},
	KindSecurityGroup: {Out: "drop_sg_out", In: "drop_sg_in"},
}

// ruleset is what nftables in <lab>-vpc shall be.
type ruleset struct {
	revision string
	text     string
	chains   map[string]bool // by name, in table inet fabric
	sets     map[string]bool // sets and maps that the ruleset fills, in table inet fabric
}

// rules renders the ruleset. It is a function of the state alone, so that equal states give equal revisions.
func rules(s State) ruleset {
	w := &writer{chains: map[string]bool{}, sets: map[string]bool{}}
	w.line("table inet %s {", table)
	w.inetSets(s)
	w.groupChains(s)
	w.interfaceMaps(s)
	w.inetChains(s)
	w.line("}")
	w.arp(s)
	sum := sha256.Sum256([]byte(w.b.String()))
	rev := revisionPrefix + hex.EncodeToString(sum[:8])
	w.line("table inet %s {\n  chain %s {\n  }\n}", table, rev)
	w.chains[rev] = true
	return ruleset{revision: rev, text: w.b.String(), chains: w.chains, sets: w.sets}
}

type writer struct {
	b      strings.Builder
	chains map[string]bool
	sets   map[string]bool
}

func (w *writer) line(format string, args ...any) { fmt.Fprintf(&w.b, format+"\n", args...) }

func (w *writer) set(kind, name, typ, flags string, elements []string) {
	w.sets[name] = true
	w.line("  %s %s {\n    type %s", kind, name, typ)
	if flags != "" {
		w.line("    flags %s", flags)
	}
	if len(elements) > 0 {
		sort.Strings(elements)
		w.line("    elements = { %s }", strings.Join(elements, ",\n      "))
	}
	w.line("  }")
}

func (w *writer) chain(name, header string, rules ...string) {
	w.chains[name] = true
	w.line("  chain %s {", name)
	if header != "" {
		w.line("    %s", header)
	}
	for _, r := range rules {
		w.line("    %s", r)
	}
	w.line("  }")
}

func (w *writer) inetSets(s State) {
	subnets := map[string]Subnet{}
	var private []string
	for _, sn := range s.Subnets {
		subnets[sn.ID] = sn
		if !sn.Public && !sn.Isolated && s.NATGateway.IsValid() {
			private = append(private, sn.CIDR.String())
		}
	}
	var macs, unchecked, assigned, public, snat, dnat []string
	for _, e := range s.ENIs {
		if e.Namespace != "" {
			dev := quoted(deviceName(e.ID))
			macs = append(macs, dev+" . "+e.MAC)
			if !e.SourceDestCheck {
				unchecked = append(unchecked, dev)
			}
			for _, b := range blocks(e) {
				assigned = append(assigned, dev+" . "+b)
			}
		}
		if sn := subnets[e.SubnetID]; !sn.Public || sn.Isolated {
			// The route table of a private subnet doesn't lead to the internet gateway: a public address there
			// is of no use, as in a VPC.
			continue
		}
		for a, pub := range e.Public {
			public = append(public, a.String())
			snat = append(snat, a.String()+" : "+pub.String())
			dnat = append(dnat, pub.String()+" : "+a.String())
		}
	}
	w.set("set", "macs", "ifname . ether_addr", "", macs)
	w.set("set", "unchecked", "ifname", "", unchecked)
	w.set("set", "assigned", "ifname . ipv4_addr", "interval", assigned)
	w.set("set", "services", "ipv4_addr", "", []string{IMDS.String(), Resolver.String(), VPCResolver(s.VPC).String()})
	w.set("set", "public", "ipv4_addr", "", public)
	w.set("set", "private", "ipv4_addr", "interval", private)
	w.set("map", "to_public", "ipv4_addr : ipv4_addr", "", snat)
	w.set("map", "to_private", "ipv4_addr : ipv4_addr", "", dnat)
	for _, name := range sortedDropSets() {
		// Not in w.sets: an update must not empty them.
		w.line("  set %s {\n    type ifname\n    flags dynamic\n    counter\n  }", name)
	}
}

func sortedDropSets() []string {
	var names []string
	for _, byDirection := range dropSets {
		for _, name := range byDirection {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// blocks are an ENI's addresses and prefixes as nftables writes them.
func blocks(e ENI) []string {
	var out []string
	for _, a := range e.Addresses {
		out = append(out, a.String())
	}
	for _, p := range e.Prefixes {
		out = append(out, p.String())
	}
	return out
}

// groupChains writes for each group the set of its members and a chain for each direction that accepts what a
// rule allows and returns otherwise.
func (w *writer) groupChains(s State) {
	members := map[string][]string{}
	for _, e := range s.ENIs {
		for _, g := range uniqueSorted(e.Groups) {
			members[g] = append(members[g], blocks(e)...)
		}
	}
	ids := sortedKeys(s.Groups)
	for _, id := range ids {
		w.set("set", "members_"+id, "ipv4_addr", "interval", members[id])
	}
	for _, id := range ids {
		w.chain("sgin_"+id, "", ruleLines(s.Groups[id].Ingress, "saddr")...)
		w.chain("sgout_"+id, "", ruleLines(s.Groups[id].Egress, "daddr")...)
	}
}

func ruleLines(rules []Rule, side string) []string {
	var out []string
	for _, r := range rules {
		if line, ok := ruleLine(r, side); ok {
			out = append(out, line)
		}
	}
	return out
}

// ruleLine is one rule of a group; false if it can't match anything here (an IPv6 block, a range that is empty).
func ruleLine(r Rule, side string) (string, bool) {
	var parts []string
	switch {
	case r.Group != "":
		parts = append(parts, fmt.Sprintf("ip %s @members_%s", side, r.Group))
	case !r.CIDR.Addr().Is4():
		return "", false
	case r.CIDR.Bits() > 0:
		parts = append(parts, fmt.Sprintf("ip %s %s", side, r.CIDR.Masked()))
	default:
		parts = append(parts, "meta nfproto ipv4")
	}
	proto, err := protocolNumber(r.Protocol)
	if err != nil {
		return "", false
	}
	switch proto {
	case -1:
	case 6, 17:
		name := map[int]string{6: "tcp", 17: "udp"}[proto]
		from, to := r.FromPort, r.ToPort
		if from == -1 {
			from, to = 0, 65535
		}
		if to < from {
			return "", false
		}
		parts = append(parts, fmt.Sprintf("%s dport %d-%d", name, from, to))
	case 1:
		parts = append(parts, "meta l4proto icmp")
		if r.FromPort != -1 {
			parts = append(parts, fmt.Sprintf("icmp type %d", r.FromPort))
			if r.ToPort != -1 {
				parts = append(parts, fmt.Sprintf("icmp code %d", r.ToPort))
			}
		}
	default:
		parts = append(parts, fmt.Sprintf("meta l4proto %d", proto))
	}
	return strings.Join(append(parts, "accept"), " "), true
}

// interfaceMaps lead from an interface to the chain of its groups. Interfaces with the same groups share it, so a
// new interface is an element of a map and no new chain.
func (w *writer) interfaceMaps(s State) {
	combos := map[string][]string{}
	var in, out []string
	for _, e := range s.ENIs {
		if e.Namespace == "" {
			continue
		}
		groups := uniqueSorted(e.Groups)
		sum := sha256.Sum256([]byte(strings.Join(groups, " ")))
		key := hex.EncodeToString(sum[:6])
		combos[key] = groups
		dev := quoted(deviceName(e.ID))
		in = append(in, dev+" : jump in_"+key)
		out = append(out, dev+" : jump out_"+key)
	}
	for _, key := range sortedKeys(combos) {
		var jumpsIn, jumpsOut []string
		for _, g := range combos[key] {
			jumpsIn = append(jumpsIn, "jump sgin_"+g)
			jumpsOut = append(jumpsOut, "jump sgout_"+g)
		}
		w.chain("in_"+key, "", jumpsIn...)
		w.chain("out_"+key, "", jumpsOut...)
	}
	w.set("map", "ingress", "ifname : verdict", "", in)
	w.set("map", "egress", "ifname : verdict", "", out)
}

func (w *writer) inetChains(s State) {
	fromENI, toGateway := "iifname "+eniGlob, fmt.Sprintf("oifname %q", gatewayDevice)
	count := func(k Kind, d Direction, key string) string {
		return fmt.Sprintf("update @%s { %s }", dropSets[k][d], key)
	}
	w.chain("source", "type filter hook prerouting priority raw; policy accept;",
		fromENI+" iifname . ether saddr != @macs "+count(KindMAC, Out, "iifname")+" drop",
		// There's no check of the destination: the routes lead an address to the interface that has it only.
		fromENI+" iifname != @unchecked iifname . ip saddr != @assigned "+count(KindSourceCheck, Out, "iifname")+" drop",
		fmt.Sprintf("%s ip daddr %s meta mark set %d", fromENI, s.VPC, insideMark),
	)
	w.chain("translate_in", "type nat hook prerouting priority dstnat; policy accept;",
		fmt.Sprintf("iifname %q dnat ip to ip daddr map @to_private", gatewayDevice))
	post := []string{toGateway + " snat ip to ip saddr map @to_public"}
	if s.NATGateway.IsValid() {
		post = append(post, fmt.Sprintf("%s ip saddr @private snat ip to %s", toGateway, s.NATGateway))
	}
	w.chain("translate_out", "type nat hook postrouting priority srcnat; policy accept;", post...)
	w.chain("services_in", "type filter hook input priority filter; policy drop;",
		`iifname "lo" accept`,
		"ct state established,related accept",
		fromENI+" ip daddr @services accept",
	)
	own := fmt.Sprintf("ip daddr { %s, %s }", s.VPC, linkLocal)
	w.chain("routes", "type filter hook forward priority -10; policy accept;",
		// From outside only by way of a public address or as a reply.
		fmt.Sprintf("iifname %q ct state new ct status & dnat == 0 drop", gatewayDevice),
		toGateway+" "+own+" "+fromENI+" "+count(KindUnassigned, Out, "iifname")+" drop",
		toGateway+" "+own+" drop",
		toGateway+" ip saddr @public accept",
		toGateway+" ip saddr @private accept",
		toGateway+" "+fromENI+" "+count(KindGateway, Out, "iifname")+" drop",
		toGateway+" drop",
	)
	w.chain("groups_out", "type filter hook forward priority 0; policy drop;",
		fmt.Sprintf("iifname %q accept", gatewayDevice),
		"ct state established,related accept",
		"iifname vmap @egress",
		count(KindSecurityGroup, Out, "iifname"),
	)
	w.chain("groups_in", "type filter hook forward priority 10; policy drop;",
		toGateway+" accept",
		"ct state established,related accept",
		"oifname vmap @ingress",
		count(KindSecurityGroup, In, "oifname"),
	)
}

// hops puts on, before the kernel's forwarding takes it off, the hop that a packet inside a VPC isn't charged. A
// chain for each TTL, because nftables can't add; a table of its own, because it never changes. 255 has no
// successor: such a packet arrives with 254.
func hops() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("table ip %s {", hopsTable)
	var jumps []string
	for ttl := 1; ttl < 255; ttl++ {
		line("  chain ttl%d {\n    ip ttl set %d\n  }", ttl, ttl+1)
		jumps = append(jumps, fmt.Sprintf("%d : goto ttl%d", ttl, ttl))
	}
	line("  chain inside {\n    type filter hook prerouting priority mangle; policy accept;")
	line("    meta mark %d ip ttl vmap { %s }\n  }\n}", insideMark, strings.Join(jumps, ", "))
	return b.String()
}

// arp narrows what the kernel's proxy answers to what a VPC answers: addresses of the interface's own subnet (the
// router's among them) and the link-local services. An answer for anything else would hide routing faults.
func (w *writer) arp(s State) {
	subnets := map[string]netip.Prefix{}
	for _, sn := range s.Subnets {
		subnets[sn.ID] = sn.CIDR
	}
	var elements []string
	for _, e := range s.ENIs {
		if e.Namespace == "" {
			continue
		}
		dev := quoted(deviceName(e.ID))
		elements = append(elements, dev+" . "+subnets[e.SubnetID].String(), dev+" . "+IMDS.String(), dev+" . "+Resolver.String())
	}
	sort.Strings(elements)
	w.line("table arp %s {\n  set answered {\n    type ifname . ipv4_addr\n    flags interval", table)
	if len(elements) > 0 {
		w.line("    elements = { %s }", strings.Join(elements, ",\n      "))
	}
	w.line("  }\n  chain requests {\n    type filter hook input priority filter; policy accept;")
	w.line("    iifname %s arp operation != request drop", eniGlob)
	w.line("    iifname %s iifname . arp daddr ip != @answered drop\n  }\n}", eniGlob)
}

func quoted(s string) string { return `"` + s + `"` }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func uniqueSorted(in []string) []string {
	out := slices.Clone(in)
	sort.Strings(out)
	return slices.Compact(out)
}
