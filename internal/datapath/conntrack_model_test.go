package datapath

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// A modelFlow is what the rules of connection tracking say of a flow, written down without masks and
// tables, to be compared with the programs.
type modelFlow struct {
	origin      netip.AddrPort
	midstream   bool
	stack       bool
	established bool // has been; it stays in that table
	syn, ack    map[netip.AddrPort]bool
	fin         map[netip.AddrPort]bool
	reset       bool
	packets     map[netip.AddrPort]uint64
}

func newModelFlow(from netip.AddrPort, midstream, stack bool) *modelFlow {
	set := func() map[netip.AddrPort]bool { return map[netip.AddrPort]bool{} }
	return &modelFlow{origin: from, midstream: midstream, stack: stack, syn: set(), ack: set(), fin: set(), packets: map[netip.AddrPort]uint64{}}
}

func (m *modelFlow) closed() bool { return m.reset || len(m.fin) == 2 }

func (m *modelFlow) sent(from netip.AddrPort, tcp uint8) {
	m.packets[from]++
	for flag, set := range map[uint8]map[netip.AddrPort]bool{tcpSYN: m.syn, tcpACK: m.ack, tcpFIN: m.fin} {
		if tcp&flag != 0 {
			set[from] = true
		}
	}
	m.reset = m.reset || tcp&tcpRST != 0
}

func (m *modelFlow) state() ConnState {
	both := len(m.ack) == 2 && (m.midstream || len(m.syn) == 2)
	switch {
	case m.reset:
		return ConnReset
	case len(m.fin) == 2:
		return ConnClosed
	case !both:
		return ConnOpening
	case len(m.fin) == 1:
		return ConnHalfClosed
	}
	return ConnEstablished
}

// step returns what is left of the flow after a packet; nil: nothing.
func (m *modelFlow) step(from netip.AddrPort, tcp uint8, stack bool) (*modelFlow, bool) {
	begins := tcp == tcpSYN
	if m == nil || begins && (m.closed() || m.midstream) {
		m = newModelFlow(from, !begins, stack)
		m.sent(from, tcp)
		return m, false
	}
	m.sent(from, tcp)
	if len(m.fin) == 2 && !m.reset && tcp == tcpACK && !m.stack {
		return nil, true
	}
	if s := m.state(); s == ConnEstablished || s == ConnHalfClosed {
		m.established = true
	}
	return m, true
}

// Random packets of a few flows: programs and model agree on every step.
func TestConnectionsFollowTheModel(t *testing.T) {
	k := newTracker(t, testConfig(t))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	ends := [][2]netip.AddrPort{{connA, connB}, {connB6, connA6}, {connA, portOf(connA, 1)}}
	flows := make([]*modelFlow, len(ends))
	kinds := []uint8{tcpSYN, tcpSYN | tcpACK, tcpACK, tcpACK, tcpACK, tcpFIN | tcpACK, tcpFIN | tcpACK, tcpRST}
	seen := map[ConnState]int{}
	for step := range 20000 {
		i := random.IntN(len(ends))
		from, to := ends[i][0], ends[i][1]
		if random.IntN(2) == 0 {
			from, to = to, from
		}
		tcp, stack := kinds[random.IntN(len(kinds))], random.IntN(4) == 0
		n := ctNewValue{FromSlot: ctNoSlot, ToSlot: ctNoSlot}
		if tcp != tcpSYN {
			n.Flags |= ctMidstream
		}
		if stack {
			n.Flags |= ctStack
		}
		v := k.run(segment{from: from, to: to, protocol: protocolTCP, tcp: tcp, new: n})
		want, hit := flows[i].step(from, tcp, stack)
		flows[i] = want
		e, established, found := k.entry(from, to, protocolTCP)
		established = established && e.Flags&ctBeginning == 0 // as the model knows no places
		if v.Failed != 0 || (v.Hit == 1) != hit || found != (want != nil) {
			t.Fatalf("step %d, %s sends %#x: hit %d, found %v; expected %v, %v", step, from, tcp, v.Hit, found, hit, want != nil)
		}
		if want == nil {
			seen[""]++
			continue
		}
		seen[want.state()]++
		_, side := newCTKey(from, to, protocolTCP)
		origin, _ := newCTKey(from, to, protocolTCP)
		if s := connState(protocolTCP, e); s != want.state() || established != want.established || origin.end(int(e.Origin)) != want.origin ||
			e.Side[side].Packets != want.packets[from] || e.Side[1-side].Packets != want.packets[to] {
			t.Fatalf("step %d, %s sends %#x: %s, established %v, %+v; expected %s, %v, %+v", step, from, tcp, s, established, e, want.state(), want.established, want)
		}
	}
	for _, s := range []ConnState{"", ConnOpening, ConnEstablished, ConnHalfClosed, ConnClosed, ConnReset} {
		if seen[s] < 20 {
			t.Errorf("state %q was met %d times, expected at least 20", s, seen[s])
		}
	}
}
