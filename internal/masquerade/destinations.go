package masquerade

import (
	"net/netip"
	"slices"
)

// Destinations are prefixes that more is known of than that they are somewhere in the world. Prefixes may
// overlap: what is true of one is true of everything inside it.
type Destinations struct {
	// Native are reached by the endpoint's own address.
	Native []netip.Prefix
	// Stack are services: the kernel's stack decides, because kube-proxy may translate them.
	Stack []netip.Prefix
}

// Traits are what is true of an address.
type Traits struct{ Native, Stack bool }

// Flatten returns a table for lookups of the longest prefix, which see one entry only: each has everything
// that is true of it, also by prefixes around it. An entry that would say what the next wider one says is
// left out.
func Flatten(d Destinations) map[netip.Prefix]Traits {
	given := map[netip.Prefix]Traits{}
	add := func(in []netip.Prefix, t Traits) {
		for _, p := range in {
			if !p.IsValid() {
				continue
			}
			p = canonical(p)
			have := given[p]
			given[p] = Traits{Native: have.Native || t.Native, Stack: have.Stack || t.Stack}
		}
	}
	add(d.Native, Traits{Native: true})
	add(d.Stack, Traits{Stack: true})

	order := make([]netip.Prefix, 0, len(given))
	for p := range given {
		order = append(order, p)
	}
	// Wider ones first, so that what surrounds a prefix is complete when the prefix is looked at.
	slices.SortFunc(order, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	lengths := map[bool][]int{} // by family, ascending
	out := make(map[netip.Prefix]Traits, len(given))
	for _, p := range order {
		own := given[p]
		around, has := nearest(out, p, lengths[p.Addr().Is4()])
		if has {
			own = Traits{Native: own.Native || around.Native, Stack: own.Stack || around.Stack}
			if own == around {
				continue
			}
		}
		out[p] = own
		if l := lengths[p.Addr().Is4()]; len(l) == 0 || l[len(l)-1] != p.Bits() {
			lengths[p.Addr().Is4()] = append(l, p.Bits())
		}
	}
	return out
}

// nearest is the entry of the longest prefix around p. lengths are those that the table has.
func nearest(table map[netip.Prefix]Traits, p netip.Prefix, lengths []int) (Traits, bool) {
	for _, bits := range slices.Backward(lengths) {
		if bits >= p.Bits() {
			continue
		}
		if t, ok := table[netip.PrefixFrom(p.Addr(), bits).Masked()]; ok {
			return t, true
		}
	}
	return Traits{}, false
}

// canonical has no bits set behind its length, and an IPv4 prefix in its own form.
func canonical(p netip.Prefix) netip.Prefix {
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked()
}
