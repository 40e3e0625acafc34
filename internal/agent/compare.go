package agent

import (
	"context"
	"sync"
	"time"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/nodenet"
)

// strays are devices made like an endpoint's that neither journal nor runtime explains. They keep their
// address and slot, and their pods their traffic, for as long as they are there.
type strays struct {
	mu  sync.Mutex
	all map[string]stray // by device
}

type stray struct {
	endpoint.Endpoint
	// owned: the address is one of this node's.
	owned bool
}

func (s *strays) put(st stray) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]stray{}
	}
	s.all[st.Device()] = st
}

// endpoints are the strays that the node can go on carrying.
func (s *strays) endpoints() []endpoint.Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []endpoint.Endpoint
	for _, st := range s.all {
		if st.owned {
			out = append(out, st.Endpoint)
		}
	}
	return out
}

// gone takes out those whose device isn't among there.
func (s *strays) gone(there map[string]bool) []endpoint.Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []endpoint.Endpoint
	for dev, st := range s.all {
		if !there[dev] {
			out = append(out, st.Endpoint)
			delete(s.all, dev)
		}
	}
	return out
}

// recover finds out whose the devices without a journal entry are: a device's name is made of container
// and interface, and the runtime has the list of containers.
func (a *agent) recover(ctx context.Context, v view) error {
	found, err := a.node.Strays(a.manager.Endpoints())
	if err != nil || len(found) == 0 {
		return err
	}
	names := map[string]endpoint.Endpoint{}
	sandboxes, err := a.Runtime.Sandboxes(ctx)
	if err != nil {
		a.Log.Warn("devices without a journal entry can't be explained now", "err", err)
	}
	for id, s := range sandboxes {
		e := endpoint.Endpoint{
			Key: endpoint.Key{Network: contract.CNINetwork, ContainerID: id, IfName: "eth0"},
			Pod: s.Namespace + "/" + s.Name, PodUID: s.UID,
		}
		names[e.Device()] = e
	}
	for _, st := range found {
		if err := a.adoptStray(st, names, v); err != nil {
			return err
		}
	}
	return nil
}

func (a *agent) adoptStray(st nodenet.Stray, names map[string]endpoint.Endpoint, v view) error {
	index, owned := v.owners[st.Address]
	e, named := names[st.Device]
	e.Slot, e.Address, e.DeviceIndex, e.Kind, e.Created = st.Slot, st.Address, index, st.Kind, time.Now().UTC()
	for _, as := range v.assigned {
		if as.Address == st.Address {
			e.Generation, e.ENI = as.Generation, as.ENI
		}
	}
	if named && owned {
		a.Log.Warn("endpoint without a journal entry restored from the runtime", "endpoint", e.Key, "address", e.Address)
		return a.manager.Restore(e)
	}
	a.Log.Error("device without a journal entry, its address stays reserved", "device", st.Device, "address", st.Address)
	a.manager.Reserve(st.Address, st.Slot)
	e = endpoint.Endpoint{
		Key:  endpoint.Key{Network: "stray", ContainerID: st.Device},
		Slot: st.Slot, Address: st.Address, DeviceIndex: index, Kind: st.Kind, Found: st.Device,
	}
	a.strays.put(stray{Endpoint: e, owned: owned})
	return nil
}

// compare releases, now and then, what the runtime no longer has.
func (a *agent) compare(ctx context.Context) error {
	for {
		asked := time.Now()
		sandboxes, err := a.Runtime.Sandboxes(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			a.Log.Warn("endpoints not compared with the runtime", "err", err)
		default:
			n, err := a.manager.Collect(ctx, asked, func(e endpoint.Endpoint) bool {
				_, ok := sandboxes[e.ContainerID]
				return ok
			})
			if err != nil {
				a.Log.Error("endpoints of gone pods not all released", "released", n, "err", err)
			}
		}
		a.tellHostPorts()
		if err := a.dropStrays(); err != nil {
			a.Log.Warn("devices without a journal entry not looked at", "err", err)
		}
		if pause(ctx, a.CollectEvery) != nil {
			return nil
		}
	}
}

// dropStrays ends the reservation of devices that have gone.
func (a *agent) dropStrays() error {
	found, err := a.node.Strays(nil)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, st := range found {
		there[st.Device] = true
	}
	for _, e := range a.strays.gone(there) {
		a.node.Abandon(e.Key)
		a.manager.Unreserve(e.Address, e.Slot)
		if err := a.programs.Detach(e); err != nil {
			return err
		}
	}
	return nil
}
