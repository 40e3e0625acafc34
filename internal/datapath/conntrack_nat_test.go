package datapath

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
)

// A translated flow and its alias, as the hooks make them.
type natFlow struct {
	pod, remote, outside netip.AddrPort
	new                  ctNewValue
}

func newNATFlow() natFlow {
	return natFlow{pod: connA, remote: connB, outside: netip.MustParseAddrPort("192.168.1.5:20000"), new: ctNewValue{
		Flags: ctNAT, FromSlot: ctNoSlot, ToSlot: ctNoSlot, NATENI: 1, Generation: 77,
		NATAddr: toWire(netip.MustParseAddr("192.168.1.5")), NATPort: toPort(20000),
	}}
}

func (n natFlow) putAlias(t *testing.T, k *tracker) {
	t.Helper()
	key, _ := newCTKey(n.remote, n.outside, protocolTCP)
	alias := ctEntry{Generation: n.new.Generation, Flags: ctAlias, NATAddr: toWire(n.pod.Addr()), NATPort: toPort(n.pod.Port())}
	alias.Side[0].Slot, alias.Side[1].Slot = ctNoSlot, ctNoSlot
	must(t, k.d.maps[mapConntrackAny].Update(key, alias, ebpf.UpdateNoExist))
}

func (n natFlow) run(k *tracker, from byte, tcp uint8) trackValue {
	k.t.Helper()
	s := segment{from: n.pod, to: n.remote, protocol: protocolTCP, tcp: tcp, new: n.new}
	if from == 'b' {
		s.from, s.to = s.to, s.from
	}
	return k.run(s)
}

func (n natFlow) expect(t *testing.T, k *tracker, when string, found, established bool) {
	t.Helper()
	for name, from := range map[string]netip.AddrPort{"flow": n.pod, "alias": n.outside} {
		_, e, f := k.entry(from, n.remote, protocolTCP)
		if f != found || e != established {
			t.Errorf("%s: the %s is there: %v, established: %v; expected %v, %v", when, name, f, e, found, established)
		}
	}
}

// A flow and its alias are made, promoted and deleted together.
func TestAliasSharesItsFlowsLife(t *testing.T) {
	k := newTracker(t, testConfig(t))
	n := newNATFlow()
	n.putAlias(t, k)
	n.run(k, 'a', tcpSYN)
	n.expect(t, k, "opening", true, false)
	n.run(k, 'b', tcpSYN|tcpACK)
	n.run(k, 'a', tcpACK)
	n.expect(t, k, "established", true, true)
	s, err := k.d.ConntrackStats()
	must(t, err)
	if s.Established != 2 || s.Promoted != 1 {
		t.Errorf("%d entries of %d promotions, expected 2 of 1", s.Established, s.Promoted)
	}
	// The last packets pass two hooks: both entries outlive them.
	n.run(k, 'b', tcpFIN|tcpACK)
	n.run(k, 'a', tcpFIN|tcpACK)
	n.run(k, 'b', tcpACK)
	n.expect(t, k, "closed", true, true)

	// A new connection with the old tuple keeps the translation, and the old generation with it.
	if v := n.run(k, 'a', tcpSYN); v.Hit != 1 {
		t.Error("a new connection with the tuple doesn't find the old translation")
	}
	e, _, _ := k.entry(n.pod, n.remote, protocolTCP)
	_, side := newCTKey(n.pod, n.remote, protocolTCP)
	if connState(protocolTCP, e) != ConnOpening || e.Generation != 77 || e.NATPort != toPort(20000) || int(e.Origin) != side || e.Side[side].Packets != 1 {
		t.Errorf("the entry is %+v, expected one that is opening and keeps its translation", e)
	}
	n.run(k, 'b', tcpSYN|tcpACK)
	n.run(k, 'a', tcpACK)
	n.expect(t, k, "established again", true, true)
	e, _, _ = k.entry(n.pod, n.remote, protocolTCP)
	if connState(protocolTCP, e) != ConnEstablished {
		t.Errorf("state %s, expected established", connState(protocolTCP, e))
	}
	// Nobody outside begins a connection by somebody else's translation.
	n.run(k, 'a', tcpRST)
	n.run(k, 'b', tcpSYN)
	if e, _, _ = k.entry(n.pod, n.remote, protocolTCP); connState(protocolTCP, e) != ConnReset {
		t.Errorf("state %s after a SYN from outside, expected reset", connState(protocolTCP, e))
	}
	if deleted := deleteConnections(t, k.d, n.pod.Addr()); deleted != 1 {
		t.Errorf("%d connections were deleted, expected one", deleted)
	}
	n.expect(t, k, "deleted", false, false)
	if s, err = k.d.ConntrackStats(); err != nil || s.Established != 0 {
		t.Errorf("%d entries are left (%v), expected none", s.Established, err)
	}
}

// Without its alias a flow isn't promoted: answers would not find it.
func TestFlowWithoutItsAliasStays(t *testing.T) {
	k := newTracker(t, testConfig(t))
	n := newNATFlow()
	n.run(k, 'a', tcpSYN)
	n.run(k, 'b', tcpSYN|tcpACK)
	if v := n.run(k, 'a', tcpACK); v.Established != 0 || v.Entry != 1 {
		t.Errorf("established %d, entry %d; expected an entry among the others", v.Established, v.Entry)
	}
	e, established, found := k.entry(n.pod, n.remote, protocolTCP)
	if !found || established || e.Flags&ctNoPromotion == 0 || e.Flags&ctEstablished != 0 {
		t.Errorf("found %v, established %v, flags %#x; expected an entry that remembers it", found, established, e.Flags)
	}
}
