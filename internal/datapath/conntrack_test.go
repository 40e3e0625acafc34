package datapath

import (
	"net/netip"
	"testing"
	"time"
)

const (
	protocolICMP = 1
	protocolUDP  = 17
	protocolGRE  = 47

	kindQuery = 1
	kindError = 2
)

var (
	connA  = netip.MustParseAddrPort("192.168.1.10:40000")
	connB  = netip.MustParseAddrPort("10.0.0.1:80")
	connA6 = netip.MustParseAddrPort("[2001:db8::1]:40000")
	connB6 = netip.MustParseAddrPort("[2001:db8:1::2]:80")
)

// A ctStep is a packet of a sequence and what becomes of the flow.
type ctStep struct {
	from  byte // 'a' or 'b'
	tcp   uint8
	hit   bool
	state ConnState // empty: no entry is left
}

const tcpPSH = 0x08

// The first packet of every sequence comes from a.
func TestConnectionStates(t *testing.T) {
	const sa = tcpSYN | tcpACK
	k := newTracker(t, testConfig(t))
	for _, c := range []struct {
		name     string
		protocol uint8 // by default TCP
		flags    uint16
		steps    []ctStep
	}{
		{name: "a whole connection", steps: []ctStep{
			{'a', tcpSYN, false, ConnOpening},
			{'b', sa, true, ConnOpening},
			{'a', tcpACK, true, ConnEstablished},
			{'b', tcpACK | tcpPSH, true, ConnEstablished},
			{'a', tcpFIN | tcpACK, true, ConnHalfClosed},
			{'b', tcpACK | tcpPSH, true, ConnHalfClosed},
			{'b', tcpFIN | tcpACK, true, ConnClosed},
			{'a', tcpACK, true, ""},
		}},
		{name: "closed by both at once", steps: []ctStep{
			{'a', tcpSYN, false, ConnOpening},
			{'b', sa, true, ConnOpening},
			{'a', tcpACK, true, ConnEstablished},
			{'a', tcpFIN | tcpACK, true, ConnHalfClosed},
			{'b', tcpFIN | tcpACK, true, ConnClosed},
			{'b', tcpFIN | tcpACK, true, ConnClosed}, // again
			{'a', tcpACK, true, ""},
		}},
		{name: "no answer", steps: []ctStep{
			{'a', tcpSYN, false, ConnOpening},
			{'a', tcpSYN, true, ConnOpening},
		}},
		{name: "half open: the answer isn't confirmed", steps: []ctStep{
			{'a', tcpSYN, false, ConnOpening},
			{'b', sa, true, ConnOpening},
			{'b', sa, true, ConnOpening},
		}},
		{name: "opened by both at once", steps: []ctStep{
			{'a', tcpSYN, false, ConnOpening},
			{'b', tcpSYN, true, ConnOpening},
			{'a', sa, true, ConnOpening},
			{'b', sa, true, ConnEstablished},
			{'b', tcpACK, true, ConnEstablished},
		}},
		{name: "refused", steps: []ctStep{
			{'a', tcpSYN, false, ConnOpening},
			{'b', tcpRST | tcpACK, true, ConnReset},
		}},
		{name: "refused, and tried again", steps: []ctStep{
			{'a', tcpSYN, false, ConnOpening},
			{'b', tcpRST | tcpACK, true, ConnReset},
			{'a', tcpSYN, false, ConnOpening},
			{'b', sa, true, ConnOpening},
			{'a', tcpACK, true, ConnEstablished},
		}},
		{name: "reset", steps: []ctStep{
			{'a', tcpSYN, false, ConnOpening},
			{'b', sa, true, ConnOpening},
			{'a', tcpACK, true, ConnEstablished},
			{'b', tcpRST, true, ConnReset},
			{'a', tcpACK, true, ConnReset},
		}},
		{name: "reset, and its tuple used again by the other side", steps: []ctStep{
			{'a', tcpSYN, false, ConnOpening},
			{'b', sa, true, ConnOpening},
			{'a', tcpACK, true, ConnEstablished},
			{'b', tcpRST, true, ConnReset},
			{'b', tcpSYN, false, ConnOpening},
			{'a', sa, true, ConnOpening},
			{'b', tcpACK, true, ConnEstablished},
		}},
		{name: "closed, the last ACK is lost, and its tuple used again", steps: []ctStep{
			{'a', tcpSYN, false, ConnOpening},
			{'b', sa, true, ConnOpening},
			{'a', tcpACK, true, ConnEstablished},
			{'a', tcpFIN | tcpACK, true, ConnHalfClosed},
			{'b', tcpFIN | tcpACK, true, ConnClosed},
			{'a', tcpSYN, false, ConnOpening},
		}},
		{name: "a SYN on what is established changes nothing", steps: []ctStep{
			{'a', tcpSYN, false, ConnOpening},
			{'b', sa, true, ConnOpening},
			{'a', tcpACK, true, ConnEstablished},
			{'a', tcpSYN, true, ConnEstablished},
			{'b', tcpACK, true, ConnEstablished},
		}},
		{name: "the middle of a connection", flags: ctMidstream | ctStack, steps: []ctStep{
			{'a', tcpACK | tcpPSH, false, ConnOpening},
			{'a', tcpACK, true, ConnOpening},
			{'b', tcpACK, true, ConnEstablished},
		}},
		{name: "the middle of a connection, then another", flags: ctMidstream | ctStack, steps: []ctStep{
			{'a', tcpACK, false, ConnOpening},
			{'b', tcpACK, true, ConnEstablished},
			{'a', tcpSYN, false, ConnOpening},
		}},
		{name: "through the stack: the last packets pass another hook", flags: ctStack, steps: []ctStep{
			{'a', tcpSYN, false, ConnOpening},
			{'b', sa, true, ConnOpening},
			{'a', tcpACK, true, ConnEstablished},
			{'a', tcpFIN | tcpACK, true, ConnHalfClosed},
			{'b', tcpFIN | tcpACK, true, ConnClosed},
			{'a', tcpACK, true, ConnClosed},
			{'a', tcpACK, true, ConnClosed},
			{'a', tcpSYN, false, ConnOpening},
		}},
		{name: "closed before it was confirmed", steps: []ctStep{
			{'a', tcpSYN, false, ConnOpening},
			{'b', sa, true, ConnOpening},
			{'a', tcpFIN | tcpACK, true, ConnHalfClosed},
			{'b', tcpFIN | tcpACK, true, ConnClosed},
			{'a', tcpACK, true, ""},
		}},
		{name: "UDP", protocol: protocolUDP, steps: []ctStep{
			{'a', 0, false, ConnDatagram}, {'b', 0, true, ConnDatagram}, {'a', 0, true, ConnDatagram},
		}},
		{name: "a protocol without ports", protocol: protocolGRE, steps: []ctStep{
			{'a', 0, false, ConnDatagram}, {'b', 0, true, ConnDatagram},
		}},
		// INIT, INIT ACK, COOKIE ECHO, COOKIE ACK, DATA, SHUTDOWN, SHUTDOWN ACK, SHUTDOWN COMPLETE.
		{name: "SCTP", protocol: protocolSCTP, steps: []ctStep{
			{'a', tcpSYN, false, ConnOpening},
			{'b', sa, true, ConnOpening},
			{'a', tcpACK, true, ConnEstablished},
			{'b', tcpACK, true, ConnEstablished},
			{'a', tcpACK, true, ConnEstablished},
			{'a', tcpFIN, true, ConnHalfClosed},
			{'b', tcpFIN | tcpACK, true, ConnClosed},
			{'a', tcpACK, true, ""},
		}},
		{name: "SCTP on a second path, and its end", protocol: protocolSCTP, steps: []ctStep{
			{'a', tcpACK, false, ConnOpening}, // HEARTBEAT
			{'b', tcpACK, true, ConnEstablished},
			{'b', tcpRST, true, ConnReset}, // ABORT
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, ends := range [][2]netip.AddrPort{{connA, connB}, {connB, connA}, {connA6, connB6}, {connB6, connA6}, {connA, netip.AddrPortFrom(connA.Addr(), 80)}} {
				runSteps(t, k, ends, c.protocol, c.flags, c.steps)
			}
		})
	}
}

