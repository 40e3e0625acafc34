package socklb

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	corev1 "k8s.io/api/core/v1"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

// simulated maps do what the kernel's do, and let a test look at them after each write.
type simulated struct {
	frontends map[keyValue]frontendValue
	backends  map[slotKey]backendValue
	members   map[memberKey]bool
	ranges    map[rangeKey]bool
	maglev    map[uint32][]uint16
	writes    int
	after     func()
	fail      func() error
}

type simulatedMap[K comparable, V any] struct {
	of  *simulated
	in  map[K]V
	max int
}

func (m simulatedMap[K, V]) Put(key, value any) error {
	if m.of.fail != nil {
		if err := m.of.fail(); err != nil {
			return err
		}
	}
	k := key.(K)
	if _, ok := m.in[k]; !ok && m.max > 0 && len(m.in) >= m.max {
		return errors.New("the map is full")
	}
	v, ok := value.(V)
	if !ok {
		v = any(true).(V) // members have no value to speak of
	}
	m.in[k] = v
	m.of.wrote()
	return nil
}

func (m simulatedMap[K, V]) Delete(key any) error {
	if m.of.fail != nil {
		if err := m.of.fail(); err != nil {
			return err
		}
	}
	k := key.(K)
	if _, ok := m.in[k]; !ok {
		return ebpf.ErrKeyNotExist
	}
	delete(m.in, k)
	m.of.wrote()
	return nil
}

func (s *simulated) wrote() {
	s.writes++
	if s.after != nil {
		s.after()
	}
}

func newSimulated() *simulated {
	return &simulated{frontends: map[keyValue]frontendValue{}, backends: map[slotKey]backendValue{}, members: map[memberKey]bool{},
		ranges: map[rangeKey]bool{}, maglev: map[uint32][]uint16{}}
}

func (s *simulated) stores() stores {
	return stores{simulatedMap[keyValue, frontendValue]{of: s, in: s.frontends}, simulatedMap[slotKey, backendValue]{of: s, in: s.backends},
		simulatedMap[memberKey, bool]{of: s, in: s.members}, simulatedMap[rangeKey, bool]{of: s, in: s.ranges},
		simulatedMap[uint32, []uint16]{of: s, in: s.maglev}}
}

// who may be chosen at the address, by what is in the maps.
func (s *simulated) who(a loadbalancer.Key) ([]netip.AddrPort, bool) {
	fe, ok := s.frontends[newFrontendKey(a)]
	if !ok {
		return nil, false
	}
	var out []netip.AddrPort
	for i := range fe.Count {
		if be, ok := s.backends[slotKey{fe.Set, i}]; ok {
			out = append(out, addrPort(be.Addr, be.Port))
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out, true
}

func address(n int, p corev1.Protocol) loadbalancer.Address {
	return loadbalancer.Address{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 20, 0, byte(n)}), 80), Protocol: p}
}

func serviceName(n int) loadbalancer.Name {
	return loadbalancer.Name{Namespace: "default", Name: fmt.Sprint("s", n)}
}

// Whatever changes, in whatever order: the maps end as they should be, nothing is left over, and at no moment
// between two writes does a client meet a frontend with a slot that isn't there or with a backend that it has
// neither before nor after.
func TestTableAtEachMoment(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		s := newSimulated()
		tab := newTable(s.stores(), 251)
		have := map[loadbalancer.Name][]loadbalancer.Frontend{}
		for range 30 {
			var changes []loadbalancer.Change
			before := map[loadbalancer.Key]loadbalancer.Frontend{}
			want := map[loadbalancer.Key]loadbalancer.Frontend{}
			for _, fs := range have {
				for _, f := range fs {
					before[f.Key()] = f
				}
			}
			taken := map[loadbalancer.Key]bool{}
			for i := range 6 {
				if r.IntN(3) > 0 {
					continue
				}
				c := loadbalancer.Change{Service: serviceName(i)}
				for range r.IntN(3) {
					a := loadbalancer.Key{Address: address(r.IntN(8), []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}[r.IntN(2)]),
						Scope: []loadbalancer.Scope{loadbalancer.Cluster, loadbalancer.Outside}[r.IntN(2)]}
					// An address has one service at a time; a change may take it from another's.
					if taken[a] || heldByOther(have, a, changes, c.Service) {
						continue
					}
					taken[a] = true
					backends := ports(r.Perm(30)[:r.IntN(12)]...)
					slices.SortFunc(backends, netip.AddrPort.Compare)
					f := loadbalancer.Frontend{Address: a.Address, Scope: a.Scope, Service: c.Service, Backends: backends, Refuse: len(backends) == 0,
						Maglev: r.IntN(3) == 0, Outside: r.IntN(2) == 0}
					if r.IntN(4) == 0 {
						f.Affinity = time.Hour
					}
					if r.IntN(3) == 0 {
						f.Restricted = true
						for _, n := range r.Perm(4)[:r.IntN(4)] {
							f.Ranges = append(f.Ranges, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("192.0.2.0/24")}[n])
						}
					}
					c.Frontends = append(c.Frontends, f)
				}
				changes = append(changes, c)
			}
			for _, c := range changes {
				delete(have, c.Service)
				if len(c.Frontends) > 0 {
					have[c.Service] = c.Frontends
				}
			}
			for _, fs := range have {
				for _, f := range fs {
					want[f.Key()] = f
				}
			}
			s.after = func() { checkMoment(t, s, before, want) }
			if failed := tab.apply(changes); len(failed) > 0 {
				t.Fatal(failed)
			}
			s.after = nil
			checkEnd(t, s, have)
		}
	}
}

