package socklb

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	corev1 "k8s.io/api/core/v1"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

// A store is one map.
type store interface {
	Put(key, value any) error
	Delete(key any) error
}

// stores are the maps that a table writes. That of maglev takes sets and slot numbers.
type stores struct{ frontends, backends, members, ranges, maglev store }

// entry is a frontend as it is in the maps.
type entry struct {
	value   frontendValue
	written bool // value is in the map
	slots   []netip.AddrPort
	members map[netip.AddrPort]bool
	ranges  map[netip.Prefix]bool
	// maglev are the slots that the set's table was made of; it has one if chosen is set.
	maglev []netip.AddrPort
	chosen bool
}

// table writes frontends with as few writes as the change needs, in an order in which no client ever meets a slot
// that isn't filled: slots before the count that covers them, the count before the slots that it leaves.
type table struct {
	to      stores
	size    int // of Maglev's tables
	entries map[loadbalancer.Key]*entry
	owners  map[loadbalancer.Key]loadbalancer.Name
	of      map[loadbalancer.Name]map[loadbalancer.Key]bool // the same the other way round
	lastSet uint32
	used    map[uint32]bool // sets
	// gone are backends of datagrams that went since the last look: sockets may be connected to them.
	gone map[goneBackend]bool
}

// A goneBackend is one that a set has no more.
type goneBackend struct {
	set     uint32
	backend netip.AddrPort
}

func newTable(to stores, size int) *table {
	return &table{to: to, size: size, entries: map[loadbalancer.Key]*entry{}, owners: map[loadbalancer.Key]loadbalancer.Name{},
		of: map[loadbalancer.Name]map[loadbalancer.Key]bool{}, used: map[uint32]bool{}, gone: map[goneBackend]bool{}}
}

func newEntry(v frontendValue) *entry {
	return &entry{value: v, members: map[netip.AddrPort]bool{}, ranges: map[netip.Prefix]bool{}}
}

// apply makes the services what the changes say, and returns those that it couldn't, with why.
func (t *table) apply(changes []loadbalancer.Change) map[loadbalancer.Name]error {
	failed := map[loadbalancer.Name]error{}
	// An address may go from one service to another in the same moment: it isn't gone then.
	leaving := map[loadbalancer.Key]loadbalancer.Name{}
	for _, c := range changes {
		for a := range t.of[c.Service] {
			leaving[a] = c.Service
		}
	}
	for _, c := range changes {
		for _, f := range c.Frontends {
			key := f.Key()
			delete(leaving, key)
			t.own(key, c.Service)
			if err := t.put(f); err != nil {
				failed[c.Service] = errors.Join(failed[c.Service], fmt.Errorf("%s: %w", key, err))
			}
		}
	}
	for a, service := range leaving {
		if err := t.remove(a); err != nil {
			failed[service] = errors.Join(failed[service], fmt.Errorf("remove %s: %w", a, err))
		}
	}
	return failed
}

func (t *table) own(a loadbalancer.Key, service loadbalancer.Name) {
	t.disown(a)
	t.owners[a] = service
	if t.of[service] == nil {
		t.of[service] = map[loadbalancer.Key]bool{}
	}
	t.of[service][a] = true
}

func (t *table) disown(a loadbalancer.Key) {
	before, ok := t.owners[a]
	if !ok {
		return
	}
	delete(t.owners, a)
	delete(t.of[before], a)
	if len(t.of[before]) == 0 {
		delete(t.of, before)
	}
}

// prune removes what no service has that was applied so far.
func (t *table) prune() error {
	var errs []error
	for a := range t.entries {
		if _, ok := t.owners[a]; !ok {
			errs = append(errs, t.remove(a))
		}
	}
	return errors.Join(errs...)
}

func (t *table) newSet() uint32 {
	for {
		t.lastSet++
		if t.lastSet != 0 && !t.used[t.lastSet] {
			t.used[t.lastSet] = true
			return t.lastSet
		}
	}
}

func wantFlags(f loadbalancer.Frontend) uint32 {
	var flags uint32
	for _, o := range []struct {
		is   bool
		flag uint32
	}{
		{f.Refuse, flagRefuse},
		{f.Affinity > 0, flagAffinity | flagMembers},
		// Who sends datagrams one by one stays with a backend while that is one; so do its flows.
		{f.Address.Protocol != corev1.ProtocolTCP, flagMembers},
		{f.Outside, flagOutside}, {f.OutsideOwn, flagOutsideOwn},
		{f.Restricted, flagRanges}, {f.Restricted && f.HostAllowed, flagRangesHost},
		{f.Maglev && len(f.Backends) > 0, flagMaglev},
	} {
		if o.is {
			flags |= o.flag
		}
	}
	return flags
}

