package endpoint

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Fence is an address that this node gave up for ever, under the generation in which it held it.
type Fence struct {
	Address    netip.Addr `json:"address"`
	Generation int64      `json:"generation"`
}

// FenceStore makes fences durable. After an error the old ones stand.
type FenceStore interface {
	Put(all []Fence) error
}

// fence is what a pool knows of a fenced address.
type fence struct {
	generation int64
	// kept: it is on disk, and may be told.
	kept bool
}

// Recover takes back fences that an earlier process wrote, and those that the operator was told of: they hold
// though the disk was lost. It comes before the first Assign.
func (m *Manager) Recover(written, told []Fence) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range told {
		m.pool.fenced[f.Address] = fence{generation: f.Generation}
	}
	for _, f := range written {
		if m.pool.fenced[f.Address].generation <= f.Generation {
			m.pool.fenced[f.Address] = fence{f.Generation, true}
		}
	}
	m.fencesDiffer = slices.ContainsFunc(told, func(f Fence) bool { return !m.pool.fenced[f.Address].kept })
}

// Fence gives up the addresses that the operator wants back, of all that are assigned to the node: those that
// are free and have rested. First they leave the pool, then they are written to disk, and only then does Usage
// have them. A fence ends when the address is gone, or is held under another generation.
func (m *Manager) Fence(all []Assigned) error {
	m.fencing.Lock()
	defer m.fencing.Unlock()
	m.mu.Lock()
	fresh := m.pool.fence(all, m.now())
	differs := m.pool.endFences(all) || len(fresh) > 0 || m.fencesDiffer
	write := m.pool.fences(false)
	m.fencesDiffer = differs
	m.mu.Unlock()
	if !differs {
		return nil
	}
	err := m.fences.Put(write)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		// Nobody was told: they can be given again.
		m.pool.unfence(fresh)
		m.wake()
		return err
	}
	m.fencesDiffer = false
	m.pool.keepFences(write)
	m.touch()
	return nil
}

// fence takes out of the pool what is wanted back and free.
func (p *Pool) fence(all []Assigned, now time.Time) []Fence {
	var out []Fence
	for _, a := range all {
		if !a.Release || p.isFenced(a) {
			continue
		}
		_, taken := p.taken[a.Address]
		since, rested := p.rested[a.Address]
		if taken || rested && rests(since, now, CoolDown) > 0 {
			continue
		}
		p.fenced[a.Address] = fence{generation: a.Generation}
		out = append(out, Fence{a.Address, a.Generation})
	}
	return out
}

// endFences forgets fences of addresses that the node no longer holds under the generation.
func (p *Pool) endFences(all []Assigned) (some bool) {
	held := make(map[Fence]bool, len(all))
	for _, a := range all {
		held[Fence{a.Address, a.Generation}] = true
	}
	for a, f := range p.fenced {
		if !held[Fence{a, f.generation}] {
			delete(p.fenced, a)
			some = true
		}
	}
	return some
}

// unfence puts back what could not be written.
func (p *Pool) unfence(fresh []Fence) {
	for _, f := range fresh {
		delete(p.fenced, f.Address)
	}
}

// keepFences notes what was written.
func (p *Pool) keepFences(written []Fence) {
	for _, w := range written {
		if f, ok := p.fenced[w.Address]; ok && f.generation == w.Generation {
			p.fenced[w.Address] = fence{f.generation, true}
		}
	}
}

// isFenced says whether the node gave the address up under this generation.
func (p *Pool) isFenced(a Assigned) bool {
	f, ok := p.fenced[a.Address]
	return ok && f.generation == a.Generation
}

// fences lists them by address. Those to tell are on disk and of no endpoint: one may have the address if it
// was found in the kernel without a record.
func (p *Pool) fences(tell bool) []Fence {
	var out []Fence
	for a, f := range p.fenced {
		if _, taken := p.taken[a]; tell && (taken || !f.kept) {
			continue
		}
		out = append(out, Fence{a, f.generation})
	}
	slices.SortFunc(out, func(x, y Fence) int {
		return cmp.Or(x.Address.Compare(y.Address), cmp.Compare(x.Generation, y.Generation))
	})
	return out
}
