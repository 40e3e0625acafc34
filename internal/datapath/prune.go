package datapath

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/weft-cni/weft/internal/contract"
)

// Prune removes every entry and program that isn't named. It adds nothing: whoever calls it has set what
// it names before.
func (d *Datapath) Prune(endpoints []Endpoint, enis []ENI, addrs map[netip.Addr]uint32) error {
	end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	slots := map[uint32]bool{}
	handles := map[uint32]bool{}
	keep := map[attachment]bool{}
	addresses := map[wireAddr]bool{}
	for _, e := range endpoints {
		slots[e.Slot] = true
		keep[attachment{FromPod, e.Ifindex}], keep[attachment{ToPod, e.Ifindex}] = true, true
		addresses[toWire(e.Addr)] = true
		if e.Addr6.IsValid() {
			addresses[toWire(e.Addr6)] = true
		}
	}
	for _, e := range enis {
		handles[e.Handle] = true
		keep[attachment{FromNetdev, e.Ifindex}], keep[attachment{ToNetdev, e.Ifindex}] = true, true
	}
	for a := range addrs {
		addresses[toWire(a)] = true
	}
	return errors.Join(d.pruneEndpoints(slots), d.pruneENIs(handles), d.pruneAddresses(addresses), d.pruneAttached(keep))
}

func (d *Datapath) pruneEndpoints(keep map[uint32]bool) error {
	var errs []error
	for slot := range uint32(contract.MaxEndpoints) {
		if keep[slot] {
			continue
		}
		var e endpointValue
		if err := d.maps[weftMapWeftEndpoints].Lookup(slot, &e); err != nil {
			return fmt.Errorf("read slot %d: %w", slot, err)
		}
		if e != (endpointValue{}) {
			d.log.Info("Removing an endpoint that nobody names", "slot", slot, "address", fromWire(e.Addr))
			errs = append(errs, d.deleteEndpoint(slot))
		}
	}
	return errors.Join(errs...)
}

func (d *Datapath) pruneENIs(keep map[uint32]bool) error {
	var errs []error
	for handle := uint32(1); handle <= MaxENIs; handle++ {
		if !keep[handle] {
			errs = append(errs, d.deleteENI(handle))
		}
	}
	return errors.Join(errs...)
}

func (d *Datapath) pruneAddresses(keep map[wireAddr]bool) error {
	m := d.maps[weftMapWeftAddresses]
	var key wireAddr
	var value addressValue
	var stale []wireAddr
	it := m.Iterate()
	for it.Next(&key, &value) {
		if !keep[key] {
			stale = append(stale, key)
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read %s: %w", weftMapWeftAddresses, err)
	}
	var errs []error
	for _, key := range stale {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, fmt.Errorf("delete address %s: %w", fromWire(key), err))
		}
	}
	return errors.Join(errs...)
}

func (d *Datapath) pruneAttached(keep map[attachment]bool) error {
	attached, err := d.attacher.attached()
	if err != nil {
		return fmt.Errorf("list attached programs: %w", err)
	}
	var errs []error
	for _, a := range attached {
		if !keep[a] {
			errs = append(errs, d.attacher.detach(a.hook, a.ifindex))
		}
	}
	return errors.Join(errs...)
}
