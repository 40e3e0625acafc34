package fabric

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// lost matches the tracked flows of addresses that changed hands: the next owner must not inherit what was
// allowed to the last.
type lost []netip.Prefix

// MatchConntrackFlow implements netlink's filter.
func (l lost) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	for _, ip := range []net.IP{flow.Forward.SrcIP, flow.Forward.DstIP, flow.Reverse.SrcIP, flow.Reverse.DstIP} {
		a, ok := netip.AddrFromSlice(ip)
		if !ok {
			continue
		}
		for _, p := range l {
			if p.Contains(a.Unmap()) {
				return true
			}
		}
	}
	return false
}

// forget deletes those flows.
func forget(h *netlink.Handle, l lost) error {
	if len(l) == 0 {
		return nil
	}
	_, err := again(func() (uint, error) {
		return h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, l)
	})
	if err != nil {
		return fmt.Errorf("forget flows of %v: %w", []netip.Prefix(l), err)
	}
	return nil
}

// changedHands are the destinations whose route leads elsewhere than before, or nowhere.
func changedHands(before, after map[netip.Prefix]route) lost {
	var l lost
	for dst, r := range before {
		if now, ok := after[dst]; dst.Bits() > 0 && (!ok || now.device != r.device) {
			l = append(l, dst)
		}
	}
	return l
}

// renumbered are the private addresses whose public address isn't what it was.
func renumbered(before, after map[netip.Addr]netip.Addr) lost {
	var l lost
	for private, public := range before {
		if after[private] != public {
			l = append(l, netip.PrefixFrom(private, 32))
		}
	}
	return l
}
