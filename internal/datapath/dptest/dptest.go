// Package dptest is the datapath's Go side in memory, for tests of those who drive it: the same checks,
// the same order of effects, the same state that outlives a Close; no packets.
package dptest

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/datapath"
)

// ErrClosed is what a closed Datapath answers.
var ErrClosed = errors.New("datapath is closed")

// A Kernel holds what outlives the agent: entries, attached programs, counters.
type Kernel struct {
	mu        sync.Mutex
	endpoints map[uint32]datapath.Endpoint
	enis      map[uint32]datapath.ENI
	addresses map[netip.Addr]datapath.Address
	prefixes  map[netip.Prefix]datapath.PrefixInfo
	attached  map[datapath.Attachment]bool
	counters  map[datapath.Counter]datapath.Counter
	fail      map[string]error
	ring      ring

	connections []datapath.Connection
	// Exists tells whether a device is there; nil: every device is.
	Exists   func(ifindex int) bool
	settings datapath.Settings // that the programs follow
}

// NewKernel has nothing attached.
func NewKernel() *Kernel {
	return &Kernel{
		endpoints: map[uint32]datapath.Endpoint{},
		enis:      map[uint32]datapath.ENI{},
		addresses: map[netip.Addr]datapath.Address{},
		prefixes:  map[netip.Prefix]datapath.PrefixInfo{},
		attached:  map[datapath.Attachment]bool{},
		counters:  map[datapath.Counter]datapath.Counter{},
		fail:      map[string]error{},
		settings:  datapath.DefaultSettings(),
		ring:      ring{stats: map[datapath.EventType]datapath.EventStat{}, more: make(chan struct{}, 1)},
	}
}

// Open is what datapath.Open is to a node.
func (k *Kernel) Open() *Datapath {
	k.mu.Lock()
	defer k.mu.Unlock()
	return &Datapath{kernel: k, settings: k.settings}
}

// Fail makes every call of the named method fail before it does anything, until err is nil.
func (k *Kernel) Fail(method string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail[method] = err
}

// RemoveDevice does what the kernel does when a device goes: its programs are gone, entries stay.
func (k *Kernel) RemoveDevice(ifindex int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range datapath.Hooks() {
		delete(k.attached, datapath.Attachment{Hook: h, Ifindex: ifindex})
	}
}

// Count adds to a counter as a program would.
func (k *Kernel) Count(c datapath.Counter) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := datapath.Counter{Hook: c.Hook, Direction: c.Direction, Reason: c.Reason}
	sum := k.counters[key]
	key.Packets, key.Bytes = sum.Packets+c.Packets, sum.Bytes+c.Bytes
	k.counters[datapath.Counter{Hook: c.Hook, Direction: c.Direction, Reason: c.Reason}] = key
}

// A Datapath is one agent's access to a Kernel.
type Datapath struct {
	kernel   *Kernel
	closed   bool
	settings datapath.Settings
	watch    datapath.Watch
}