func heldByOther(have map[loadbalancer.Name][]loadbalancer.Frontend, a loadbalancer.Key, changes []loadbalancer.Change, self loadbalancer.Name) bool {
	for name, fs := range have {
		if name == self || slices.ContainsFunc(changes, func(c loadbalancer.Change) bool { return c.Service == name }) {
			continue
		}
		if slices.ContainsFunc(fs, func(f loadbalancer.Frontend) bool { return f.Key() == a }) {
			return true
		}
	}
	return false
}

func checkMoment(t *testing.T, s *simulated, before, want map[loadbalancer.Key]loadbalancer.Frontend) {
	t.Helper()
	for k, fe := range s.frontends {
		a := k.key()
		for i := range fe.Count {
			be, ok := s.backends[slotKey{fe.Set, i}]
			if !ok {
				t.Fatalf("%v: slot %d of %d isn't there", a, i, fe.Count)
			}
			b := addrPort(be.Addr, be.Port)
			if !slices.Contains(before[a].Backends, b) && !slices.Contains(want[a].Backends, b) {
				t.Fatalf("%v: %v may be chosen, expected one of %v or %v", a, b, before[a].Backends, want[a].Backends)
			}
			// Of a set whose clients keep theirs, each backend that can be chosen is a member.
			if fe.Flags&flagMembers != 0 && !s.members[newMember(fe.Set, b)] {
				t.Fatalf("%v: %v is no member", a, b)
			}
		}
		if fe.Flags&flagMaglev != 0 {
			if len(s.maglev[fe.Set]) != 251 {
				t.Fatalf("%v is to be chosen from by a table that isn't there", a)
			}
			for _, slot := range s.maglev[fe.Set] {
				be, ok := s.backends[slotKey{fe.Set, uint32(slot)}]
				if b := addrPort(be.Addr, be.Port); !ok || !slices.Contains(before[a].Backends, b) && !slices.Contains(want[a].Backends, b) {
					t.Fatalf("%v: its table has slot %d, which is %v (%v)", a, slot, b, ok)
				}
			}
		}
		// Nobody is let in whom neither state lets in, and nobody is kept out whom both let in.
		if fe.Flags&flagRanges != 0 {
			for _, p := range before[a].Ranges {
				if want[a].Restricted && slices.Contains(want[a].Ranges, p) && !s.ranges[newRange(fe.Set, p)] {
					t.Fatalf("%v: clients of %s are kept out for a moment", a, p)
				}
			}
		} else if _, had := before[a]; had && before[a].Restricted && want[a].Restricted {
			t.Fatalf("%v: everybody is let in for a moment", a)
		}
	}
}

