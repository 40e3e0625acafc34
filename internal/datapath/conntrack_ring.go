package datapath

import (
	"fmt"

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

// writeRings divides the slots among the rings. Rings that are in use stay as they are.
func (d *Datapath) writeRings() error {
	rings := d.maps[weftMapWeftCtRings]
	base := uint32(0)
	for i, n := range ringSizes(d.maps[mapConntrackTCP].MaxEntries(), d.maps[mapConntrackAny].MaxEntries()) {
		var have ctRing
		if err := rings.Lookup(uint32(i), &have); err != nil {
			return fmt.Errorf("read %s: %w", weftMapWeftCtRings, err)
		}
		if have.Size == 0 {
			if err := rings.Put(uint32(i), ctRing{Size: n, Base: base}); err != nil {
				return fmt.Errorf("write %s: %w", weftMapWeftCtRings, err)
			}
		}
		base += n
	}
	return nil
}
