package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/weft-cni/weft/internal/contract"
)

// Devices are the pods' devices and the host's routes to them.
type Devices interface {
	// Create makes the endpoint's pair, with the pod's side configured inside netns and the host's side
	// down. What a killed agent left under the same name is replaced.
	Create(ctx context.Context, e Endpoint, netns *os.File) error
	// Connect makes routes, rules and address translation, then brings the host's side up.
	Connect(ctx context.Context, e Endpoint) error
	// Remove undoes Create and Connect; what is absent is no error.
	Remove(ctx context.Context, e Endpoint) error
	// Check compares both sides with the endpoint.
	Check(ctx context.Context, e Endpoint, netns *os.File) error
	// Exists says whether the host's side is there.
	Exists(e Endpoint) (bool, error)
}

// Programs guard an endpoint's device.
type Programs interface {
	Attach(e Endpoint) error
	Detach(e Endpoint) error
	// Begin makes an attached endpoint the first of its address: what anybody had with that before is
	// forgotten. It is called before the endpoint's first packet, and never for one that lives already.
	Begin(e Endpoint) error
}

// Manager makes and removes endpoints.
type Manager struct {
	devices  Devices
	programs Programs
	journal  *Journal
	log      *slog.Logger
	now      func() time.Time
	wait     time.Duration
	kind     Kind

	keys keyLocks

	fencing sync.Mutex // one writer of fences
	fences  FenceStore

	mu        sync.Mutex
	pool      *Pool
	endpoints map[Key]Endpoint
	released  map[Key]Endpoint // their addresses rest
	slots     [contract.MaxEndpoints]bool
	nextSlot  uint32
	epoch     uint32
	waiting   int
	freed     chan struct{} // closed and replaced when an address may have become free
	changed   chan struct{} // one token: Usage differs
	// fencesDiffer: what is on disk isn't what the pool has.
	fencesDiffer bool
}

// Config is what a Manager is made of.
type Config struct {
	Devices  Devices
	Programs Programs
	Journal  *Journal
	Fences   FenceStore
	Log      *slog.Logger
	// Now is the clock.
	Now func() time.Time
	// Wait bounds how long an ADD waits for a free address.
	Wait time.Duration
	// Kind of device that new pods get.
	Kind Kind
}

// ErrNoAddress is returned when no address became free in time.
var ErrNoAddress = errors.New("no free address")

// ErrUnknown is returned for an endpoint that the manager doesn't have.
var ErrUnknown = errors.New("unknown endpoint")

// ErrJournal wraps a failed journal write: nothing was made.
var ErrJournal = errors.New("journal write failed")

// NewManager returns a manager that has the endpoints which the journal held.
func NewManager(c Config, loaded []Endpoint) *Manager {
	m := &Manager{
		devices: c.Devices, programs: c.Programs, journal: c.Journal, fences: c.Fences, log: c.Log, now: c.Now, wait: c.Wait, kind: c.Kind,
		keys:      keyLocks{held: map[Key]*keyLock{}},
		pool:      NewPool(),
		endpoints: map[Key]Endpoint{},
		released:  map[Key]Endpoint{},
		freed:     make(chan struct{}),
		changed:   make(chan struct{}, 1),
	}
	for _, e := range loaded {
		m.epoch = max(m.epoch, e.Epoch)
		if !e.Released.IsZero() {
			m.released[e.Key] = e
			if _, ok := m.pool.taken[e.Address]; !ok {
				m.pool.rested[e.Address] = e.Released
			}
			continue
		}
		if !m.pool.Take(e.Address, e.ENI) {
			m.log.Error("journal gives one address to two endpoints", "address", e.Address, "endpoint", e.Key)
		}
		delete(m.pool.rested, e.Address)
		m.endpoints[e.Key] = e
		if e.Slot < contract.MaxEndpoints {
			m.slots[e.Slot] = true
			m.nextSlot = max(m.nextSlot, e.Slot+1)
		}
	}
	return m
}

// Assign tells which addresses the node has now.
func (m *Manager) Assign(all []Assigned) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pool.Assign(all)
	m.wake()
}

// wake lets waiting ADDs try again. m.mu is held.
func (m *Manager) wake() {
	close(m.freed)
	m.freed = make(chan struct{})
	m.touch()
}

// touch announces that Usage differs. m.mu is held.
func (m *Manager) touch() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Changed has a token when Usage differs from when it was last received.
func (m *Manager) Changed() <-chan struct{} { return m.changed }

// Pod says whose the endpoint is.
type Pod struct {
	Name, UID string
	Limits    Limits
	HostPorts []HostPort
}

