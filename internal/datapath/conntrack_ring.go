package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// ringSizes: a ring holds a slot for each entry that must be found when it has expired, and for those that
// have gone since, until their turn comes.
func ringSizes(tcp, other uint32) [ringMax]uint32 {
	const least = 1024 // far more than the slots that are kept free
	return [ringMax]uint32{
		ringNew:    max(least, other/2),
		ringEst:    tcp + tcp/2 + least,
		ringClosed: max(least, tcp/8),
	}
}

// sizeSlots makes room for the rings that belong to the sizes of the tables.
func sizeSlots(spec *ebpf.CollectionSpec) {
	var slots uint32
	for _, n := range ringSizes(spec.Maps[mapConntrackTCP].MaxEntries, spec.Maps[mapConntrackAny].MaxEntries) {
		slots += n
	}
	spec.Maps[weftMapWeftCtSlots].MaxEntries = slots
}

// unpinLoneRings: rings and their slots are one thing in two maps. If somebody took one's pin, the other is
// of no use.
func unpinLoneRings(object *Object, dir string) error {
	rings, slots := filepath.Join(dir, object.pinName(weftMapWeftCtRings)), filepath.Join(dir, object.pinName(weftMapWeftCtSlots))
	_, ringsErr := os.Stat(rings)
	_, slotsErr := os.Stat(slots)
	switch {
	case ringsErr == nil && errors.Is(slotsErr, os.ErrNotExist):
		return os.Remove(rings)
	case slotsErr == nil && errors.Is(ringsErr, os.ErrNotExist):
		return os.Remove(slots)
	}
	return nil
}

// writeRings divides the slots among new rings, and has the timer find what the tables hold already. Rings
// that are in use stay as they are.
func (d *Datapath) writeRings() error {
	rings := d.maps[weftMapWeftCtRings]
	sizes := ringSizes(d.maps[mapConntrackTCP].MaxEntries(), d.maps[mapConntrackAny].MaxEntries())
	// As many as a table can hold beside those who are established, whoever floods it.
	most := int64(d.maps[mapConntrackTCP].MaxEntries() / 8)
	if err := d.maps[weftMapWeftCtBeginning].Put(uint32(beginningMost), most); err != nil {
		return fmt.Errorf("write %s: %w", weftMapWeftCtBeginning, err)
	}
	var have ctRing
	if err := rings.Lookup(uint32(ringMax-1), &have); err != nil {
		return fmt.Errorf("read %s: %w", weftMapWeftCtRings, err)
	}
	if have.Size != 0 {
		return nil
	}
	base := uint32(0)
	for i, n := range sizes {
		ring := ctRing{Size: n, Base: base}
		if i == ringEst {
			var err error
			if ring.Head, err = d.fillRing(base); err != nil {
				return err
			}
		}
		if err := rings.Put(uint32(i), ring); err != nil {
			return fmt.Errorf("write %s: %w", weftMapWeftCtRings, err)
		}
		base += n
	}
	return nil
}

// fillRing writes a slot for every established connection and returns how many there are.
func (d *Datapath) fillRing(base uint32) (uint64, error) {
	var indexes []uint32
	var slots []ctSlot
	if _, err := d.eachEntry(func(table string, key ctKey, e ctEntry) bool {
		if table == mapConntrackTCP && e.Flags&ctAlias == 0 {
			indexes = append(indexes, base+uint32(len(indexes)))
			slots = append(slots, ctSlot{Key: key, Generation: e.Generation, Due: e.Expires})
		}
		return table == mapConntrackTCP
	}); err != nil {
		return 0, err
	}
	for done := 0; done < len(slots); {
		end := min(len(slots), done+connectionBatch)
		n, err := d.maps[weftMapWeftCtSlots].BatchUpdate(indexes[done:end], slots[done:end], nil)
		if err != nil {
			return 0, fmt.Errorf("write %s: %w", weftMapWeftCtSlots, err)
		}
		done += n
	}
	return uint64(len(slots)), nil
}
