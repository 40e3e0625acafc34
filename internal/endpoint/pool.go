package endpoint

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// CoolDown is for how long a released address rests before another endpoint gets it: at least as long as
// the news that it moved takes to spread.
const CoolDown = 30 * time.Second

// ShortRest is for how long it rests where no other address is free: long enough for connections that were
// closing to end, short enough that a node at its limit still replaces pods.
const ShortRest = 5 * time.Second

// Assigned is an address that the operator assigned to the node.
type Assigned struct {
	Address     netip.Addr
	Generation  int64
	ENI         string
	DeviceIndex int32
	// Release: the operator wants it back.
	Release bool
}

// Pool knows which assigned addresses are free. It is arithmetic: the caller brings clock and lock.
type Pool struct {
	assigned map[netip.Addr]Assigned
	taken    map[netip.Addr]string // address to the id of its ENI, as it was when taken
	rested   map[netip.Addr]time.Time
	fenced   map[netip.Addr]fence
}

// NewPool returns an empty pool.
func NewPool() *Pool {
	return &Pool{assigned: map[netip.Addr]Assigned{}, taken: map[netip.Addr]string{}, rested: map[netip.Addr]time.Time{}, fenced: map[netip.Addr]fence{}}
}

// Assign replaces what is assigned. What is taken stays taken, also when it is no longer assigned.
func (p *Pool) Assign(all []Assigned) {
	p.assigned = make(map[netip.Addr]Assigned, len(all))
	for _, a := range all {
		p.assigned[a.Address] = a
	}
}

// Allocate takes a free address that has rested, or, where there is none, one that has had its short rest.
func (p *Pool) Allocate(now time.Time) (Assigned, bool) {
	if a, ok := p.allocate(now, CoolDown); ok {
		return a, true
	}
	return p.allocate(now, ShortRest)
}

// allocate takes a free address: of the ENI with the fewest endpoints, and there the one that is free for
// longest, so that an address comes back as late as possible.
func (p *Pool) allocate(now time.Time, rest time.Duration) (Assigned, bool) {
	used := map[string]int{}
	for _, eni := range p.taken {
		used[eni]++
	}
	var best Assigned
	found := false
	for addr, a := range p.assigned {
		if !p.free(addr, now, rest) {
			continue
		}
		if !found || p.before(a, best, used) {
			best, found = a, true
		}
	}
	if found {
		p.taken[best.Address] = best.ENI
		delete(p.rested, best.Address)
	}
	return best, found
}

func (p *Pool) before(a, b Assigned, used map[string]int) bool {
	if a.Release != b.Release {
		return b.Release // what is wanted back is given last
	}
	return cmp.Or(
		cmp.Compare(used[a.ENI], used[b.ENI]),
		cmp.Compare(a.DeviceIndex, b.DeviceIndex),
		p.rested[a.Address].Compare(p.rested[b.Address]),
		a.Address.Compare(b.Address),
	) < 0
}

func (p *Pool) free(a netip.Addr, now time.Time, rest time.Duration) bool {
	if _, ok := p.taken[a]; ok || p.isFenced(p.assigned[a]) {
		return false
	}
	since, ok := p.rested[a]
	return !ok || rests(since, now, rest) <= 0
}

// rests returns for how much longer an address released at since rests, of a whole rest. A clock that was
// set back makes no address rest for longer than it would have.
func rests(since, now time.Time, rest time.Duration) time.Duration {
	return min(rest-now.Sub(since), rest)
}

// Take marks an address as an endpoint's. It reports whether it was nobody's.
func (p *Pool) Take(a netip.Addr, eni string) bool {
	if _, ok := p.taken[a]; ok {
		return false
	}
	p.taken[a] = eni
	return true
}

// Release gives an address back, to rest from now on.
func (p *Pool) Release(a netip.Addr, now time.Time) {
	delete(p.taken, a)
	p.rested[a] = now
}

// Untake gives back an address that never was seen outside.
func (p *Pool) Untake(a netip.Addr) { delete(p.taken, a) }

// Forget drops the rest of addresses that have rested, and returns after how long the next may be given,
// if only after a short rest.
func (p *Pool) Forget(now time.Time) (next time.Duration, any bool) {
	for a, since := range p.rested {
		left := rests(since, now, CoolDown)
		if short := rests(since, now, ShortRest); short > 0 {
			left = short
		}
		if left <= 0 {
			if _, ok := p.assigned[a]; !ok {
				delete(p.rested, a)
			}
			continue
		}
		if !any || left < next {
			next, any = left, true
		}
	}
	return next, any
}

// Counts of a pool.
type Counts struct{ Held, Used, Resting, Free int }

// Counts returns how the assigned addresses are used. Used also counts those that are taken though they
// are no longer assigned; fenced ones aren't held.
func (p *Pool) Counts(now time.Time) Counts {
	c := Counts{Used: len(p.taken)}
	for a, as := range p.assigned {
		_, taken := p.taken[a]
		if p.isFenced(as) && !taken {
			continue
		}
		c.Held++
		if p.free(a, now, CoolDown) {
			c.Free++
		} else if !taken {
			c.Resting++
		}
	}
	return c
}

// Lost returns taken addresses that are no longer assigned.
func (p *Pool) Lost() []netip.Addr {
	var out []netip.Addr
	for a := range p.taken {
		if _, ok := p.assigned[a]; !ok {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