// begin locks the kernel and says whether the method may go on.
func (d *Datapath) begin(method string) (func(), error) {
	d.kernel.mu.Lock()
	err := d.kernel.fail[method]
	if d.closed {
		err = ErrClosed
	}
	if err != nil {
		d.kernel.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	return d.kernel.mu.Unlock, nil
}

func (k *Kernel) attach(ifindex int, hooks ...datapath.Hook) error {
	if k.Exists != nil && !k.Exists(ifindex) {
		return &datapath.DeviceError{Ifindex: ifindex, Err: unix.ENODEV}
	}
	for _, h := range hooks {
		k.attached[datapath.Attachment{Hook: h, Ifindex: ifindex}] = true
	}
	return nil
}

func (k *Kernel) detach(ifindex int, hooks ...datapath.Hook) {
	for _, h := range hooks {
		delete(k.attached, datapath.Attachment{Hook: h, Ifindex: ifindex})
	}
}

// SetENI is datapath.Datapath.SetENI.
func (d *Datapath) SetENI(e datapath.ENI) error {
	done, err := d.begin("SetENI")
	if err != nil {
		return err
	}
	defer done()
	if err := e.Validate(); err != nil {
		return err
	}
	if d.kernel.Exists != nil && !d.kernel.Exists(e.Ifindex) {
		return &datapath.DeviceError{Ifindex: e.Ifindex, Err: unix.ENODEV}
	}
	old, had := d.kernel.enis[e.Handle]
	d.kernel.putENI(e)
	if err := d.kernel.attach(e.Ifindex, datapath.ToNetdev, datapath.FromNetdev); err != nil {
		return err
	}
	if had && old.Ifindex != e.Ifindex {
		d.kernel.detachNetdev(old.Ifindex)
	}
	return nil
}

func (k *Kernel) putENI(e datapath.ENI) {
	e.MAC, e.NextHop, e.Masquerade = slices.Clone(e.MAC), e.NextHop.Unmap(), e.Masquerade.Unmap()
	k.enis[e.Handle] = e
}

func (k *Kernel) detachNetdev(ifindex int) {
	for _, e := range k.enis {
		if e.Ifindex == ifindex {
			return
		}
	}
	k.detach(ifindex, datapath.FromNetdev, datapath.ToNetdev)
}

// DeleteENI is datapath.Datapath.DeleteENI.
func (d *Datapath) DeleteENI(handle uint32) error {
	done, err := d.begin("DeleteENI")
	if err != nil {
		return err
	}
	defer done()
	if handle < 1 || handle > datapath.MaxENIs {
		return fmt.Errorf("ENI handle is %d, expected 1 to %d", handle, datapath.MaxENIs)
	}
	d.kernel.deleteENI(handle)
	return nil
}

func (k *Kernel) deleteENI(handle uint32) {
	old, ok := k.enis[handle]
	if !ok {
		return
	}
	delete(k.enis, handle)
	k.detachNetdev(old.Ifindex)
}

// SetAddress is datapath.Datapath.SetAddress.
func (d *Datapath) SetAddress(addr netip.Addr, eni uint32) error {
	done, err := d.begin("SetAddress")
	if err != nil {
		return err
	}
	defer done()
	if err := datapath.ValidateAddress(addr, eni); err != nil {
		return err
	}
	a := d.kernel.addresses[addr.Unmap()]
	a.ENI = eni
	d.kernel.addresses[addr.Unmap()] = a
	return nil
}

// SetHostAddresses is datapath.Datapath.SetHostAddresses.
func (d *Datapath) SetHostAddresses([]netip.Addr) error {
	done, err := d.begin("SetHostAddresses")
	if err != nil {
		return err
	}
	done()
	return nil
}

// DeleteAddress is datapath.Datapath.DeleteAddress.
func (d *Datapath) DeleteAddress(addr netip.Addr) error {
	done, err := d.begin("DeleteAddress")
	if err != nil {
		return err
	}
	defer done()
	delete(d.kernel.addresses, addr.Unmap())
	return nil
}

// AddEndpoint is datapath.Datapath.AddEndpoint.
func (d *Datapath) AddEndpoint(e datapath.Endpoint) error {
	done, err := d.begin("AddEndpoint")
	if err != nil {
		return err
	}
	defer done()
	if err := e.Validate(); err != nil {
		return err
	}
	d.kernel.putEndpoint(e)
	return d.kernel.attach(e.Ifindex, datapath.ToPod, datapath.FromPod)
}

func (k *Kernel) putEndpoint(e datapath.Endpoint) {
	e.Addr, e.PodMAC, e.HostMAC = e.Addr.Unmap(), slices.Clone(e.PodMAC), slices.Clone(e.HostMAC)
	if old, ok := k.endpoints[e.Slot]; ok {
		for _, a := range []netip.Addr{old.Addr, old.Addr6} {
			if a != e.Addr && a != e.Addr6 {
				k.releaseAddress(a, e.Slot)
			}
		}
	}
	k.endpoints[e.Slot] = e
	k.addresses[e.Addr] = datapath.Address{ENI: e.ENI, Endpoint: true, Slot: e.Slot, Generation: e.Generation}
	if e.Addr6.IsValid() {
		k.addresses[e.Addr6] = k.addresses[e.Addr]
	}
}

func (k *Kernel) releaseAddress(addr netip.Addr, slot uint32) {
	if a, ok := k.addresses[addr]; ok && a.Endpoint && a.Slot == slot {
		k.addresses[addr] = datapath.Address{ENI: a.ENI}
	}
}

// DeleteEndpoint is datapath.Datapath.DeleteEndpoint.
func (d *Datapath) DeleteEndpoint(slot uint32) error {
	done, err := d.begin("DeleteEndpoint")
	if err != nil {
		return err
	}
	defer done()
	if slot >= contract.MaxEndpoints {
		return fmt.Errorf("slot is %d, expected less than %d", slot, contract.MaxEndpoints)
	}
	d.kernel.deleteEndpoint(slot)
	return nil
}

func (k *Kernel) deleteEndpoint(slot uint32) {
	if old, ok := k.endpoints[slot]; ok {
		delete(k.endpoints, slot)
		k.releaseAddress(old.Addr, slot)
		k.releaseAddress(old.Addr6, slot)
	}
	k.detach(contract.IfindexBase+int(slot), datapath.FromPod, datapath.ToPod)
}

// Prepare is datapath.Datapath.Prepare.
func (d *Datapath) Prepare(endpoints []datapath.Endpoint, enis []datapath.ENI, addrs map[netip.Addr]uint32) error {
	done, err := d.begin("Prepare")
	if err != nil {
		return err
	}
	defer done()
	var errs []error
	for a, eni := range addrs {
		if err := datapath.ValidateAddress(a, eni); err != nil {
			errs = append(errs, err)
			continue
		}
		have := d.kernel.addresses[a.Unmap()]
		have.ENI = eni
		d.kernel.addresses[a.Unmap()] = have
	}
	for _, e := range endpoints {
		if err := e.Validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		d.kernel.putEndpoint(e)
	}
	for _, e := range enis {
		if err := e.Validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		if d.kernel.Exists != nil && !d.kernel.Exists(e.Ifindex) {
			errs = append(errs, &datapath.DeviceError{Ifindex: e.Ifindex, Err: unix.ENODEV})
			continue
		}
		if _, ok := d.kernel.enis[e.Handle]; !ok {
			d.kernel.putENI(e)
		}
	}
	return errors.Join(errs...)
}

// KeepPins is datapath.Datapath.KeepPins; nobody removes pins here.
func (d *Datapath) KeepPins() ([]string, error) {
	done, err := d.begin("KeepPins")
	if err != nil {
		return nil, err
	}
	done()
	return nil, nil
}

// Prune is datapath.Datapath.Prune.
func (d *Datapath) Prune(endpoints []datapath.Endpoint, enis []datapath.ENI, addrs map[netip.Addr]uint32) error {
	done, err := d.begin("Prune")
	if err != nil {
		return err
	}
	defer done()
	slots, handles, addresses, keep := map[uint32]bool{}, map[uint32]bool{}, map[netip.Addr]bool{}, map[datapath.Attachment]bool{}
	for _, e := range endpoints {
		slots[e.Slot], addresses[e.Addr.Unmap()], addresses[e.Addr6] = true, true, true
		keep[datapath.Attachment{Hook: datapath.FromPod, Ifindex: e.Ifindex}] = true
		keep[datapath.Attachment{Hook: datapath.ToPod, Ifindex: e.Ifindex}] = true
	}
	for _, e := range enis {
		handles[e.Handle] = true
		keep[datapath.Attachment{Hook: datapath.FromNetdev, Ifindex: e.Ifindex}] = true
		keep[datapath.Attachment{Hook: datapath.ToNetdev, Ifindex: e.Ifindex}] = true
	}
	for a := range addrs {
		addresses[a.Unmap()] = true
	}
	for slot := range maps.Clone(d.kernel.endpoints) {
		if !slots[slot] {
			d.kernel.deleteEndpoint(slot)
		}
	}
	for handle := range maps.Clone(d.kernel.enis) {
		if !handles[handle] {
			d.kernel.deleteENI(handle)
		}
	}
	maps.DeleteFunc(d.kernel.addresses, func(a netip.Addr, _ datapath.Address) bool { return !addresses[a] })
	maps.DeleteFunc(d.kernel.attached, func(a datapath.Attachment, _ bool) bool { return !keep[a] })
	return nil
}

// SetPrefixes is datapath.Datapath.SetPrefixes.
func (d *Datapath) SetPrefixes(want map[netip.Prefix]datapath.PrefixInfo) error {
	done, err := d.begin("SetPrefixes")
	if err != nil {
		return err
	}
	defer done()
	masked := map[netip.Prefix]datapath.PrefixInfo{}
	for p, info := range want {
		if err := datapath.ValidatePrefix(p); err != nil {
			return err
		}
		if other, ok := masked[p.Masked()]; ok && other != info {
			return fmt.Errorf("prefix %s is given twice and differently", p)
		}
		masked[p.Masked()] = info
	}
	// Nothing known of all of IPv4 is the same as no entry.
	everyIPv4 := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if masked[everyIPv4] == (datapath.PrefixInfo{}) {
		delete(masked, everyIPv4)
	}
	d.kernel.prefixes = masked
	return nil
}

// Configure is datapath.Datapath.Configure.
func (d *Datapath) Configure(s datapath.Settings) error {
	done, err := d.begin("Configure")
	if err != nil {
		return err
	}
	defer done()
	if err := s.Validate(); err != nil {
		return err
	}
	d.settings, d.kernel.settings = s, s
	return nil
}

// Settings is datapath.Datapath.Settings.
func (d *Datapath) Settings() datapath.Settings {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	return d.settings
}

// Counters is datapath.Datapath.Counters.
func (d *Datapath) Counters() ([]datapath.Counter, error) {
	done, err := d.begin("Counters")
	if err != nil {
		return nil, err
	}
	defer done()
	return slices.Collect(maps.Values(d.kernel.counters)), nil
}

// Probe is datapath.Datapath.Probe.
func (d *Datapath) Probe() datapath.Features {
	return datapath.Features{Kernel: "in memory", TCX: true, RedirectNeigh: true}
}

// KeptSizes is datapath.Datapath.KeptSizes: its maps have no sizes.
func (d *Datapath) KeptSizes() []datapath.KeptSize { return nil }

// Dump is datapath.Datapath.Dump.
func (d *Datapath) Dump() (datapath.State, error) {
	done, err := d.begin("Dump")
	if err != nil {
		return datapath.State{}, err
	}
	defer done()
	s := datapath.State{Addresses: maps.Clone(d.kernel.addresses), Prefixes: maps.Clone(d.kernel.prefixes)}
	for _, slot := range slices.Sorted(maps.Keys(d.kernel.endpoints)) {
		s.Endpoints = append(s.Endpoints, d.kernel.endpoints[slot])
	}
	for _, handle := range slices.Sorted(maps.Keys(d.kernel.enis)) {
		s.ENIs = append(s.ENIs, d.kernel.enis[handle])
	}
	for a := range d.kernel.attached {
		s.Attached = append(s.Attached, a)
	}
	datapath.SortAttachments(s.Attached)
	return s, nil
}

// Close ends this agent's access; the Kernel keeps everything.
func (d *Datapath) Close() error {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	d.closed = true
	return nil
}
