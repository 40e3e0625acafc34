package datapath

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/weft-cni/weft/internal/contract"
)

// AddEndpoint writes the endpoint's entries and then attaches from_pod and to_pod to its device.
// Repeating it brings the device to this version's programs without a gap.
func (d *Datapath) AddEndpoint(e Endpoint) error {
	if err := e.Validate(); err != nil {
		return err
	}
	end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	if err := d.writeEndpoint(e); err != nil {
		return err
	}
	for _, h := range []Hook{ToPod, FromPod} {
		if err := d.attacher.attach(h, e.Ifindex, d.programs[h]); err != nil {
			return fmt.Errorf("endpoint %s: %w", e.Addr, err)
		}
	}
	return nil
}

func (d *Datapath) writeEndpoint(e Endpoint) error {
	var old endpointValue
	if err := d.maps[weftMapWeftEndpoints].Lookup(e.Slot, &old); err != nil {
		return fmt.Errorf("read slot %d: %w", e.Slot, err)
	}
	want := newEndpointValue(e)
	want.Class = old.Class
	if old.Flags&endpointValid != 0 {
		if old.Addr != want.Addr {
			if err := d.releaseAddress(old.Addr, e.Slot); err != nil {
				return err
			}
			want.Class = 0
		}
		if old.Addr6 != want.Addr6 {
			if err := d.releaseAddress(old.Addr6, e.Slot); err != nil {
				return err
			}
		}
	}
	// Before the flag that makes the programs look at it.
	if err := d.setBucket(e.Slot, e.EgressRate); err != nil {
		return err
	}
	if old != want {
		if err := d.maps[weftMapWeftEndpoints].Put(e.Slot, want); err != nil {
			return fmt.Errorf("write endpoint %s to slot %d: %w", e.Addr, e.Slot, err)
		}
	}
	address := addressValue{ENI: e.ENI, Flags: addressEndpoint, Slot: e.Slot, Generation: e.Generation}
	for _, key := range []wireAddr{want.Addr, want.Addr6} {
		if key == (wireAddr{}) {
			continue
		}
		if err := d.maps[weftMapWeftAddresses].Put(key, address); err != nil {
			return fmt.Errorf("write address %s: %w", fromWire(key), err)
		}
	}
	return nil
}

// DeleteEndpoint takes the programs off the slot's device and empties the slot. The address stays with
// its ENI until DeleteAddress. An empty slot is no error.
func (d *Datapath) DeleteEndpoint(slot uint32) error {
	end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	return d.deleteEndpoint(slot)
}

func (d *Datapath) deleteEndpoint(slot uint32) error {
	if slot >= contract.MaxEndpoints {
		return fmt.Errorf("slot is %d, expected less than %d", slot, contract.MaxEndpoints)
	}
	var old endpointValue
	if err := d.maps[weftMapWeftEndpoints].Lookup(slot, &old); err != nil {
		return fmt.Errorf("read slot %d: %w", slot, err)
	}
	// The entry goes first: a device that is still there sends nothing unchecked, but nothing at all.
	if old != (endpointValue{}) {
		if err := d.maps[weftMapWeftEndpoints].Put(slot, endpointValue{}); err != nil {
			return fmt.Errorf("empty slot %d: %w", slot, err)
		}
		if err := errors.Join(d.releaseAddress(old.Addr, slot), d.releaseAddress(old.Addr6, slot)); err != nil {
			return err
		}
	}
	ifindex := contract.IfindexBase + int(slot)
	return errors.Join(d.attacher.detach(FromPod, ifindex), d.attacher.detach(ToPod, ifindex))
}

// releaseAddress takes the endpoint's mark off its address, unless another slot holds it by now.
func (d *Datapath) releaseAddress(addr wireAddr, slot uint32) error {
	if addr == (wireAddr{}) {
		return nil
	}
	var a addressValue
	err := d.maps[weftMapWeftAddresses].Lookup(addr, &a)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read address %s: %w", fromWire(addr), err)
	}
	if a.Flags&addressEndpoint == 0 || a.Slot != slot {
		return nil
	}
	if err := d.maps[weftMapWeftAddresses].Put(addr, addressValue{ENI: a.ENI}); err != nil {
		return fmt.Errorf("write address %s: %w", fromWire(addr), err)
	}
	return nil
}

// SetAddress says which ENI owns an address of this node; an endpoint that holds it keeps it.
func (d *Datapath) SetAddress(addr netip.Addr, eni uint32) error {
	if err := ValidateAddress(addr, eni); err != nil {
		return err
	}
	end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	return d.writeAddress(addr, eni)
}

func (d *Datapath) writeAddress(addr netip.Addr, eni uint32) error {
	key := toWire(addr)
	var have addressValue
	err := d.maps[weftMapWeftAddresses].Lookup(key, &have)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("read address %s: %w", addr, err)
	}
	want := have
	want.ENI = eni
	if err == nil && have == want {
		return nil
	}
	if err := d.maps[weftMapWeftAddresses].Put(key, want); err != nil {
		return fmt.Errorf("write address %s: %w", addr, err)
	}
	return nil
}

// SetHostAddresses says which of the addresses that SetAddress named are the node's own, and no others: a device of
// the host has them, so that services for every address of the node are at them.
func (d *Datapath) SetHostAddresses(own []netip.Addr) error {
	end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	want := map[wireAddr]bool{}
	for _, a := range own {
		want[toWire(a)] = true
	}
	changed := map[wireAddr]addressValue{}
	err = walk(d.maps[weftMapWeftAddresses], func(key wireAddr, v addressValue) bool {
		flags := v.Flags &^ addressHost
		if want[key] {
			flags |= addressHost
		}
		if flags != v.Flags {
			v.Flags = flags
			changed[key] = v
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", weftMapWeftAddresses, err)
	}
	for key, v := range changed {
		if err := d.maps[weftMapWeftAddresses].Put(key, v); err != nil {
			return fmt.Errorf("write address %s: %w", fromWire(key), err)
		}
	}
	return nil
}

// DeleteAddress forgets an address; one that isn't known is no error.
func (d *Datapath) DeleteAddress(addr netip.Addr) error {
	end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	err = d.maps[weftMapWeftAddresses].Delete(toWire(addr))
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("delete address %s: %w", addr, err)
	}
	return nil
}