func runSteps(t *testing.T, k *tracker, ends [2]netip.AddrPort, protocol uint8, flags uint16, steps []ctStep) {
	t.Helper()
	if protocol == 0 {
		protocol = protocolTCP
	}
	if protocol == protocolGRE {
		ends[0], ends[1] = netip.AddrPortFrom(ends[0].Addr(), 0), netip.AddrPortFrom(ends[1].Addr(), 0)
		if ends[0] == ends[1] {
			return
		}
	}
	for i, step := range steps {
		s := segment{from: ends[0], to: ends[1], protocol: protocol, tcp: step.tcp, new: ctNewValue{Flags: flags, FromSlot: ctNoSlot, ToSlot: ctNoSlot}}
		if step.from == 'b' {
			s.from, s.to = s.to, s.from
		}
		if step.tcp == tcpSYN {
			s.new.Flags &^= ctMidstream
		}
		v := k.run(s)
		e, established, found := k.entry(ends[0], ends[1], protocol)
		state := ConnState("")
		if found {
			state = connState(protocol, e)
		}
		if (v.Hit == 1) != step.hit || state != step.state || v.Failed != 0 {
			t.Fatalf("%s, step %d: hit %d, state %q; expected %v, %q (failed: %d)", ends, i, v.Hit, state, step.hit, step.state, v.Failed)
		}
		if !found {
			continue
		}
		if established != (e.Flags&ctEstablished != 0) || (v.Established == 1) != established {
			t.Fatalf("%s, step %d: in the table of established ones: %v, flags %#x, the program says %d", ends, i, established, e.Flags, v.Established)
		}
		if state == ConnEstablished && !established {
			t.Fatalf("%s, step %d: it is established, and not in the table of those", ends, i)
		}
		if !step.hit && !established {
			key, side := newCTKey(s.from, s.to, protocol)
			if e.Side[side].Packets != 1 || int(e.Origin) != side || e.Side[side].Bytes != 100 {
				t.Fatalf("%s, step %d: a new entry of %v is %+v, expected one packet of side %d", ends, i, key, e, side)
			}
		}
	}
	n := deleteConnections(t, k.d, ends[0].Addr())
	_, _, found := k.entry(ends[0], ends[1], protocol)
	if last := steps[len(steps)-1].state; (n == 1) != (last != "") || found {
		t.Fatalf("%s: %d connections were deleted, one is left: %v", ends, n, found)
	}
}

