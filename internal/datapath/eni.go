package datapath

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// SetENI writes the ENI's entry and then attaches from_netdev and to_netdev to its device. Addresses
// should be set before the first ENI is: to_netdev drops a pod's packet whose source has no owner.
func (d *Datapath) SetENI(e ENI) error {
	want, err := deviceOf(e)
	if err != nil {
		return err
	}
	end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	old, err := d.writeENI(e.Handle, want)
	if err != nil {
		return err
	}
	for _, h := range []Hook{ToNetdev, FromNetdev} {
		if err := d.attacher.attach(h, e.Ifindex, d.programs[h]); err != nil {
			return fmt.Errorf("ENI %s: %w", e.MAC, err)
		}
	}
	if err := d.keepNextHops(e); err != nil {
		return err
	}
	// The same ENI attached again has another index; its old device, if it is there, is not ours.
	if old.Flags&eniValid != 0 && old.Ifindex != want.Ifindex {
		return d.detachNetdev(int(old.Ifindex))
	}
	return nil
}

// deviceOf looks at the ENI's device and returns its entry.
func deviceOf(e ENI) (eniValue, error) {
	if err := e.Validate(); err != nil {
		return eniValue{}, err
	}
	device, err := netlink.LinkByIndex(e.Ifindex)
	if err != nil {
		return eniValue{}, fmt.Errorf("ENI %s: %w", e.MAC, &DeviceError{Ifindex: e.Ifindex, Err: err})
	}
	// Indexes are used again: what stands there now may be somebody else's.
	if have := device.Attrs().HardwareAddr; !bytes.Equal(have, e.MAC) {
		return eniValue{}, fmt.Errorf("ENI %s: device %s with interface index %d has MAC %s, expected the ENI's", e.MAC, device.Attrs().Name, e.Ifindex, have)
	}
	return newENIValue(e, device.Attrs().MTU), nil
}

// writeENI returns what was there.
func (d *Datapath) writeENI(handle uint32, want eniValue) (eniValue, error) {
	m := d.maps[weftMapWeftEnis]
	var old eniValue
	if err := m.Lookup(handle, &old); err != nil {
		return old, fmt.Errorf("read ENI %d: %w", handle, err)
	}
	if old != want {
		if err := m.Put(handle, want); err != nil {
			return old, fmt.Errorf("write ENI %d: %w", handle, err)
		}
	}
	return old, nil
}

// DeleteENI forgets the ENI and takes the programs off its device; an unknown handle is no error.
func (d *Datapath) DeleteENI(handle uint32) error {
	end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	return d.deleteENI(handle)
}

func (d *Datapath) deleteENI(handle uint32) error {
	if handle < 1 || handle > MaxENIs {
		return fmt.Errorf("ENI handle is %d, expected 1 to %d", handle, MaxENIs)
	}
	m := d.maps[weftMapWeftEnis]
	var old eniValue
	if err := m.Lookup(handle, &old); err != nil {
		return fmt.Errorf("read ENI %d: %w", handle, err)
	}
	if old == (eniValue{}) {
		return nil
	}
	if err := m.Put(handle, eniValue{}); err != nil {
		return fmt.Errorf("empty ENI %d: %w", handle, err)
	}
	return d.detachNetdev(int(old.Ifindex))
}

// detachNetdev takes our programs off a device, unless another ENI's entry names it.
func (d *Datapath) detachNetdev(ifindex int) error {
	for handle := uint32(1); handle <= MaxENIs; handle++ {
		var e eniValue
		if err := d.maps[weftMapWeftEnis].Lookup(handle, &e); err != nil {
			return fmt.Errorf("read ENI %d: %w", handle, err)
		}
		if e.Flags&eniValid != 0 && int(e.Ifindex) == ifindex {
			return nil
		}
	}
	return errors.Join(d.attacher.detach(FromNetdev, ifindex), d.attacher.detach(ToNetdev, ifindex))
}

// keepNextHops has the kernel resolve the ENI's next hops now and keep them resolved. A redirected packet
// that has to wait for the neighbour is later sent with the header of the device that it was redirected
// from, and lost.
func (d *Datapath) keepNextHops(e ENI) error {
	var errs []error
	for family, next := range map[int]netip.Addr{netlink.FAMILY_V4: e.NextHop.Unmap(), netlink.FAMILY_V6: e.NextHop6} {
		if !next.IsValid() {
			continue
		}
		if err := keepNextHop(e.Ifindex, family, next); err != nil {
			errs = append(errs, fmt.Errorf("ENI %s: %w", e.MAC, err))
		}
	}
	return errors.Join(errs...)
}

func keepNextHop(ifindex, family int, next netip.Addr) error {
	neighbours, err := listed(func() ([]netlink.Neigh, error) { return netlink.NeighList(ifindex, family) })
	if err != nil {
		return fmt.Errorf("list its neighbours: %w", err)
	}
	for _, n := range neighbours {
		have, ok := netip.AddrFromSlice(n.IP)
		if ok && have.Unmap() == next && (n.FlagsExt&netlink.NTF_EXT_MANAGED != 0 || n.State&netlink.NUD_PERMANENT != 0) {
			return nil
		}
	}
	err = netlink.NeighSet(&netlink.Neigh{LinkIndex: ifindex, Family: family, IP: next.AsSlice(),
		State: netlink.NUD_NONE, FlagsExt: netlink.NTF_EXT_MANAGED})
	if err != nil {
		return fmt.Errorf("keep its next hop %s resolved: %w", next, err)
	}
	return nil
}
