package fabric

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol marks the fabric's routes, so that those that are no longer wanted can be told from others.
const routeProtocol = 76

// route is one route, as far as the fabric varies them.
type route struct {
	dst       netip.Prefix
	device    int
	via       netip.Addr // the zero address: on the link
	src       netip.Addr
	blackhole bool
}

// netlink renders the route for the kernel.
func (r route) netlink() *netlink.Route {
	n := &netlink.Route{Dst: ipNet(r.dst), Protocol: routeProtocol, Table: unix.RT_TABLE_MAIN, LinkIndex: r.device}
	switch {
	case r.blackhole:
		n.Type = unix.RTN_BLACKHOLE
	case r.via.IsValid():
		n.Gw, n.Flags = r.via.AsSlice(), int(netlink.FLAG_ONLINK)
	default:
		n.Scope = netlink.SCOPE_LINK
	}
	if r.src.IsValid() {
		n.Src = r.src.AsSlice()
	}
	return n
}

// routeOf is the reverse of netlink.
func routeOf(n netlink.Route) route {
	r := route{device: n.LinkIndex, blackhole: n.Type == unix.RTN_BLACKHOLE}
	if r.blackhole {
		r.device = 0
	}
	r.dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if n.Dst != nil {
		if a, ok := netip.AddrFromSlice(n.Dst.IP.To4()); ok {
			ones, _ := n.Dst.Mask.Size()
			r.dst = netip.PrefixFrom(a, ones)
		}
	}
	if a, ok := netip.AddrFromSlice(n.Gw.To4()); ok {
		r.via = a
	}
	if a, ok := netip.AddrFromSlice(n.Src.To4()); ok {
		r.src = a
	}
	return r
}

func listRoutes(h *netlink.Handle) (map[netip.Prefix]route, error) {
	filter := &netlink.Route{Protocol: routeProtocol, Table: unix.RT_TABLE_MAIN}
	routes, err := again(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	found := map[netip.Prefix]route{}
	for _, n := range routes {
		r := routeOf(n)
		found[r.dst] = r
	}
	return found, nil
}

// syncRoutes makes the fabric's routes those that are wanted.
func syncRoutes(h *netlink.Handle, found, want map[netip.Prefix]route) error {
	for dst, r := range found {
		if _, ok := want[dst]; ok {
			continue
		}
		if err := h.RouteDel(r.netlink()); err != nil {
			return fmt.Errorf("delete route %s: %w", dst, err)
		}
	}
	for dst, r := range want {
		if found[dst] == r {
			continue
		}
		if err := h.RouteReplace(r.netlink()); err != nil {
			return fmt.Errorf("route %s: %w", dst, err)
		}
	}
	return nil
}
