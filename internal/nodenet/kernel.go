package nodenet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
)

// dump repeats a listing that a change interrupted.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	for try := 0; ; try++ {
		out, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || try == 9 {
			return out, err
		}
	}
}

func listLinks(h *netlink.Handle) ([]netlink.Link, error) { return dump(h.LinkList) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return anywhere
	}
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// listRoutes returns the routes in our tables.
func listRoutes(h *netlink.Handle) ([]route, error) {
	all, err := dump(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var out []route
	for _, r := range all {
		if !ourTable(r.Table) {
			continue
		}
		got := route{table: r.Table, dst: prefixOf(r.Dst), gw: addrOf(r.Gw), src: addrOf(r.Src), ifindex: r.LinkIndex, scope: uint8(r.Scope)}
		if r.Type != unix.RTN_UNICAST || int(r.Protocol) != contract.RouteProtocol || r.Priority != 0 {
			got.ifindex = -1 - got.ifindex // no desired route is like that: it goes
		}
		out = append(out, got)
	}
	return out, nil
}

func (r route) netlink() *netlink.Route {
	out := &netlink.Route{
		Table: r.table, Dst: ipNet(r.dst), LinkIndex: r.ifindex, Scope: netlink.Scope(r.scope),
		Protocol: contract.RouteProtocol, Type: unix.RTN_UNICAST, Family: netlink.FAMILY_V4,
	}
	if r.gw.IsValid() {
		out.Gw = r.gw.AsSlice()
		out.Flags = int(netlink.FLAG_ONLINK)
	}
	if r.src.IsValid() {
		out.Src = r.src.AsSlice()
	}
	return out
}

func addRoute(h *netlink.Handle, r route) error {
	if err := h.RouteReplace(r.netlink()); err != nil {
		return fmt.Errorf("add %s: %w", r, err)
	}
	return nil
}

// delRoute removes a surplus route by what identifies it to the kernel.
func delRoute(h *netlink.Handle, r route) error {
	sel := &netlink.Route{Table: r.table, Dst: ipNet(r.dst), Family: netlink.FAMILY_V4, Scope: netlink.Scope(unix.RT_SCOPE_NOWHERE)}
	if r.ifindex > 0 {
		sel.LinkIndex = r.ifindex
	}
	if r.gw.IsValid() {
		sel.Gw = r.gw.AsSlice()
	}
	if err := h.RouteDel(sel); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove %s: %w", r, err)
	}
	return nil
}

// listRules returns all IPv4 rules as the kernel has them.
func listRules(h *netlink.Handle) ([]netlink.Rule, error) {
	all, err := dump(func() ([]netlink.Rule, error) { return h.RuleList(netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	return all, nil
}

// plain reads a rule that selects by source only. Any other is somebody else's.
func plain(r netlink.Rule) (rule, bool) {
	out := rule{priority: r.Priority, table: r.Table}
	if r.Src != nil {
		p := prefixOf(r.Src)
		if p.Bits() != 32 {
			return rule{}, false
		}
		out.src = p.Addr()
	}
	ok := r.Dst == nil && r.Mark == 0 && r.Mask == nil && r.IifName == "" && r.OifName == "" && !r.Invert &&
		r.Dport == nil && r.Sport == nil && r.IPProto == 0 && r.UIDRange == nil && r.Tos == 0
	return out, ok
}

// surplusRules picks what must go: rules of ours that are not desired, copies, and rules that others
// left for an address that now is an endpoint's and that would come before ours.
func surplusRules(all []netlink.Rule, want []rule) []netlink.Rule {
	wanted := make(map[rule]bool, len(want))
	ours := map[netip.Addr]bool{}
	for _, w := range want {
		wanted[w] = true
		if w.src.IsValid() {
			ours[w.src] = true
		}
	}
	var out []netlink.Rule
	for _, r := range all {
		p, ok := plain(r)
		mine := r.Protocol == contract.RouteProtocol || ok && ourTable(r.Table)
		switch {
		case ok && wanted[p] && r.Protocol == contract.RouteProtocol:
			delete(wanted, p) // a second one is a copy
		case mine, ok && ours[p.src] && r.Priority <= contract.RulePriSource:
			out = append(out, r)
		}
	}
	return out
}

// presentRules returns the rules of ours among all.
func presentRules(all []netlink.Rule) []rule {
	var out []rule
	for _, r := range all {
		if p, ok := plain(r); ok && r.Protocol == contract.RouteProtocol {
			out = append(out, p)
		}
	}
	return out
}

func (r rule) netlink() *netlink.Rule {
	out := netlink.NewRule()
	out.Family = netlink.FAMILY_V4
	out.Priority = r.priority
	out.Table = r.table
	out.Protocol = contract.RouteProtocol
	if r.src.IsValid() {
		out.Src = ipNet(single(r.src))
	}
	return out
}

func addRule(h *netlink.Handle, r rule) error {
	if err := h.RuleAdd(r.netlink()); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add %s: %w", r, err)
	}
	return nil
}

func delRule(h *netlink.Handle, r netlink.Rule) error {
	if err := h.RuleDel(&r); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s: %w", r, err)
	}
	return nil
}

// findENI picks the device with the MAC. Devices stacked on an ENI share its MAC and are not it.
func findENI(links []netlink.Link, mac string) (netlink.Link, bool) {
	i := slices.IndexFunc(links, func(l netlink.Link) bool {
		switch l.Type() {
		case "vlan", "macvlan", "macvtap", "ipvlan", "bridge", "bond", "team":
			return false
		}
		return l.Attrs().HardwareAddr.String() == mac
	})
	if i < 0 {
		return nil, false
	}
	return links[i], true
}
