package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/inspect"
	"github.com/weft-cni/weft/internal/nodenet"
)

// Datapath is what the agent needs of the programs.
type Datapath interface {
	SetENI(datapath.ENI) error
	DeleteENI(handle uint32) error
	SetAddress(addr netip.Addr, eni uint32) error
	SetHostAddresses([]netip.Addr) error
	DeleteAddress(netip.Addr) error
	AddEndpoint(datapath.Endpoint) error
	DeleteEndpoint(slot uint32) error
	ForgetOthers(datapath.Endpoint) (int, error)
	SetPrefixes(map[netip.Prefix]datapath.PrefixInfo) error
	Configure(datapath.Settings) error
	Dump() (datapath.State, error)
	Prepare(endpoints []datapath.Endpoint, enis []datapath.ENI, addrs map[netip.Addr]uint32) error
	Prune(endpoints []datapath.Endpoint, enis []datapath.ENI, addrs map[netip.Addr]uint32) error
	KeepPins() ([]string, error)
	Probe() datapath.Features
	KeptSizes() []datapath.KeptSize
	Counters() ([]datapath.Counter, error)
	ReadEvents(ctx context.Context, each func(events []datapath.Event, bad int)) error
	EventStats() ([]datapath.EventStat, error)
	Watch() datapath.Watch
	SetWatch(datapath.Watch) error
	Connections(func(datapath.Connection) bool) error
	ConntrackStats() (datapath.ConntrackStats, error)
	Maps() ([]inspect.Map, error)
	DumpMap(name string, names datapath.Names, fn func(key, value inspect.Fields) bool) error
	Programs() ([]inspect.Program, error)
	Attached() ([]datapath.Attachment, error)
	Held() (datapath.Held, error)
	MeasurePrograms() (io.Closer, error)
	Measured() (bool, error)
	Runs() ([]datapath.ProgramRuns, error)
	Fills() ([]datapath.Fill, error)
	WalkFills(pause func() error) ([]datapath.Fill, error)
	Close() error
}

// programs keeps the datapath's ENIs and addresses equal to the node's.
type programs struct {
	dp Datapath

	mu    sync.Mutex
	enis  map[uint32]datapath.ENI
	mtus  map[uint32]int // of their devices, which SetENI reads
	addrs map[netip.Addr]uint32
	own   []netip.Addr // of addrs those that the node has itself; nil: not told yet

	told     bool // the datapath has these
	settings datapath.Settings
	prefixes map[netip.Prefix]datapath.PrefixInfo
}

var _ endpoint.Programs = (*programs)(nil)

func newPrograms(dp Datapath) *programs {
	return &programs{dp: dp, enis: map[uint32]datapath.ENI{}, mtus: map[uint32]int{}, addrs: map[netip.Addr]uint32{}}
}

func datapathEndpoint(e endpoint.Endpoint) datapath.Endpoint {
	return datapath.Endpoint{
		Slot: e.Slot, Ifindex: e.Ifindex(), Addr: e.Address, PodMAC: e.MAC(), HostMAC: e.HostMAC(),
		Generation: e.Epoch, ENI: e.ENIHandle(),
		Queued: e.Limits.Ingress > 0, EgressRate: e.Limits.EgressBytes(),
	}
}

// Attach guards an endpoint's device.
func (p *programs) Attach(e endpoint.Endpoint) error {
	if err := p.dp.AddEndpoint(datapathEndpoint(e)); err != nil {
		return fmt.Errorf("datapath: %w", err)
	}
	return nil
}

// Begin forgets the connections that the endpoint's address had before it.
func (p *programs) Begin(e endpoint.Endpoint) error {
	if _, err := p.dp.ForgetOthers(datapathEndpoint(e)); err != nil {
		return fmt.Errorf("datapath: %w", err)
	}
	return nil
}

// Detach forgets an endpoint.
func (p *programs) Detach(e endpoint.Endpoint) error {
	if err := p.dp.DeleteEndpoint(e.Slot); err != nil {
		return fmt.Errorf("datapath: %w", err)
	}
	return nil
}

func wantENIs(found []nodenet.Found, v view) map[uint32]datapath.ENI {
	sources := map[int32]netip.Addr{}
	if v.masquerade || v.desired.Masquerade {
		sources = v.desired.Sources(found)
	}
	paced := map[int32]bool{}
	for _, f := range found {
		paced[f.DeviceIndex] = f.Pacing.FQ
	}
	out := map[uint32]datapath.ENI{}
	for _, f := range found {
		h := uint32(f.DeviceIndex) + 1
		e := datapath.ENI{Handle: h, Ifindex: f.Ifindex, MAC: f.MAC, NextHop: f.Router, Paced: f.Pacing.FQ}
		// What is translated leaves by the ENI that owns its new source.
		if owner, ok := v.owners[sources[f.DeviceIndex]]; ok {
			e.Paced = e.Paced && paced[owner]
			if v.masquerade {
				e.Masquerade, e.MasqueradeENI = sources[f.DeviceIndex], uint32(owner)+1
			}
		}
		out[h] = e
	}
	return out
}