func checkEnd(t *testing.T, s *simulated, have map[loadbalancer.Name][]loadbalancer.Frontend) {
	t.Helper()
	frontends, backends, members, ranges, tables := 0, 0, 0, 0, 0
	for _, fs := range have {
		for _, f := range fs {
			got, ok := s.who(f.Key())
			if !ok || !slices.Equal(got, f.Backends) {
				t.Fatalf("%v has %v, %v; expected %v", f.Key(), got, ok, f.Backends)
			}
			fe := s.frontends[newFrontendKey(f.Key())]
			if fe.Flags != wantFlags(f) {
				t.Fatalf("%v has flags %b, expected %b", f.Key(), fe.Flags, wantFlags(f))
			}
			for _, p := range f.Ranges {
				if ranges++; !s.ranges[newRange(fe.Set, p)] {
					t.Fatalf("%v isn't for %s", f.Key(), p)
				}
			}
			frontends++
			backends += len(f.Backends)
			if wantFlags(f)&flagMembers != 0 {
				members += len(f.Backends)
			}
			if wantFlags(f)&flagMaglev != 0 {
				tables++
				checkMaglev(t, s, fe, f)
			}
		}
	}
	if got, want := [5]int{len(s.frontends), len(s.backends), len(s.members), len(s.ranges), len(s.maglev)}, [5]int{frontends, backends, members, ranges, tables}; got != want {
		t.Fatalf("frontends, slots, members, ranges and tables are %v, expected %v", got, want)
	}
}

// checkMaglev compares the table with one that another node makes, whose slots are in another order.
func checkMaglev(t *testing.T, s *simulated, fe frontendValue, f loadbalancer.Frontend) {
	t.Helper()
	for i, other := range loadbalancer.Maglev(f.Backends, 251) {
		be := s.backends[slotKey{fe.Set, uint32(s.maglev[fe.Set][i])}]
		if got := addrPort(be.Addr, be.Port); got != f.Backends[other] {
			t.Fatalf("%v: hash %d has %v, on another node %v", f.Key(), i, got, f.Backends[other])
		}
	}
}

// A change of one backend among 20,000 services is a handful of writes.
func TestTableWritesLittle(t *testing.T) {
	s := newSimulated()
	tab := newTable(s.stores(), 251)
	var changes []loadbalancer.Change
	for i := range 20000 {
		a := loadbalancer.Address{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 20, byte(i >> 8), byte(i)}), 80), Protocol: corev1.ProtocolTCP}
		name := loadbalancer.Name{Namespace: "default", Name: fmt.Sprint("s", i)}
		changes = append(changes, loadbalancer.Change{Service: name, Frontends: []loadbalancer.Frontend{{Address: a, Service: name, Backends: ports(1, 2, 3, 4, 5)}}})
	}
	if failed := tab.apply(changes); len(failed) > 0 {
		t.Fatal(failed)
	}
	s.writes = 0
	one := changes[777]
	one.Frontends[0].Backends = ports(1, 2, 4, 5, 6)
	if failed := tab.apply([]loadbalancer.Change{one}); len(failed) > 0 || s.writes != 1 {
		t.Errorf("%d writes for one other backend, expected 1; %v", s.writes, failed)
	}
	s.writes = 0
	if failed := tab.apply(changes); len(failed) > 0 || s.writes != 0 {
		t.Errorf("%d writes for nothing, expected none; %v", s.writes, failed)
	}
}

// A write that fails is told with its service, changes nothing else, and is made up for by the next try.
func TestTableFails(t *testing.T) {
	for at := range 16 {
		s := newSimulated()
		tab := newTable(s.stores(), 251)
		f := loadbalancer.Frontend{Address: address(1, corev1.ProtocolUDP), Service: serviceName(1), Backends: ports(1, 2, 3),
			Maglev: true, Restricted: true, Ranges: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
		if failed := tab.apply([]loadbalancer.Change{{Service: serviceName(1), Frontends: []loadbalancer.Frontend{f}}}); len(failed) > 0 {
			t.Fatal(failed)
		}
		n := 0
		s.fail = func() error {
			if n++; n > at {
				return errors.New("no memory")
			}
			return nil
		}
		before := map[loadbalancer.Key]loadbalancer.Frontend{f.Key(): f}
		f.Backends = ports(3, 4)
		f.Ranges = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		want := map[loadbalancer.Key]loadbalancer.Frontend{f.Key(): f}
		change := []loadbalancer.Change{{Service: serviceName(1), Frontends: []loadbalancer.Frontend{f}}}
		s.after = func() { checkMoment(t, s, before, want) }
		failed := tab.apply(change)
		if (len(failed) > 0) != (n > at) {
			t.Errorf("write %d failed, told was %v", at, failed)
		}
		s.fail = nil
		if failed := tab.apply(change); len(failed) > 0 {
			t.Fatal(failed)
		}
		s.after = nil
		checkEnd(t, s, map[loadbalancer.Name][]loadbalancer.Frontend{serviceName(1): {f}})
	}
}