// Add makes the endpoint, or returns the one that is already there and whole.
func (m *Manager) Add(ctx context.Context, k Key, pod Pod, netns *os.File) (Endpoint, error) {
	unlock, err := m.keys.lock(ctx, k)
	if err != nil {
		return Endpoint{}, fmt.Errorf("add %s: %w", k, err)
	}
	defer unlock()

	m.mu.Lock()
	old, have := m.endpoints[k]
	m.mu.Unlock()
	if have {
		return m.again(ctx, old, netns)
	}
	e, err := m.allocate(ctx, k, pod)
	if err != nil {
		return Endpoint{}, fmt.Errorf("add %s: %w", k, err)
	}
	if err := m.journal.Put(e); err != nil {
		m.forget(e, false)
		return Endpoint{}, fmt.Errorf("add %s: %w: %w", k, ErrJournal, err)
	}
	m.mu.Lock()
	m.endpoints[k] = e
	delete(m.released, k)
	m.touch()
	m.mu.Unlock()
	if err := m.build(ctx, e, netns); err != nil {
		// The caller's time may be over; undoing has its own.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return Endpoint{}, fmt.Errorf("add %s: %w", k, errors.Join(err, m.remove(undo, e)))
	}
	return e, nil
}

// again serves a repeated ADD: with the endpoint as it is, or built anew under its own address.
func (m *Manager) again(ctx context.Context, e Endpoint, netns *os.File) (Endpoint, error) {
	if m.devices.Check(ctx, e, netns) == nil {
		if err := m.programs.Attach(e); err != nil {
			return Endpoint{}, fmt.Errorf("add %s again: %w", e.Key, err)
		}
		return e, nil
	}
	err := errors.Join(m.devices.Remove(ctx, e), m.programs.Detach(e))
	if err == nil {
		err = m.build(ctx, e, netns)
	}
	if err != nil {
		return Endpoint{}, fmt.Errorf("add %s again: %w", e.Key, err)
	}
	return e, nil
}

// build touches the kernel: the host's side comes up last, so that no packet passes before the programs
// are attached.
func (m *Manager) build(ctx context.Context, e Endpoint, netns *os.File) error {
	if err := m.devices.Create(ctx, e, netns); err != nil {
		return err
	}
	if err := m.programs.Attach(e); err != nil {
		return err
	}
	if err := m.programs.Begin(e); err != nil {
		return err
	}
	return m.devices.Connect(ctx, e)
}

// allocate finds an address and a slot, and waits for an address where none is free.
func (m *Manager) allocate(ctx context.Context, k Key, pod Pod) (Endpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, m.wait)
	defer cancel()
	m.mu.Lock()
	defer m.mu.Unlock()
	waits := false
	defer func() {
		if waits {
			m.waiting--
			m.touch()
		}
	}()
	for {
		now := m.now()
		if a, ok := m.pool.Allocate(now); ok {
			slot, ok := m.takeSlot()
			if !ok {
				m.pool.Untake(a.Address)
				return Endpoint{}, fmt.Errorf("the node has %d endpoints, at most %d", len(m.endpoints), contract.MaxEndpoints)
			}
			m.epoch++
			return Endpoint{
				Key: k, Slot: slot, Epoch: m.epoch, Address: a.Address, Generation: a.Generation,
				ENI: a.ENI, DeviceIndex: a.DeviceIndex, Pod: pod.Name, PodUID: pod.UID, Limits: pod.Limits, HostPorts: pod.HostPorts,
				Kind: m.kind.For(pod.Limits), Created: now.UTC(),
			}, nil
		}
		if !waits {
			waits = true
			m.waiting++
			m.touch()
		}
		freed := m.freed
		next, any := m.pool.Forget(now)
		if !any {
			next = m.wait
		}
		m.mu.Unlock()
		rested := time.NewTimer(next)
		select {
		case <-freed:
		case <-rested.C:
		case <-ctx.Done():
		}
		rested.Stop()
		m.mu.Lock()
		if ctx.Err() != nil {
			c := m.pool.Counts(m.now())
			return Endpoint{}, fmt.Errorf("%w: the node holds %d, %d in use, %d resting after use", ErrNoAddress, c.Held, c.Used, c.Resting)
		}
	}
}

// takeSlot goes round, so that a slot comes back as late as possible. m.mu is held.
func (m *Manager) takeSlot() (uint32, bool) {
	for i := range uint32(contract.MaxEndpoints) {
		s := (m.nextSlot + i) % contract.MaxEndpoints
		if !m.slots[s] {
			m.slots[s] = true
			m.nextSlot = s + 1
			return s, true
		}
	}
	return 0, false
}

// forget takes the endpoint out of memory; rest is false for one that never was in the kernel.
func (m *Manager) forget(e Endpoint, rest bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rest {
		now := m.now()
		m.pool.Release(e.Address, now)
		e.Released = now
		m.released[e.Key] = e
	} else {
		m.pool.Untake(e.Address)
	}
	if e.Slot < contract.MaxEndpoints {
		m.slots[e.Slot] = false
	}
	delete(m.endpoints, e.Key)
	m.wake()
}

