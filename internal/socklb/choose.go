package socklb

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

// DefaultMaglevSize is that of Maglev's tables if none is given, Cilium's.
const DefaultMaglevSize = 16381

// maglevMap writes a set's table as a map of its own, which takes the place of the one before at once.
type maglevMap struct{ outer *ebpf.Map }

func (m maglevMap) Put(key, value any) error {
	inner, err := newMaglev(value.([]uint16))
	if err != nil {
		return err
	}
	return errors.Join(m.outer.Put(key, inner), inner.Close())
}

func (m maglevMap) Delete(key any) error { return m.outer.Delete(key) }

// fillMaglev writes the set's table if it isn't of the slots that the frontend will have.
func (t *table) fillMaglev(e *entry, want frontendValue) error {
	if want.Flags&flagMaglev == 0 {
		return nil
	}
	slots := e.slots[:want.Count]
	if len(slots) > math.MaxUint16 {
		return fmt.Errorf("%d backends are too many for a table of Maglev's, expected %d at most", len(slots), math.MaxUint16)
	}
	if e.chosen && slices.Equal(e.maglev, slots) {
		return nil
	}
	numbers := make([]uint16, 0, t.size)
	for _, slot := range loadbalancer.Maglev(slots, t.size) {
		numbers = append(numbers, uint16(slot))
	}
	if err := t.to.maglev.Put(e.value.Set, numbers); err != nil {
		return fmt.Errorf("write the table of Maglev: %w", err)
	}
	e.maglev, e.chosen = slices.Clone(slots), true
	return nil
}

func (t *table) dropMaglev(e *entry) error {
	if !e.chosen {
		return nil
	}
	if err := t.to.maglev.Delete(e.value.Set); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove the table of Maglev: %w", err)
	}
	e.maglev, e.chosen = nil, false
	return nil
}

func (t *table) addRanges(e *entry, want []netip.Prefix) error {
	for _, p := range want {
		if e.ranges[p] {
			continue
		}
		if err := t.to.ranges.Put(newRange(e.value.Set, p), uint32(1)); err != nil {
			return fmt.Errorf("write source range %s: %w", p, err)
		}
		e.ranges[p] = true
	}
	return nil
}

func (t *table) dropRanges(e *entry, keep []netip.Prefix) error {
	for p := range e.ranges {
		if slices.Contains(keep, p) {
			continue
		}
		if err := t.to.ranges.Delete(newRange(e.value.Set, p)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove source range %s: %w", p, err)
		}
		delete(e.ranges, p)
	}
	return nil
}