func sameENI(a, b datapath.ENI) bool {
	return a.Ifindex == b.Ifindex && a.NextHop == b.NextHop && a.MAC.String() == b.MAC.String() &&
		a.Masquerade == b.Masquerade && a.MasqueradeENI == b.MasqueradeENI && a.Paced == b.Paced
}

// wantMTUs are the devices' own. One that changes changes what fits by the ENI.
func wantMTUs(found []nodenet.Found) map[uint32]int {
	out := map[uint32]int{}
	for _, f := range found {
		out[uint32(f.DeviceIndex)+1] = f.MTU
	}
	return out
}

// hostAddrs are those that the ENIs' devices have themselves.
func hostAddrs(found []nodenet.Found) []netip.Addr {
	out := []netip.Addr{}
	for _, f := range found {
		out = append(out, f.Primary)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func wantAddrs(owners map[netip.Addr]int32, eps []endpoint.Endpoint) map[netip.Addr]uint32 {
	out := map[netip.Addr]uint32{}
	for _, e := range eps {
		// An endpoint outlives its assignment; its packets still leave by the ENI that it was given.
		out[e.Address] = e.ENIHandle()
	}
	for a, index := range owners {
		out[a] = uint32(index) + 1
	}
	return out
}

// prepare has the datapath know everything before the first program is replaced.
func (p *programs) prepare(found []nodenet.Found, v view, known, there []endpoint.Endpoint) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var eps []datapath.Endpoint
	for _, e := range there {
		eps = append(eps, datapathEndpoint(e))
	}
	enis := slices.Collect(maps.Values(wantENIs(found, v)))
	if err := p.dp.Prepare(eps, enis, wantAddrs(v.owners, known)); err != nil {
		return fmt.Errorf("datapath: %w", err)
	}
	return nil
}

// sync makes the datapath know these ENIs and addresses: addresses first, since a packet whose source
// has no owner is dropped.
func (p *programs) sync(found []nodenet.Found, v view, eps []endpoint.Endpoint) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	enis, addrs := wantENIs(found, v), wantAddrs(v.owners, eps)
	mtus := wantMTUs(found)
	var errs []error
	for a, h := range addrs {
		if p.addrs[a] == h {
			continue
		}
		if err := p.dp.SetAddress(a, h); err != nil {
			errs = append(errs, err)
			continue
		}
		p.addrs[a], p.own = h, nil
	}
	if own := hostAddrs(found); p.own == nil || !slices.Equal(own, p.own) {
		if err := p.dp.SetHostAddresses(own); err != nil {
			errs = append(errs, err)
		} else {
			p.own = own
		}
	}
	for h, e := range enis {
		if old, ok := p.enis[h]; ok && p.mtus[h] == mtus[h] && sameENI(old, e) {
			continue
		}
		if err := p.dp.SetENI(e); err != nil {
			errs = append(errs, err)
			continue
		}
		p.enis[h], p.mtus[h] = e, mtus[h]
	}
	for a := range maps.Clone(p.addrs) {
		if _, ok := addrs[a]; ok {
			continue
		}
		if err := p.dp.DeleteAddress(a); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(p.addrs, a)
	}
	used := map[uint32]bool{}
	for _, h := range addrs {
		used[h] = true
	}
	for h := range maps.Clone(p.enis) {
		if _, ok := enis[h]; ok || used[h] {
			continue
		}
		if err := p.dp.DeleteENI(h); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(p.enis, h)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("datapath: %w", err)
	}
	return nil
}

// prune removes what an earlier agent left; it runs once, after everything is known and attached.
func (p *programs) prune(eps []endpoint.Endpoint) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var des []datapath.Endpoint
	for _, e := range eps {
		des = append(des, datapathEndpoint(e))
	}
	var enis []datapath.ENI
	for _, e := range p.enis {
		enis = append(enis, e)
	}
	if err := p.dp.Prune(des, enis, maps.Clone(p.addrs)); err != nil {
		return fmt.Errorf("datapath: prune: %w", err)
	}
	return nil
}

// variant is how the programs run, for the node's status.
func (p *programs) variant(d deviceChoice) *v1alpha1.NodeDatapath {
	f := p.dp.Probe()
	out := &v1alpha1.NodeDatapath{Kernel: f.Kernel, Attach: f.Variant(), PodDevice: d.kind.String()}
	if d.fallback != "" {
		out.Fallbacks = append(out.Fallbacks, d.fallback)
	}
	for _, x := range f.Missing() {
		out.Fallbacks = append(out.Fallbacks, fmt.Sprintf("%s instead of %s (%s, kernel %s): %s", x.Fallback, x.Name, x.Option, x.Since, x.Cost))
	}
	for _, k := range p.dp.KeptSizes() {
		out.Pending = append(out.Pending, fmt.Sprintf("%s is %d, but the node's table was made for %d and keeps that until the node is rebooted", k.Setting, k.Want, k.Have))
	}
	return out
}
