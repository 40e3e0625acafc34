package datapath

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
)

// flowValue mirrors struct flow of bpf/include/flow.h.
type flowValue struct {
	Src, Dst                              wireAddr
	Sport, Dport                          [2]byte
	Protocol, Family, Kind, Fragment, TCP uint8
	TTL                                   uint8
	L4, InnerIP, InnerL4                  uint16
	Length                                uint32
	Headers, Reserved                     uint16
}

// ctNewValue mirrors struct ct_new of bpf/include/conntrack.h.
type ctNewValue struct {
	Flags, FromSlot, ToSlot, NATENI     uint16
	FromGeneration, ToGeneration, Class uint32
	Generation                          uint32
	NATAddr                             wireAddr
	NATPort                             [2]byte
	Reserved                            [6]byte
}

// trackValue mirrors struct track of bpf/tests/conntrack.c.
type trackValue struct {
	Ethernet    [14]byte
	Reserved    uint16
	Flow        flowValue
	New         ctNewValue
	Hit         uint8
	Stale       uint8
	Side        uint8
	Established uint8
	Entry       uint8
	Create      uint8
	To          uint8
	Failed      uint8
	Now         uint32
	Reserved2   uint32
}

// A tracker runs connection tracking alone, over the maps of a datapath.
type tracker struct {
	t    testing.TB
	d    *Datapath
	prog *ebpf.Program
}

func newTracker(t testing.TB, cfg Config) *tracker {
	t.Helper()
	newSpace(t).enter(t)
	return trackerOf(t, openDatapath(t, cfg), loadTrack)
}

func trackerOf(t testing.TB, d *Datapath, load func() (*ebpf.CollectionSpec, error)) *tracker {
	t.Helper()
	spec, err := load()
	must(t, err)
	replace := map[string]*ebpf.Map{}
	for name := range spec.Maps {
		if m, ok := d.maps[name]; ok {
			spec.Maps[name].MaxEntries = m.MaxEntries()
			replace[name] = m
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replace})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer coll.Close()
	k := &tracker{t: t, d: d, prog: coll.DetachProgram(trackProgTrack)}
	t.Cleanup(func() { k.prog.Close() })
	return k
}

// A segment is a packet as connection tracking sees it.
type segment struct {
	from, to netip.AddrPort
	protocol uint8
	tcp      uint8
	kind     uint8
	new      ctNewValue
	noCreate bool
}

func (k *tracker) run(s segment) trackValue {
	k.t.Helper()
	if s.new == (ctNewValue{}) {
		s.new = ctNewValue{FromSlot: ctNoSlot, ToSlot: ctNoSlot}
	}
	v := trackValue{
		Flow: flowValue{
			Src: toWire(s.from.Addr()), Dst: toWire(s.to.Addr()),
			Sport: toPort(s.from.Port()), Dport: toPort(s.to.Port()),
			Protocol: s.protocol, Family: 4, Kind: s.kind, TCP: s.tcp, Length: 100,
		},
		New: s.new, Create: 1,
	}
	if s.from.Addr().Is6() {
		v.Flow.Family = 6
	}
	if s.noCreate {
		v.Create = 0
	}
	frame, err := binary.Append(nil, binary.NativeEndian, v)
	must(k.t, err)
	ret, out, _, err := runProgram(k.prog, frame, skbContext{})
	must(k.t, err)
	if ret != 0 {
		k.t.Fatalf("the test's program says %d", ret)
	}
	_, err = binary.Decode(out, binary.NativeEndian, &v)
	must(k.t, err)
	return v
}

// deleteConnections removes the connections of an address: those that it is an end of, and those that are
// translated to it.
func deleteConnections(t testing.TB, d *Datapath, addr netip.Addr) int {
	t.Helper()
	own := toWire(addr)
	n, err := d.deleteConnections(func(key ctKey, e ctEntry) bool {
		return key.Addr[0] == own || key.Addr[1] == own || e.Flags&(ctNAT|ctAlias) != 0 && e.NATAddr == own
	})
	must(t, err)
	return n
}

// entry is what the tables have of a flow.
func (k *tracker) entry(from, to netip.AddrPort, protocol uint8) (e ctEntry, established, found bool) {
	k.t.Helper()
	key, _ := newCTKey(from, to, protocol)
	if err := k.d.maps[weftMapWeftCtEst].Lookup(key, &e); err == nil {
		return e, true, true
	}
	err := k.d.maps[weftMapWeftCtNew].Lookup(key, &e)
	return e, false, err == nil
}
