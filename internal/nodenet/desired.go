package nodenet

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/endpoint"
)

// Interface is an ENI as it was assigned.
type Interface struct {
	ID          string
	MAC         string // lower case, colons
	DeviceIndex int32
	Primary     netip.Addr
	// Router is the subnet's.
	Router netip.Addr
	// MasqueradeTo is the source of what this ENI's endpoints send out of the VPC.
	MasqueradeTo netip.Addr
}

// Table is the ENI's routing table.
func (i Interface) Table() int { return contract.TableENIBase + int(i.DeviceIndex) }

// Desired is what the node shall be, but for its endpoints.
type Desired struct {
	Interfaces []Interface
	// MTU of ENIs and pods; 0 is what the primary ENI has.
	MTU int
	// FQ gives ENIs fq as their queue where nobody chose another one.
	FQ bool
	// Masquerade has nftables translate; Direct are the destinations that are never translated, beside
	// multicast.
	Masquerade bool
	Direct     []netip.Prefix
	// LeaveMasquerade keeps what an earlier agent had nftables translate, until somebody else does it.
	LeaveMasquerade bool
	// MasqueradeInterfaces limits translation to what leaves by these devices once it is translated; a name
	// may end in "+". eth0 also means the primary ENI where the system calls it otherwise.
	MasqueradeInterfaces []string
}

// rule is a routing rule of ours in comparable form. An invalid src is every source.
type rule struct {
	priority int
	src      netip.Addr
	table    int
}

func (r rule) String() string {
	from := "all"
	if r.src.IsValid() {
		from = r.src.String()
	}
	return fmt.Sprintf("rule %d from %s lookup %d", r.priority, from, r.table)
}

// route is a route in one of our tables in comparable form.
type route struct {
	table   int
	dst     netip.Prefix
	gw      netip.Addr
	src     netip.Addr
	ifindex int
	scope   uint8
}

func (r route) String() string {
	s := fmt.Sprintf("route %s in table %d dev index %d", r.dst, r.table, r.ifindex)
	if r.gw.IsValid() {
		s += " via " + r.gw.String()
	}
	return s
}

var anywhere = netip.PrefixFrom(netip.AddrFrom4([4]byte{}), 0)

// maxInterfaces bounds our tables: no instance type has more ENIs on a card.
const maxInterfaces = 64

// ourTable says whether weft owns the routing table.
func ourTable(t int) bool {
	return t == contract.TablePods || t >= contract.TableENIBase && t < contract.TableENIBase+maxInterfaces
}

// wantRules are the rules for these interfaces and endpoints.
func wantRules(ifaces []Interface, eps []endpoint.Endpoint) []rule {
	out := []rule{{priority: contract.RulePriPods, table: contract.TablePods}}
	for _, i := range ifaces {
		if i.DeviceIndex != 0 {
			// What the node itself answers from a secondary ENI's own address leaves by that ENI.
			out = append(out, rule{contract.RulePriSource, i.Primary, i.Table()})
		}
	}
	for _, e := range eps {
		out = append(out, rule{contract.RulePriSource, e.Address, contract.TableENIBase + int(e.DeviceIndex)})
	}
	return dedupe(out)
}

// wantRoutes are the routes for ENIs that were found (their indexes by device index) and for endpoints
// whose device is there.
func wantRoutes(ifaces []Interface, found map[int32]int, eps []endpoint.Endpoint, nodeAddr netip.Addr) []route {
	var out []route
	for _, i := range ifaces {
		ifindex, ok := found[i.DeviceIndex]
		if !ok {
			continue
		}
		out = append(out,
			route{table: i.Table(), dst: single(i.Router), ifindex: ifindex, scope: unix.RT_SCOPE_LINK},
			route{table: i.Table(), dst: anywhere, gw: i.Router, ifindex: ifindex},
		)
	}
	for _, e := range eps {
		out = append(out, podRoute(e, nodeAddr))
	}
	return dedupe(out)
}

// podRoute leads to an endpoint. src is the node's address: without it the kernel might choose a
// secondary ENI's.
func podRoute(e endpoint.Endpoint, nodeAddr netip.Addr) route {
	return route{table: contract.TablePods, dst: single(e.Address), src: nodeAddr, ifindex: e.Ifindex(), scope: unix.RT_SCOPE_LINK}
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func dedupe[T comparable](in []T) []T {
	seen := make(map[T]bool, len(in))
	return slices.DeleteFunc(in, func(v T) bool {
		dup := seen[v]
		seen[v] = true
		return dup
	})
}

// diff compares desired with present values; present may hold a value twice, then one is surplus.
func diff[T comparable](want, have []T) (missing, surplus []T) {
	left := make(map[T]bool, len(want))
	for _, w := range want {
		left[w] = true
	}
	for _, h := range have {
		if left[h] {
			delete(left, h)
		} else {
			surplus = append(surplus, h)
		}
	}
	for _, w := range want {
		if left[w] {
			missing = append(missing, w)
			delete(left, w)
		}
	}
	return missing, surplus
}

// span is a range of addresses, both ends included.
type span struct{ from, to netip.Addr }

// spans merges prefixes into ranges that neither overlap nor touch, as an interval set wants them.
func spans(prefixes []netip.Prefix) []span {
	var in []span
	for _, p := range prefixes {
		if p.IsValid() && p.Addr().Is4() {
			p = p.Masked()
			in = append(in, span{p.Addr(), last(p)})
		}
	}
	slices.SortFunc(in, func(a, b span) int {
		return cmp.Or(a.from.Compare(b.from), a.to.Compare(b.to))
	})
	var out []span
	for _, s := range in {
		if n := len(out); n > 0 {
			if next := out[n-1].to.Next(); !next.IsValid() || s.from.Compare(next) <= 0 {
				if s.to.Compare(out[n-1].to) > 0 {
					out[n-1].to = s.to
				}
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

// last is the highest address of an IPv4 prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(b)
}
