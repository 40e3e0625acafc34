package socklb

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
)

// recover takes over what an earlier agent wrote. What has no frontend, as one that was killed
// between two writes leaves them, are removed.
func (t *table) recover(m maps) error {
	var key keyValue
	var fe frontendValue
	bySet := map[uint32]*entry{}
	for it := m.frontends.Iterate(); ; {
		if !it.Next(&key, &fe) {
			if err := it.Err(); err != nil {
				return fmt.Errorf("read frontends: %w", err)
			}
			break
		}
		e := newEntry(fe)
		e.written = true
		t.entries[key.key()], bySet[fe.Set], t.used[fe.Set] = e, e, true
		t.lastSet = max(t.lastSet, fe.Set)
	}
	strays, err := recoverSlots(m.backends, bySet)
	if err != nil {
		return err
	}
	for _, k := range strays {
		if err := m.backends.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove a slot that nobody has: %w", err)
		}
	}
	return errors.Join(
		sweep(m.members, "member", func(k memberKey) bool {
			e := bySet[k.Set]
			if e != nil {
				e.members[addrPort(k.Addr, k.Port)] = true
			}
			return e != nil
		}),
		sweep(m.ranges, "source range", func(k rangeKey) bool {
			e := bySet[k.Set]
			if e != nil {
				e.ranges[k.prefix()] = true
			}
			return e != nil
		}),
		sweep(m.maglev, "table of Maglev", func(set uint32) bool {
			e := bySet[set]
			if e != nil {
				e.chosen = true // of which slots isn't known: it is written again
			}
			return e != nil
		}))
}

// sweep removes the keys that keep doesn't want.
func sweep[K any](m *ebpf.Map, what string, keep func(K) bool) error {
	var lost []K
	var key K
	value := make([]byte, m.ValueSize())
	for it := m.Iterate(); ; {
		if !it.Next(&key, &value) {
			if err := it.Err(); err != nil {
				return fmt.Errorf("read each %s: %w", what, err)
			}
			break
		}
		if !keep(key) {
			lost = append(lost, key)
		}
	}
	for _, k := range lost {
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove a %s that nobody has: %w", what, err)
		}
	}
	return nil
}

// recoverSlots fills the entries' slots and returns those that belong to none. What follows a hole is removed,
// too: it will be written again.
func recoverSlots(m *ebpf.Map, bySet map[uint32]*entry) ([]slotKey, error) {
	found := map[uint32]map[uint32]netip.AddrPort{}
	var key slotKey
	var be backendValue
	for it := m.Iterate(); ; {
		if !it.Next(&key, &be) {
			if err := it.Err(); err != nil {
				return nil, fmt.Errorf("read backends: %w", err)
			}
			break
		}
		if found[key.Set] == nil {
			found[key.Set] = map[uint32]netip.AddrPort{}
		}
		found[key.Set][key.Slot] = addrPort(be.Addr, be.Port)
	}
	var strays []slotKey
	for set, slots := range found {
		e := bySet[set]
		if e != nil {
			for i := uint32(0); ; i++ {
				a, ok := slots[i]
				if !ok {
					break
				}
				e.slots = append(e.slots, a)
				delete(slots, i)
			}
		}
		for i := range slots {
			strays = append(strays, slotKey{set, i})
		}
	}
	slices.SortFunc(strays, func(a, b slotKey) int { return int(b.Slot) - int(a.Slot) })
	return strays, nil
}
