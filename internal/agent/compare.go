package agent

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/nodenet"
)

// strays are devices made like an endpoint's that neither journal nor runtime explains. They keep their
// address and slot for as long as they are there.
type strays struct {
	mu  sync.Mutex
	all map[string]endpoint.Endpoint // by device
}

func (s *strays) endpoints() []endpoint.Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []endpoint.Endpoint
	for _, e := range s.all {
		out = append(out, e)
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
	e.Slot, e.Address, e.DeviceIndex, e.Created = st.Slot, st.Address, index, time.Now().UTC()
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
	a.strays.mu.Lock()
	defer a.strays.mu.Unlock()
	if a.strays.all == nil {
		a.strays.all = map[string]endpoint.Endpoint{}
	}
	if owned {
		a.strays.all[st.Device] = e
	}
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
		a.dropStrays()
		if pause(ctx, a.CollectEvery) != nil {
			return nil
		}
	}
}

// dropStrays ends the reservation of devices that have gone.
func (a *agent) dropStrays() {
	all := a.strays.endpoints()
	if len(all) == 0 {
		return
	}
	there, err := a.node.Strays(nil)
	if err != nil {
		a.Log.Warn("devices without a journal entry not looked at", "err", err)
		return
	}
	here := map[netip.Addr]string{}
	for _, st := range there {
		here[st.Address] = st.Device
	}
	for _, e := range all {
		if _, ok := here[e.Address]; ok {
			continue
		}
		a.manager.Unreserve(e.Address, e.Slot)
		a.strays.mu.Lock()
		for dev, s := range a.strays.all {
			if s.Address == e.Address {
				delete(a.strays.all, dev)
			}
		}
		a.strays.mu.Unlock()
	}
}
