package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"
)

// simKernel keeps devices as a kernel would: by name, with one holder for each index.
type simKernel struct {
	mu       sync.Mutex
	devices  map[string]int
	up       map[string]bool
	attached map[uint32]Endpoint
	begun    []Key
	fail     map[string]error
}

func newSim() *simKernel {
	return &simKernel{devices: map[string]int{}, up: map[string]bool{}, attached: map[uint32]Endpoint{}, fail: map[string]error{}}
}

func (k *simKernel) do(step string, f func() error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.fail[step]; err != nil {
		return err
	}
	return f()
}

func (k *simKernel) Create(_ context.Context, e Endpoint, _ *os.File) error {
	return k.do("create", func() error {
		for name, index := range k.devices {
			if index == e.Ifindex() && name != e.Device() {
				return fmt.Errorf("index %d is %s's", index, name)
			}
		}
		k.devices[e.Device()] = e.Ifindex()
		return nil
	})
}

func (k *simKernel) Connect(_ context.Context, e Endpoint) error {
	return k.do("connect", func() error {
		if k.attached[e.Slot].Key != e.Key {
			return errors.New("brought up without programs")
		}
		k.up[e.Device()] = true
		return nil
	})
}

func (k *simKernel) Remove(_ context.Context, e Endpoint) error {
	return k.do("remove", func() error {
		delete(k.devices, e.Device())
		delete(k.up, e.Device())
		return nil
	})
}

func (k *simKernel) Check(_ context.Context, e Endpoint, _ *os.File) error {
	return k.do("check", func() error {
		if !k.up[e.Device()] {
			return errors.New("not up")
		}
		return nil
	})
}

func (k *simKernel) Exists(e Endpoint) (ok bool, err error) {
	err = k.do("exists", func() error { _, ok = k.devices[e.Device()]; return nil })
	return ok, err
}

func (k *simKernel) Attach(e Endpoint) error {
	return k.do("attach", func() error {
		if k.devices[e.Device()] != e.Ifindex() {
			return errors.New("no such device")
		}
		k.attached[e.Slot] = e
		return nil
	})
}

func (k *simKernel) Begin(e Endpoint) error {
	return k.do("begin", func() error {
		if k.attached[e.Slot].Key != e.Key || k.up[e.Device()] {
			return errors.New("begun without programs, or after its first packet")
		}
		k.begun = append(k.begun, e.Key)
		return nil
	})
}

