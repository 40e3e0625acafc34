package socklb

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
)

// recover takes over what an earlier agent wrote. Slots and members without a frontend, as one that was killed
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
		e := &entry{value: fe, written: true, members: map[netip.AddrPort]bool{}}
		t.entries[key.address()], bySet[fe.Set], t.used[fe.Set] = e, e, true
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
	var mk memberKey
	var one uint32
	var lost []memberKey
	for it := m.members.Iterate(); ; {
		if !it.Next(&mk, &one) {
			if err := it.Err(); err != nil {
				return fmt.Errorf("read members: %w", err)
			}
			break
		}
		if e := bySet[mk.Set]; e != nil {
			e.members[addrPort(mk.Addr, mk.Port)] = true
		} else {
			lost = append(lost, mk)
		}
	}
	for _, k := range lost {
		if err := m.members.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove a member that nobody has: %w", err)
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