func (t *table) put(f loadbalancer.Frontend) error {
	key := f.Key()
	e := t.entries[key]
	if e == nil {
		e = newEntry(frontendValue{Set: t.newSet()})
		t.entries[key] = e
	}
	want := frontendValue{Set: e.value.Set, Count: uint32(len(f.Backends)), Flags: wantFlags(f),
		Affinity: uint32(f.Affinity / time.Second)}
	// Also for the last moment in which the maps say that there are members.
	if (want.Flags|e.value.Flags)&flagMembers != 0 {
		if err := t.addMembers(e, f.Backends); err != nil {
			return err
		}
	}
	if err := t.addRanges(e, f.Ranges); err != nil {
		return err
	}
	if err := t.fill(e, f.Backends); err != nil {
		return err
	}
	// Without its table the set is chosen from at random, and the next try makes it.
	noTable := t.fillMaglev(e, want)
	if noTable != nil {
		want.Flags &^= flagMaglev
	}
	if !e.written || e.value != want {
		if err := t.to.frontends.Put(newFrontendKey(key), want); err != nil {
			return fmt.Errorf("write the frontend: %w", err)
		}
		e.value, e.written = want, true
	}
	if err := t.shrink(e, len(f.Backends)); err != nil {
		return err
	}
	keep := f.Backends
	if want.Flags&flagMembers == 0 {
		keep = nil
	}
	var tableErr error
	if want.Flags&flagMaglev == 0 {
		tableErr = t.dropMaglev(e)
	}
	return errors.Join(noTable, tableErr, t.dropRanges(e, f.Ranges), t.dropMembers(e, keep))
}

// fill writes the slots that the frontend will have; those beyond stay for now.
func (t *table) fill(e *entry, want []netip.AddrPort) error {
	slots, writes := arrange(e.slots, want)
	for _, i := range writes {
		if err := t.to.backends.Put(slotKey{e.value.Set, uint32(i)}, newBackend(slots[i])); err != nil {
			return fmt.Errorf("write backend %s: %w", slots[i], err)
		}
		if i < len(e.slots) {
			e.slots[i] = slots[i]
		} else {
			e.slots = append(e.slots, slots[i])
		}
	}
	return nil
}

func (t *table) shrink(e *entry, count int) error {
	for len(e.slots) > count {
		last := len(e.slots) - 1
		if err := t.to.backends.Delete(slotKey{e.value.Set, uint32(last)}); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove backend %s: %w", e.slots[last], err)
		}
		e.slots = e.slots[:last]
	}
	return nil
}

func (t *table) addMembers(e *entry, want []netip.AddrPort) error {
	for _, b := range want {
		if e.members[b] {
			continue
		}
		if err := t.to.members.Put(newMember(e.value.Set, b), uint32(1)); err != nil {
			return fmt.Errorf("write member %s: %w", b, err)
		}
		e.members[b] = true
	}
	return nil
}

func (t *table) dropMembers(e *entry, keep []netip.AddrPort) error {
	kept := make(map[netip.AddrPort]bool, len(keep))
	for _, b := range keep {
		kept[b] = true
	}
	for b := range e.members {
		if kept[b] {
			continue
		}
		if err := t.to.members.Delete(newMember(e.value.Set, b)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove member %s: %w", b, err)
		}
		delete(e.members, b)
		t.gone[goneBackend{e.value.Set, b}] = true
	}
	return nil
}

func (t *table) remove(key loadbalancer.Key) error {
	e := t.entries[key]
	if e == nil {
		t.disown(key)
		return nil
	}
	if err := t.to.frontends.Delete(newFrontendKey(key)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove the frontend: %w", err)
	}
	e.written = false // whoever has the address again before all is gone writes it anew
	if err := errors.Join(t.shrink(e, 0), t.dropMaglev(e), t.dropRanges(e, nil), t.dropMembers(e, nil)); err != nil {
		return err
	}
	delete(t.used, e.value.Set)
	delete(t.entries, key)
	t.disown(key)
	return nil
}
