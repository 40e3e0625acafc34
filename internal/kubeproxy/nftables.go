package kubeproxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// ownTable is the name of kube-proxy's tables in its mode nftables.
const ownTable = "kube-proxy"

// batch bounds what one transaction removes: a message to the kernel has room for so much.
const batch = 200

// findNFTables reads what the mode nftables and iptables over nftables left.
func findNFTables(out *Found) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	chains, err := c.ListChains()
	if err != nil {
		return fmt.Errorf("nftables: chains: %w", err)
	}
	own := map[nftables.TableFamily]*nftables.Table{}
	for _, ch := range chains {
		switch {
		case ch.Table.Name == ownTable && ip(ch.Table):
			if ch.Hooknum == nil {
				own[ch.Table.Family] = ch.Table
				out.add(KindNFTables, 1)
			}
		case compat(ch.Table) && isOwn(ch.Name):
			out.add(KindIPTables, 1)
			if ch.Name != "KUBE-SERVICES" && ch.Name != "KUBE-EXTERNAL-SERVICES" && ch.Name != "KUBE-NODEPORTS" {
				continue
			}
			rules, err := c.GetRules(ch.Table, ch)
			if err != nil {
				return fmt.Errorf("nftables: rules of %s: %w", ch.Name, err)
			}
			for _, r := range rules {
				if f, ok := ruleFrontend(r, ch.Table.Family, ch.Name == "KUBE-NODEPORTS"); ok {
					out.Frontends[f] = true
				}
			}
		}
	}
	for _, t := range own {
		if err := findMaps(c, t, out); err != nil {
			return err
		}
	}
	return nil
}

func ip(t *nftables.Table) bool {
	return t.Family == nftables.TableFamilyIPv4 || t.Family == nftables.TableFamilyIPv6
}

// compat are the tables of iptables.
func compat(t *nftables.Table) bool {
	return ip(t) && slices.Contains([]string{"nat", "filter", "mangle", "raw"}, t.Name)
}

func protocolName(n byte) string {
	switch n {
	case unix.IPPROTO_TCP:
		return "TCP"
	case unix.IPPROTO_UDP:
		return "UDP"
	case unix.IPPROTO_SCTP:
		return "SCTP"
	}
	return ""
}

// ruleFrontend is the address that a rule is for, of those that kube-proxy writes. Whatever else the rule asks
// doesn't matter.
func ruleFrontend(r *nftables.Rule, family nftables.TableFamily, isNodePort bool) (Frontend, bool) {
	var addr netip.Addr
	var port uint16
	var proto string
	type field struct{ what string }
	loaded := map[uint32]field{}
	for _, e := range r.Exprs {
		switch x := e.(type) {
		case *expr.Meta:
			if x.Key == expr.MetaKeyL4PROTO {
				loaded[x.Register] = field{"protocol"}
			}
		case *expr.Payload:
			loaded[x.DestRegister] = field{payloadField(x, family)}
		case *expr.Cmp:
			if x.Op != expr.CmpOpEq {
				continue
			}
			switch loaded[x.Register].what {
			case "protocol":
				if len(x.Data) > 0 {
					proto = protocolName(x.Data[0])
				}
			case "address":
				if a, ok := netip.AddrFromSlice(x.Data); ok {
					addr = a
				}
			case "port":
				if len(x.Data) == 2 {
					port = binary.BigEndian.Uint16(x.Data)
				}
			}
		case *expr.Match:
			switch m := x.Info.(type) {
			case *xt.Tcp:
				proto, port = "TCP", m.DstPorts[0]
			case *xt.Udp:
				proto, port = "UDP", m.DstPorts[0]
			}
		}
	}
	if port == 0 || proto == "" || addr.IsValid() == isNodePort {
		return Frontend{}, false
	}
	return Frontend{netip.AddrPortFrom(addr, port), proto}, true
}

// payloadField says what a load of the packet's bytes reads.
func payloadField(p *expr.Payload, family nftables.TableFamily) string {
	v4 := family == nftables.TableFamilyIPv4
	switch {
	case p.Base == expr.PayloadBaseTransportHeader && p.Offset == 2 && p.Len == 2:
		return "port"
	case p.Base != expr.PayloadBaseNetworkHeader:
	case v4 && p.Offset == 16 && p.Len == 4, !v4 && p.Offset == 24 && p.Len == 16:
		return "address"
	case v4 && p.Offset == 9 && p.Len == 1, !v4 && p.Offset == 6 && p.Len == 1:
		return "protocol"
	}
	return ""
}

