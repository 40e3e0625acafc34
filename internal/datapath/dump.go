package datapath

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/weft-cni/weft/internal/contract"
)

// An Address is what the datapath knows of one address of this node.
type Address struct {
	ENI        uint32
	Endpoint   bool   // an endpoint holds it
	Slot       uint32 // of that endpoint
	Generation uint32
}

// An Attachment is a program of ours on a device.
type Attachment struct {
	Hook    Hook
	Ifindex int
}

// State is everything that the datapath was told and holds; it outlives the agent.
type State struct {
	Endpoints []Endpoint // by slot
	ENIs      []ENI      // by handle
	Addresses map[netip.Addr]Address
	Prefixes  map[netip.Prefix]PrefixInfo
	Attached  []Attachment // by interface index and hook
}

// Dump reads the maps and pins back.
func (d *Datapath) Dump() (State, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := State{Addresses: map[netip.Addr]Address{}}
	for slot := range uint32(contract.MaxEndpoints) {
		var e endpointValue
		if err := d.maps[weftMapWeftEndpoints].Lookup(slot, &e); err != nil {
			return s, fmt.Errorf("read slot %d: %w", slot, err)
		}
		if e.Flags&endpointValid != 0 {
			s.Endpoints = append(s.Endpoints, Endpoint{Slot: slot, Ifindex: int(e.Ifindex), Addr: fromWire(e.Addr), Addr6: fromWire(e.Addr6),
				PodMAC: fromMAC(e.PodMAC), HostMAC: fromMAC(e.HostMAC), Generation: e.Generation, ENI: e.ENI, Queued: e.Flags&endpointQueued != 0})
		}
	}
	for handle := uint32(1); handle <= MaxENIs; handle++ {
		var e eniValue
		if err := d.maps[weftMapWeftEnis].Lookup(handle, &e); err != nil {
			return s, fmt.Errorf("read ENI %d: %w", handle, err)
		}
		if e.Flags&eniValid != 0 {
			s.ENIs = append(s.ENIs, ENI{Handle: handle, Ifindex: int(e.Ifindex), MAC: fromMAC(e.MAC), NextHop: fromWire(e.NextHop), NextHop6: fromWire(e.NextHop6),
				Masquerade: fromWire(e.Masquerade), Masquerade6: fromWire(e.Masquerade6), MasqueradeENI: e.MasqueradeENI, Paced: e.Flags&eniPaced != 0})
		}
	}
	var key wireAddr
	var value addressValue
	it := d.maps[weftMapWeftAddresses].Iterate()
	for it.Next(&key, &value) {
		s.Addresses[fromWire(key)] = Address{ENI: value.ENI, Endpoint: value.Flags&addressEndpoint != 0,
			Slot: value.Slot, Generation: value.Generation}
	}
	if err := it.Err(); err != nil {
		return s, fmt.Errorf("read %s: %w", weftMapWeftAddresses, err)
	}
	prefixes, err := d.readPrefixes()
	if err != nil {
		return s, err
	}
	s.Prefixes = map[netip.Prefix]PrefixInfo{}
	for key, value := range prefixes {
		if key == everyIPv4() && value == (ipcacheValue{}) {
			continue // the same as none
		}
		s.Prefixes[key.prefix()] = value.info()
	}
	if s.Attached, err = d.attachments(); err != nil {
		return s, err
	}
	return s, nil
}

// SortAttachments orders as State.Attached is ordered.
func SortAttachments(list []Attachment) {
	slices.SortFunc(list, func(a, b Attachment) int {
		return cmp.Or(cmp.Compare(a.Ifindex, b.Ifindex), cmp.Compare(a.Hook, b.Hook))
	})
}

func fromMAC(m [6]byte) net.HardwareAddr { return m[:] }