func TestConnectionsAreCounted(t *testing.T) {
	k := newTracker(t, testConfig(t))
	for range 3 {
		k.run(segment{from: connA, to: connB, protocol: protocolUDP})
	}
	k.run(segment{from: connB, to: connA, protocol: protocolUDP})
	// An error is about a flow, not of it.
	if v := k.run(segment{from: connB, to: connA, protocol: protocolUDP, kind: kindError}); v.Hit != 1 {
		t.Error("an error about the flow doesn't find it")
	}
	var list []Connection
	must(t, k.d.Connections(func(c Connection) bool { list = append(list, c); return true }))
	if len(list) != 1 {
		t.Fatalf("there are %d connections, expected one: %+v", len(list), list)
	}
	c := list[0]
	if c.From != connA || c.To != connB || c.Sent.Packets != 3 || c.Sent.Bytes != 300 || c.Received.Packets != 1 || c.Received.Bytes != 100 || c.Sent.Slot != -1 {
		t.Errorf("the connection is %+v, expected 3 packets from %s and one back", c, connA)
	}
	if c.State != ConnDatagram || c.Expires > 61*time.Second || c.Expires < 50*time.Second || c.Age < 0 || c.Age > 10*time.Second {
		t.Errorf("state %s, expires in %s, age %s", c.State, c.Expires, c.Age)
	}
	s, err := k.d.ConntrackStats()
	must(t, err)
	if s.Created != 1 || s.Established != 0 {
		t.Errorf("counted %+v, expected one entry that isn't established", s)
	}
}