func (k *simKernel) Detach(e Endpoint) error {
	return k.do("detach", func() error { delete(k.attached, e.Slot); return nil })
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newTestManager(t *testing.T, dir string, k *simKernel, c *clock, held int) *Manager {
	t.Helper()
	j, l, err := OpenJournal(dir, "i-1", "b")
	if err != nil {
		t.Fatal(err)
	}
	f, written, _, err := OpenFences(filepath.Join(dir, "..", filepath.Base(dir)+"-fences.json"), "i-1")
	if err != nil {
		t.Fatal(err)
	}
	m := NewManager(Config{Devices: k, Programs: k, Journal: j, Fences: f, Log: slog.New(slog.DiscardHandler), Now: c.Now, Wait: 200 * time.Millisecond}, l.Endpoints)
	m.Recover(written, nil)
	m.Assign(assigned(0, held))
	return m
}

func k(id string) Key { return Key{"weft", id, "eth0"} }

// TestOnlyNewEndpointsBegin: what lives already keeps its connections, through repeated ADDs, restarts and
// programs that are attached again.
func TestOnlyNewEndpointsBegin(t *testing.T) {
	sim, c, dir := newSim(), &clock{now: time.Unix(1_700_000_000, 0)}, t.TempDir()
	m := newTestManager(t, dir, sim, c, 2)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	add := func(id string) {
		t.Helper()
		_, err := m.Add(context.Background(), k(id), Pod{}, nil)
		must(err)
	}
	add("a")
	add("a")
	must(m.Guard(context.Background()))
	m = newTestManager(t, dir, sim, c, 2)
	must(m.Guard(context.Background()))
	add("a")
	if want := []Key{k("a")}; !slices.Equal(sim.begun, want) {
		t.Fatalf("begun: %v, expected %v", sim.begun, want)
	}
	must(m.Del(context.Background(), k("a")))
	c.advance(time.Hour)
	add("b")
	if want := []Key{k("a"), k("b")}; !slices.Equal(sim.begun, want) {
		t.Errorf("begun: %v, expected %v", sim.begun, want)
	}
}

// TestFailuresLeaveNothing: whatever step of an ADD fails, the next ADD works and nothing is left over.
func TestFailuresLeaveNothing(t *testing.T) {
	for _, step := range []string{"create", "attach", "begin", "connect"} {
		sim, c := newSim(), &clock{now: time.Unix(1_700_000_000, 0)}
		m := newTestManager(t, t.TempDir(), sim, c, 1)
		sim.fail[step] = errors.New("refused")
		if _, err := m.Add(context.Background(), k("a"), Pod{}, nil); err == nil {
			t.Fatalf("%s: no error", step)
		}
		if len(sim.devices)+len(sim.attached) != 0 || m.Usage().Used != 0 {
			t.Errorf("%s: left %v %v, usage %+v", step, sim.devices, sim.attached, m.Usage())
		}
		delete(sim.fail, step)
		c.advance(CoolDown)
		if _, err := m.Add(context.Background(), k("a"), Pod{}, nil); err != nil {
			t.Errorf("%s: the next ADD: %v", step, err)
		}
	}
}

// TestFailedDelKeepsAddress: an address is not given away while anything of its endpoint is left.
func TestFailedDelKeepsAddress(t *testing.T) {
	for _, step := range []string{"remove", "detach"} {
		sim, c := newSim(), &clock{now: time.Unix(1_700_000_000, 0)}
		m := newTestManager(t, t.TempDir(), sim, c, 1)
		if _, err := m.Add(context.Background(), k("a"), Pod{}, nil); err != nil {
			t.Fatal(err)
		}
		sim.fail[step] = errors.New("refused")
		if err := m.Del(context.Background(), k("a")); err == nil {
			t.Fatalf("%s: no error", step)
		}
		c.advance(time.Hour)
		if e, err := m.Add(context.Background(), k("b"), Pod{}, nil); !errors.Is(err, ErrNoAddress) {
			t.Errorf("%s: %s given away: %v", step, e.Address, err)
		}
		delete(sim.fail, step)
		if err := m.Del(context.Background(), k("a")); err != nil {
			t.Errorf("%s: the next DEL: %v", step, err)
		}
	}
}

// TestRestartKeepsRest: an address that rests when the agent ends rests on in the next.
func TestRestartKeepsRest(t *testing.T) {
	dir, sim, c := t.TempDir(), newSim(), &clock{now: time.Unix(1_700_000_000, 0)}
	m := newTestManager(t, dir, sim, c, 2)
	a, err := m.Add(context.Background(), k("a"), Pod{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Add(context.Background(), k("b"), Pod{Name: "shop/b"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Del(context.Background(), k("a")); err != nil {
		t.Fatal(err)
	}
	m = newTestManager(t, dir, sim, c, 2)
	if got := m.Endpoints(); len(got) != 1 || !reflect.DeepEqual(got[0], b) {
		t.Fatalf("restored %+v, expected %+v", got, b)
	}
	if e, err := m.Add(context.Background(), k("c"), Pod{}, nil); !errors.Is(err, ErrNoAddress) {
		t.Errorf("%s given while it rests: %v", e.Address, err)
	}
	c.advance(CoolDown)
	e, err := m.Add(context.Background(), k("c"), Pod{}, nil)
	if err != nil || e.Address != a.Address {
		t.Errorf("after its rest: %s, %v", e.Address, err)
	}
	if e.Epoch <= b.Epoch {
		t.Errorf("epoch %d after %d", e.Epoch, b.Epoch)
	}
	if err := m.Tidy(); err != nil {
		t.Error(err)
	}
	if m = newTestManager(t, dir, sim, c, 2); len(m.Endpoints()) != 2 {
		t.Errorf("after tidying %d endpoints, expected 2", len(m.Endpoints()))
	}
}

// TestConcurrent adds and deletes the same names from many sides at once.
func TestConcurrent(t *testing.T) {
	sim, c := newSim(), &clock{now: time.Unix(1_700_000_000, 0)}
	m := newTestManager(t, t.TempDir(), sim, c, 200)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				key := k(fmt.Sprintf("pod-%d", (i+w)%10))
				if _, err := m.Add(context.Background(), key, Pod{}, nil); err != nil && !errors.Is(err, ErrNoAddress) {
					t.Error(err)
				}
				if i%2 == 0 {
					if err := m.Del(context.Background(), key); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	seen := map[netip.Addr]bool{}
	for _, e := range m.Endpoints() {
		if seen[e.Address] {
			t.Errorf("%s twice", e.Address)
		}
		seen[e.Address] = true
		if sim.attached[e.Slot].Key != e.Key {
			t.Errorf("slot %d guards %s, expected %s", e.Slot, sim.attached[e.Slot].Key, e.Key)
		}
	}
	if len(seen) != len(sim.devices) {
		t.Errorf("%d endpoints, %d devices", len(seen), len(sim.devices))
	}
}