// Del removes the endpoint; one that isn't there is no error.
func (m *Manager) Del(ctx context.Context, k Key) error {
	unlock, err := m.keys.lock(ctx, k)
	if err != nil {
		return fmt.Errorf("delete %s: %w", k, err)
	}
	defer unlock()
	m.mu.Lock()
	e, ok := m.endpoints[k]
	m.mu.Unlock()
	if !ok {
		return nil
	}
	if err := m.remove(ctx, e); err != nil {
		return fmt.Errorf("delete %s: %w", k, err)
	}
	return nil
}

// remove undoes an endpoint. Its address is given back only when nothing of it is left.
func (m *Manager) remove(ctx context.Context, e Endpoint) error {
	if err := errors.Join(m.devices.Remove(ctx, e), m.programs.Detach(e)); err != nil {
		return err
	}
	if err := m.journal.Release(e, m.now().UTC()); err != nil {
		return err
	}
	m.forget(e, true)
	return nil
}

// Check compares the endpoint with the kernel.
func (m *Manager) Check(ctx context.Context, k Key, netns *os.File) (Endpoint, error) {
	unlock, err := m.keys.lock(ctx, k)
	if err != nil {
		return Endpoint{}, fmt.Errorf("check %s: %w", k, err)
	}
	defer unlock()
	m.mu.Lock()
	e, ok := m.endpoints[k]
	m.mu.Unlock()
	if !ok {
		return Endpoint{}, fmt.Errorf("check %s: %w", k, ErrUnknown)
	}
	if err := m.devices.Check(ctx, e, netns); err != nil {
		return Endpoint{}, fmt.Errorf("check %s: %w", k, err)
	}
	return e, nil
}

// Tidy removes journal entries of endpoints whose addresses have rested.
func (m *Manager) Tidy() error {
	m.mu.Lock()
	now := m.now()
	var over []Key
	for k, e := range m.released {
		if rests(e.Released, now, CoolDown) <= 0 {
			over = append(over, k)
			delete(m.released, k)
		}
	}
	m.pool.Forget(now)
	m.mu.Unlock()
	var errs []error
	for _, k := range over {
		errs = append(errs, m.tidy(k))
	}
	return errors.Join(errs...)
}

// tidy holds the key's lock: an ADD of the same name may be writing a new entry.
func (m *Manager) tidy(k Key) error {
	unlock, err := m.keys.lock(context.Background(), k)
	if err != nil {
		return err
	}
	defer unlock()
	m.mu.Lock()
	_, live := m.endpoints[k]
	m.mu.Unlock()
	if live {
		return nil
	}
	return m.journal.Remove(k)
}

// Restore takes in an endpoint that is in the kernel and was missing from the journal.
func (m *Manager) Restore(e Endpoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.pool.Take(e.Address, e.ENI) || e.Slot >= contract.MaxEndpoints || m.slots[e.Slot] {
		return fmt.Errorf("restore %s: address %s or slot %d is another endpoint's", e.Key, e.Address, e.Slot)
	}
	m.epoch++
	e.Epoch = m.epoch
	if err := m.journal.Put(e); err != nil {
		m.pool.Untake(e.Address)
		return fmt.Errorf("restore %s: %w", e.Key, err)
	}
	m.slots[e.Slot] = true
	m.endpoints[e.Key] = e
	m.touch()
	return nil
}

// Reserve keeps an address and slot from being given, for a device that no journal entry explains.
func (m *Manager) Reserve(a netip.Addr, slot uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pool.Take(a, "")
	if slot < contract.MaxEndpoints {
		m.slots[slot] = true
	}
}

// Unreserve ends a reservation; the address rests.
func (m *Manager) Unreserve(a netip.Addr, slot uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pool.Release(a, m.now())
	if slot < contract.MaxEndpoints {
		m.slots[slot] = false
	}
	m.wake()
}

// Endpoints returns all endpoints, by slot.
func (m *Manager) Endpoints() []Endpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Endpoint, 0, len(m.endpoints))
	for _, e := range m.endpoints {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Endpoint) int { return int(a.Slot) - int(b.Slot) })
	return out
}

// Usage is what the node's status says about addresses.
type Usage struct {
	Counts
	Waiting   int
	Endpoints []Endpoint
	// Lost are addresses of endpoints that the node no longer has.
	Lost []netip.Addr
	// Fenced are addresses that the operator may take.
	Fenced []Fence
}

// Usage returns the state of the pool.
func (m *Manager) Usage() Usage {
	eps := m.Endpoints()
	m.mu.Lock()
	defer m.mu.Unlock()
	return Usage{Counts: m.pool.Counts(m.now()), Waiting: m.waiting, Endpoints: eps, Lost: m.pool.Lost(), Fenced: m.pool.fences(true)}
}