// findMaps reads the maps of the mode nftables: from address, protocol and port, or protocol and port, to a chain.
func findMaps(c *nftables.Conn, t *nftables.Table, out *Found) error {
	sets, err := c.GetSets(t)
	if err != nil {
		return fmt.Errorf("nftables: maps of %s: %w", t.Name, err)
	}
	for _, s := range sets {
		nodePorts := false
		switch s.Name {
		case "service-ips", "no-endpoint-services":
		case "service-nodeports", "no-endpoint-nodeports":
			nodePorts = true
		default:
			continue
		}
		elements, err := c.GetSetElements(s)
		if err != nil {
			return fmt.Errorf("nftables: map %s: %w", s.Name, err)
		}
		for _, e := range elements {
			if f, ok := elementFrontend(e.Key, nodePorts); ok {
				out.Frontends[f] = true
			}
		}
	}
	return nil
}

// elementFrontend reads a key: its parts stand at multiples of four bytes.
func elementFrontend(key []byte, nodePorts bool) (Frontend, bool) {
	var addr netip.Addr
	if !nodePorts {
		if len(key) != 4+8 && len(key) != 16+8 {
			return Frontend{}, false
		}
		addr, _ = netip.AddrFromSlice(key[:len(key)-8])
		key = key[len(key)-8:]
	}
	if len(key) != 8 || protocolName(key[0]) == "" {
		return Frontend{}, false
	}
	return Frontend{netip.AddrPortFrom(addr, binary.BigEndian.Uint16(key[4:6])), protocolName(key[0])}, true
}

// removeNFTables removes both modes' rules.
func removeNFTables() (int, error) {
	c, err := nftables.New()
	if err != nil {
		return 0, fmt.Errorf("nftables: %w", err)
	}
	chains, err := c.ListChains()
	if err != nil {
		return 0, fmt.Errorf("nftables: chains: %w", err)
	}
	tables := map[string][]*nftables.Chain{}
	for _, ch := range chains {
		if compat(ch.Table) || ch.Table.Name == ownTable && ip(ch.Table) {
			key := fmt.Sprint(ch.Table.Family, " ", ch.Table.Name)
			tables[key] = append(tables[key], ch)
		}
	}
	removed := 0
	var errs []error
	for _, all := range tables {
		n, err := removeTable(c, all)
		removed += n
		errs = append(errs, err)
	}
	return removed, errors.Join(errs...)
}

func removeTable(c *nftables.Conn, all []*nftables.Chain) (int, error) {
	t := all[0].Table
	if t.Name == ownTable {
		if err := hold(c, t.Family); err != nil {
			return 0, err
		}
		c.DelTable(t)
		if err := c.Flush(); err != nil {
			return 0, fmt.Errorf("nftables: table %s: %w", t.Name, err)
		}
		return len(all), nil
	}
	if !slices.ContainsFunc(all, func(ch *nftables.Chain) bool { return isOwn(ch.Name) }) {
		return 0, nil
	}
	var entries []*nftables.Rule
	var jumps []jump
	for _, ch := range all {
		// What other chains lead to matters only if somebody else's lead to one.
		if isOwn(ch.Name) && ch.Name != "KUBE-MARK-MASQ" {
			continue
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return 0, fmt.Errorf("nftables: rules of %s: %w", ch.Name, err)
		}
		for _, r := range rules {
			for _, to := range targets(r) {
				jumps = append(jumps, jump{ch.Name, to, ch.Hooknum != nil})
				if ch.Hooknum != nil && isOwn(to) {
					entries = append(entries, r)
				}
			}
		}
	}
	stay := kept(jumps)
	own := slices.DeleteFunc(slices.Clone(all), func(ch *nftables.Chain) bool { return !isOwn(ch.Name) || stay[ch.Name] })
	if len(own) == 0 {
		return 0, nil
	}
	if err := hold(c, t.Family); err != nil {
		return 0, err
	}
	for _, r := range entries {
		if stay[targets(r)[0]] {
			continue
		}
		if err := c.DelRule(r); err != nil {
			return 0, fmt.Errorf("nftables: rule of %s: %w", r.Chain.Name, err)
		}
	}
	if err := c.Flush(); err != nil {
		return 0, fmt.Errorf("nftables: rules that lead to kube-proxy's: %w", err)
	}
	return len(own), dropChains(c, own)
}

// dropChains empties the chains, then removes them: one that a rule leads to can't go.
func dropChains(c *nftables.Conn, own []*nftables.Chain) error {
	for _, act := range []func(*nftables.Chain){c.FlushChain, c.DelChain} {
		for part := range slices.Chunk(own, batch) {
			for _, ch := range part {
				act(ch)
			}
			if err := c.Flush(); err != nil {
				return fmt.Errorf("nftables: chains of table %s: %w", own[0].Table.Name, err)
			}
		}
	}
	return nil
}

// targets are the chains that a rule leads to.
func targets(r *nftables.Rule) []string {
	var out []string
	for _, e := range r.Exprs {
		if v, ok := e.(*expr.Verdict); ok && (v.Kind == expr.VerdictJump || v.Kind == expr.VerdictGoto) {
			out = append(out, v.Chain)
		}
	}
	return out
}