// Queries have their id in both ports; those of other ids are other flows.
func TestQueriesAreFlows(t *testing.T) {
	k := newTracker(t, testConfig(t))
	a, b := netip.MustParseAddrPort("192.168.1.10:7"), netip.MustParseAddrPort("10.0.0.1:7")
	if v := k.run(segment{from: a, to: b, protocol: protocolICMP, kind: kindQuery}); v.Hit != 0 || v.Entry != 1 {
		t.Errorf("the first query: hit %d, entry %d", v.Hit, v.Entry)
	}
	if v := k.run(segment{from: b, to: a, protocol: protocolICMP, kind: kindQuery, noCreate: true}); v.Hit != 1 {
		t.Error("the answer isn't known")
	}
	other := netip.AddrPortFrom(b.Addr(), 8)
	if v := k.run(segment{from: other, to: netip.AddrPortFrom(a.Addr(), 8), protocol: protocolICMP, kind: kindQuery, noCreate: true}); v.Hit != 0 {
		t.Error("the answer to another query is known")
	}
}

// An entry that was made for an earlier holder of an address, or of a slot, is as good as none.
func TestGenerations(t *testing.T) {
	k := newTracker(t, testConfig(t))
	pod, peer := netip.MustParseAddrPort(podAddr+":40000"), connB
	put := func(addr string, generation uint32) {
		e := newEndpointValue(endpointFor(3, addr, 2))
		e.Generation = generation
		must(t, k.d.maps[weftMapWeftEndpoints].Put(uint32(3), e))
	}
	put(podAddr, 1)
	open := func() {
		t.Helper()
		n := ctNewValue{FromSlot: 3, FromGeneration: 1, ToSlot: ctNoSlot}
		k.run(segment{from: pod, to: peer, protocol: protocolTCP, tcp: tcpSYN, new: n})
		k.run(segment{from: peer, to: pod, protocol: protocolTCP, tcp: tcpSYN | tcpACK, new: n})
		if v := k.run(segment{from: pod, to: peer, protocol: protocolTCP, tcp: tcpACK, new: n}); v.Established != 1 {
			t.Fatal("the connection isn't established")
		}
	}
	open()
	if v := k.run(segment{from: peer, to: pod, protocol: protocolTCP, tcp: tcpACK}); v.Hit != 1 || v.To != 1 {
		t.Errorf("to the pod: hit %d, endpoint %d; expected both", v.Hit, v.To)
	}
	if v := k.run(segment{from: pod, to: peer, protocol: protocolTCP, tcp: tcpACK}); v.Hit != 1 || v.To != 0 {
		t.Errorf("from the pod: hit %d, endpoint %d; expected a hit and no endpoint", v.Hit, v.To)
	}
	for _, c := range []struct {
		name       string
		addr       string
		generation uint32
	}{
		{"the address' next holder", podAddr, 2},
		{"the slot's next holder", otherAddr, 1},
	} {
		put(c.addr, c.generation)
		if v := k.run(segment{from: peer, to: pod, protocol: protocolTCP, tcp: tcpACK, noCreate: true}); v.Hit != 0 || v.Stale != 1 || v.To != 0 {
			t.Errorf("%s: hit %d, stale %d, endpoint %d; expected stale alone", c.name, v.Hit, v.Stale, v.To)
		}
		put(podAddr, 1)
		if v := k.run(segment{from: peer, to: pod, protocol: protocolTCP, tcp: tcpACK, noCreate: true}); v.Hit != 1 {
			t.Errorf("%s: it took something away by being there", c.name)
		}
	}
	// A stale entry makes way for a new one.
	put(podAddr, 2)
	n := ctNewValue{FromSlot: 3, FromGeneration: 2, ToSlot: ctNoSlot}
	if v := k.run(segment{from: pod, to: peer, protocol: protocolTCP, tcp: tcpSYN, new: n}); v.Hit != 0 || v.Failed != 0 || v.Entry != 1 {
		t.Errorf("a new connection: %+v", v)
	}
	if e, established, _ := k.entry(pod, peer, protocolTCP); !established || e.Flags&ctBeginning == 0 || e.Side[1].Generation+e.Side[0].Generation != 2 {
		t.Errorf("the entry is %+v, established %v; expected a new one of generation 2", e, established)
	}
	must(t, k.d.maps[weftMapWeftEndpoints].Put(uint32(3), endpointValue{}))
	if v := k.run(segment{from: peer, to: pod, protocol: protocolTCP, tcp: tcpSYN | tcpACK, noCreate: true}); v.Hit != 0 || v.Stale != 1 {
		t.Errorf("the endpoint is gone: hit %d, stale %d", v.Hit, v.Stale)
	}
}
