package datapath

import (
	"net/netip"
	"testing"
)

// A testService is a frontend as the agent writes it.
type testService struct {
	front    netip.AddrPort // an unspecified address is every one of the node's own
	protocol uint8
	scope    uint8
	flags    uint32
	affinity uint32
	backends []netip.AddrPort
	ranges   []netip.Prefix
}

func newLBKey(a netip.AddrPort, protocol, scope uint8) lbKey {
	return lbKey{Addr: a.Addr().As16(), Port: toPort(a.Port()), Protocol: protocol, Scope: scope}
}

// setServices writes frontends, each with a set of its own, in the agent's order: backends first.
func setServices(t testing.TB, d *Datapath, first uint32, list ...testService) {
	t.Helper()
	for i, s := range list {
		set := first + uint32(i)
		for slot, b := range s.backends {
			must(t, d.maps[weftMapWeftLbBackends].Put(lbSlot{set, uint32(slot)}, lbBackend{Addr: b.Addr().As16(), Port: toPort(b.Port())}))
			must(t, d.maps[weftMapWeftLbMembers].Put(lbMember{Addr: b.Addr().As16(), Set: set, Port: toPort(b.Port())}, uint32(1)))
		}
		for _, p := range s.ranges {
			bits := p.Bits() + lbRangeFixedBits
			if p.Addr().Is4() {
				bits += mappedBits
			}
			must(t, d.maps[weftMapWeftLbRanges].Put(lbRange{Prefixlen: uint32(bits), Set: set, Addr: p.Masked().Addr().As16()}, uint32(1)))
		}
		must(t, d.maps[weftMapWeftLbFrontends].Put(newLBKey(s.front, s.protocol, s.scope),
			lbFrontend{Set: set, Count: uint32(len(s.backends)), Flags: s.flags | lbMembers, Affinity: s.affinity}))
	}
}

// replaceBackends writes what a set has instead of before.
func replaceBackends(t testing.TB, d *Datapath, set uint32, s testService, before ...netip.AddrPort) {
	t.Helper()
	setServices(t, d, set, s)
	for _, b := range before {
		must(t, d.maps[weftMapWeftLbMembers].Delete(lbMember{Addr: b.Addr().As16(), Set: set, Port: toPort(b.Port())}))
	}
	for slot := len(s.backends); slot < len(before); slot++ {
		must(t, d.maps[weftMapWeftLbBackends].Delete(lbSlot{set, uint32(slot)}))
	}
}

// serveServices says what of services the programs do.
func serveServices(t testing.TB, d *Datapath, flags uint32) {
	t.Helper()
	must(t, d.maps[weftMapWeftLbConfig].Put(uint32(0), lbConfig{Flags: flags, Fresh: 1 << 62}))
}
