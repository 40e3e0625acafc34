package socklb

import "net/netip"

// arrange puts who is wanted into slots 0 to len(want)-1. Who has a slot there keeps it; the others fill the
// holes, so that a change of one backend is one write. writes are the slots that differ from have.
func arrange(have, want []netip.AddrPort) (slots []netip.AddrPort, writes []int) {
	wanted := make(map[netip.AddrPort]bool, len(want))
	for _, w := range want {
		wanted[w] = true
	}
	slots = make([]netip.AddrPort, len(want))
	placed := make(map[netip.AddrPort]bool, len(want))
	for i, h := range have {
		if i < len(slots) && wanted[h] && !placed[h] {
			slots[i], placed[h] = h, true
		}
	}
	next := 0
	for _, w := range want {
		if placed[w] {
			continue
		}
		for slots[next].IsValid() {
			next++
		}
		slots[next], placed[w] = w, true
		writes = append(writes, next)
	}
	return slots, writes
}
