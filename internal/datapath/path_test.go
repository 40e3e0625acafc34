package datapath

import (
	"net/netip"
	"testing"

	"github.com/weft-cni/weft/internal/contract"
)

// Every way of DATAPATH's table, in both families; one datapath for all, as loading takes longest.
func TestPaths(t *testing.T) {
	r := newPathRig(t)
	for family, f := range pathFamilies() {
		for _, c := range []struct {
			name string
			test func(*testing.T, *pathRig, pathFamily)
		}{
			{"between local pods", testLocalPath},
			{"to the VPC and back", testVPCPath},
			{"from the VPC", testInboundPath},
			{"to the world", testWorldPath},
			{"to the node", testNodePath},
			{"to a service that leads elsewhere", testServicePath},
			{"to a service that leads to a local pod", testLocalServicePath},
			{"to a stranger", testStrangerPath},
			{"mid-stream", testMidstreamPath},
			{"closed without a flow", testClosedPath},
			{"queries", testQueryPath},
			{"errors", testErrorPath},
			{"fragments", testFragmentPath},
			{"time to live", testTTLPath},
			{"too big", testTooBigPath},
			{"forged from outside", testForgedPath},
			{"limited bandwidth", testQueuedPath},
			{"by netkit", testNetkitPath},
			{"a reused address", testReusedPath},
			{"an address that comes here", testMovedPath},
			{"an endpoint that is gone", testGonePath},
			{"metadata", testMetadataPath},
			{"an ENI that is away", testAwayPath},
		} {
			t.Run(family+"/"+c.name, func(t *testing.T) {
				r.enter(t)
				c.test(t, r, f)
			})
		}
	}
}

func testLocalPath(t *testing.T, r *pathRig, f pathFamily) {
	for _, protocol := range []byte{protoTCP, protoUDP, protoSCTP} {
		p := natPacket{src: f.pod, dst: f.other, protocol: protocol, sport: r.port(), dport: 80, flags: tcpSYN, data: []byte("a")}
		r.run(t, FromPod, p, ReasonDelivered).delivered(t, r.b, 64)
		back := p.answered()
		back.flags = tcpSYN | tcpACK
		r.run(t, FromPod, back, ReasonDelivered).delivered(t, r.a, 64)
		p.flags = tcpACK
		r.run(t, FromPod, p, ReasonDelivered).delivered(t, r.b, 64)
		c := r.flow(t, p, false, 2, 1)
		if c.Sent.Slot != int(r.a.Slot) || c.Received.Slot != int(r.b.Slot) {
			t.Errorf("protocol %d: slots %d and %d, expected %d and %d", protocol, c.Sent.Slot, c.Received.Slot, r.a.Slot, r.b.Slot)
		}
		if protocol == protoTCP && !c.Established {
			t.Error("not established after the handshake")
		}
	}
}

func testVPCPath(t *testing.T, r *pathRig, f pathFamily) {
	p := natPacket{src: f.pod, dst: f.far, protocol: protoTCP, sport: r.port(), dport: 80, flags: tcpSYN}
	r.run(t, FromPod, p, ReasonSent).sent(t, 64)
	// The second time it passes to_netdev nothing is looked at any more.
	r.run(t, ToNetdev, p, ReasonForwarded, withMark(contract.MarkDecided), withDevice(r.enis[0].Ifindex))
	back := p.answered()
	back.flags = tcpSYN | tcpACK
	r.run(t, FromNetdev, back, ReasonDelivered).delivered(t, r.a, 64)
	p.flags = tcpACK
	r.run(t, FromPod, p, ReasonSent).sent(t, 64)
	if c := r.flow(t, p, false, 2, 1); !c.Established {
		t.Error("not established after the handshake")
	}
	// By an ENI that doesn't own the pod's address: delivered, and noted.
	g := r.run(t, FromNetdev, back, ReasonDelivered, withDevice(r.enis[0].Ifindex))
	if len(g.notes) != 1 || g.notes[0] != ReasonNoteWrongENIIn {
		t.Errorf("notes %v, expected %s", g.notes, ReasonNoteWrongENIIn)
	}
}

func testInboundPath(t *testing.T, r *pathRig, f pathFamily) {
	for _, from := range []netip.Addr{f.far, f.world} {
		for _, protocol := range []byte{protoTCP, protoUDP} {
			p := natPacket{src: from, dst: f.pod, protocol: protocol, sport: r.port(), dport: 8080, flags: tcpSYN, data: []byte("in")}
			r.run(t, FromNetdev, p, ReasonDelivered).delivered(t, r.a, 64)
			back := p.answered()
			back.flags = tcpSYN | tcpACK
			// Its answers keep the address that it was sent to, whoever it is.
			if g := r.run(t, FromPod, back, ReasonSent); g.natPacket.src != f.pod || g.sport != 8080 {
				t.Errorf("the answer to %s was translated to %s port %d", from, g.natPacket.src, g.sport)
			}
			r.flow(t, p, false, 1, 1)
		}
	}
}

func testWorldPath(t *testing.T, r *pathRig, f pathFamily) {
	p := natPacket{src: f.pod, dst: f.world, protocol: protoTCP, sport: r.port(), dport: 443, flags: tcpSYN}
	g := r.run(t, FromPod, p, ReasonSent)
	g.sent(t, 64)
	if !f.translated {
		if g.natPacket.src != f.pod || g.sport != p.sport {
			t.Errorf("left as %s port %d, expected its own address and port", g.natPacket.src, g.sport)
		}
		return
	}
	if g.natPacket.src != f.node || g.sport < 1024 || g.sport > 29999 {
		t.Errorf("left as %s port %d, expected %s and a port of the range", g.natPacket.src, g.sport, f.node)
	}
	back := g.natPacket.answered()
	back.flags = tcpSYN | tcpACK
	in := r.run(t, FromNetdev, back, ReasonDelivered, withDevice(r.enis[0].Ifindex))
	in.delivered(t, r.a, 64)
	if in.natPacket.dst != f.pod || in.dport != p.sport {
		t.Errorf("the answer came in for %s port %d, expected %s port %d", in.natPacket.dst, in.dport, f.pod, p.sport)
	}
	p.flags = tcpACK
	again := r.run(t, FromPod, p, ReasonSent)
	if again.natPacket.src != g.natPacket.src || again.sport != g.sport {
		t.Errorf("another source for the same flow: %s port %d", again.natPacket.src, again.sport)
	}
	if c := r.flow(t, p, false, 2, 1); !c.Established || c.ENI != 1 {
		t.Errorf("established %v, ENI %d; expected an established one of ENI 1", c.Established, c.ENI)
	}
	// An answer whose time ends here is not the host's.
	r.run(t, FromNetdev, back, ReasonTtl, withTTL(1), withDevice(r.enis[0].Ifindex))
	// What the world sends to that port from elsewhere is nobody's.
	back.src = f.far
	r.run(t, FromNetdev, back, ReasonForwarded, withDevice(r.enis[0].Ifindex))
}

func testNodePath(t *testing.T, r *pathRig, f pathFamily) {
	p := natPacket{src: f.pod, dst: f.node, protocol: protoUDP, sport: r.port(), dport: 53, data: []byte("q")}
	r.run(t, FromPod, p, ReasonToStack).left(t, 64, contract.MarkFromPod)
	r.run(t, ToPod, p.answered(), ReasonForwarded)
	r.run(t, FromPod, p, ReasonToStack)
	r.flow(t, p, true, 2, 1)
	// The host begins.
	q := natPacket{src: f.node, dst: f.pod, protocol: protoTCP, sport: r.port(), dport: 80, flags: tcpSYN}
	r.run(t, ToPod, q, ReasonForwarded)
	back := q.answered()
	back.flags = tcpSYN | tcpACK
	r.run(t, FromPod, back, ReasonToStack).left(t, 64, contract.MarkFromPod)
	r.flow(t, q, true, 1, 1)
	// From outside to the host: its own affair.
	r.run(t, FromNetdev, natPacket{src: f.far, dst: f.node, protocol: protoTCP, sport: r.port(), dport: 22, flags: tcpSYN}, ReasonForwarded,
		withDevice(r.enis[0].Ifindex)).left(t, 64, contract.MarkFromNetdev)
	r.run(t, ToNetdev, natPacket{src: f.node, dst: f.far, protocol: protoTCP, sport: 22, dport: r.port(), flags: tcpSYN}, ReasonForwarded,
		withDevice(r.enis[0].Ifindex))
}

// kube-proxy translates the destination to a pod of another node, and back.
func testServicePath(t *testing.T, r *pathRig, f pathFamily) {
	before := natPacket{src: f.pod, dst: f.service, protocol: protoTCP, sport: r.port(), dport: 443, flags: tcpSYN}
	behind := before
	behind.dst, behind.dport = f.far, 8443
	for _, flags := range []byte{tcpSYN, tcpACK} {
		before.flags, behind.flags = flags, flags
		r.run(t, FromPod, before, ReasonToStack).left(t, 64, contract.MarkFromPod)
		r.run(t, ToNetdev, behind, ReasonForwarded, withMark(contract.MarkFromPod))
		back := behind.answered()
		back.flags = tcpSYN | tcpACK
		r.run(t, FromNetdev, back, ReasonToStack).left(t, 64, contract.MarkFromNetdev)
		back = before.answered()
		back.flags = tcpSYN | tcpACK
		r.run(t, ToPod, back, ReasonForwarded, withMark(contract.MarkFromNetdev))
	}
	r.flow(t, before, true, 2, 2)
	if c := r.flow(t, behind, true, 2, 2); !c.AtNetdev || !c.Established {
		t.Errorf("behind the stack: %+v, expected an established one made by to_netdev", c)
	}
}

func testLocalServicePath(t *testing.T, r *pathRig, f pathFamily) {
	before := natPacket{src: f.pod, dst: f.service, protocol: protoUDP, sport: r.port(), dport: 53, data: []byte("q")}
	behind := before
	behind.dst, behind.dport = f.other, 5353
	for range 2 {
		r.run(t, FromPod, before, ReasonToStack)
		r.run(t, ToPod, behind, ReasonForwarded, withMark(contract.MarkFromPod))
		r.run(t, FromPod, behind.answered(), ReasonToStack).left(t, 64, contract.MarkFromPod)
		r.run(t, ToPod, before.answered(), ReasonForwarded, withMark(contract.MarkFromPod))
	}
	r.flow(t, before, true, 2, 2)
	r.flow(t, behind, true, 2, 2)
}

// A private address that nothing is known of may be a service: the stack decides, and it is translated
// behind the stack if nobody else has done so.
func testStrangerPath(t *testing.T, r *pathRig, f pathFamily) {
	p := natPacket{src: f.pod, dst: f.stranger, protocol: protoTCP, sport: r.port(), dport: 80, flags: tcpSYN}
	r.run(t, FromPod, p, ReasonToStack).left(t, 64, contract.MarkFromPod)
	if !f.translated {
		r.run(t, ToNetdev, p, ReasonForwarded, withMark(contract.MarkFromPod))
		r.run(t, FromNetdev, p.answered(), ReasonToStack)
		return
	}
	g := r.run(t, ToNetdev, p, ReasonRedirected, withMark(contract.MarkFromPod))
	if g.natPacket.src != f.node || g.mark != contract.MarkDecided {
		t.Errorf("left as %s with mark %#x, expected %s and %#x", g.natPacket.src, g.mark, f.node, contract.MarkDecided)
	}
	back := g.natPacket.answered()
	back.flags = tcpSYN | tcpACK
	in := r.run(t, FromNetdev, back, ReasonToStack, withDevice(r.enis[0].Ifindex))
	if in.natPacket.dst != f.pod || in.dport != p.sport || in.ttl != 64 {
		t.Errorf("the answer goes up as %s port %d, expected %s port %d", in.natPacket.dst, in.dport, f.pod, p.sport)
	}
	r.run(t, ToPod, in.natPacket, ReasonForwarded, withMark(contract.MarkFromNetdev))
	// The next one keeps its translation, and its ENI.
	p.flags = tcpACK
	r.run(t, FromPod, p, ReasonToStack)
	again := r.run(t, ToNetdev, p, ReasonRedirected, withMark(contract.MarkFromPod))
	if again.sport != g.sport {
		t.Errorf("another port for the same flow: %d, expected %d", again.sport, g.sport)
	}
	r.flow(t, p, true, 2, 1)

	// Neither a later fragment nor an error begins a translation; a later fragment follows its first.
	first := natPacket{src: f.pod, dst: f.stranger, protocol: protoUDP, sport: r.port(), dport: 53, id: r.port(), fragment: 0x2000, data: make([]byte, 24)}
	later := first
	later.fragment, later.data = 4, make([]byte, 16)
	failed := natPacket{src: f.pod, dst: f.stranger, protocol: f.icmp, kind: f.dead, data: first.answered().ip()}
	r.run(t, FromPod, first, ReasonToStack)
	for _, p := range []natPacket{later, failed} {
		if g := r.run(t, ToNetdev, p, ReasonForwarded, withMark(contract.MarkFromPod)); g.natPacket.src != f.pod {
			t.Errorf("%+v left as %s, expected %s", p, g.natPacket.src, f.pod)
		}
	}
	for _, p := range []natPacket{first, later} {
		if g := r.run(t, ToNetdev, p, ReasonRedirected, withMark(contract.MarkFromPod)); g.natPacket.src != f.node {
			t.Errorf("%+v left as %s, expected %s", p, g.natPacket.src, f.node)
		}
	}
}

func testMidstreamPath(t *testing.T, r *pathRig, f pathFamily) {
	noted := func(g passage, want ...Reason) {
		t.Helper()
		if len(g.notes) != len(want) || len(want) > 0 && g.notes[0] != want[0] {
			t.Errorf("notes %v, expected %v", g.notes, want)
		}
	}
	for _, to := range []netip.Addr{f.far, f.other} {
		p := natPacket{src: f.pod, dst: to, protocol: protoTCP, sport: r.port(), dport: 80, flags: tcpACK}
		noted(r.run(t, FromPod, p, ReasonToStack), ReasonNoteMidstream)
		noted(r.run(t, FromPod, p, ReasonToStack))
		if to == f.other {
			// Counted by from_pod, not twice.
			noted(r.run(t, ToPod, p, ReasonForwarded, withMark(contract.MarkFromPod)))
			r.run(t, FromPod, p.answered(), ReasonToStack)
			r.run(t, ToPod, p.answered(), ReasonForwarded, withMark(contract.MarkFromPod))
		} else {
			r.run(t, ToNetdev, p, ReasonForwarded, withMark(contract.MarkFromPod))
			r.run(t, FromNetdev, p.answered(), ReasonToStack)
			r.run(t, ToPod, p.answered(), ReasonForwarded, withMark(contract.MarkFromNetdev))
		}
		if c := r.flow(t, p, true, 2, 1); !c.Midstream {
			t.Error("not known as one that wasn't seen to begin")
		}
		// A SYN begins anew, and takes the fast path.
		p.flags = tcpSYN
		want := ReasonSent
		if to == f.other {
			want = ReasonDelivered
		}
		r.run(t, FromPod, p, want)
		r.flow(t, p, false, 1, 0)
	}
	q := natPacket{src: f.far, dst: f.pod, protocol: protoTCP, sport: r.port(), dport: 80, flags: tcpACK}
	r.run(t, FromNetdev, q, ReasonToStack)
	noted(r.run(t, ToPod, q, ReasonForwarded, withMark(contract.MarkFromNetdev)), ReasonNoteMidstream)
	r.flow(t, q, true, 1, 0)
}

func testClosedPath(t *testing.T, r *pathRig, f pathFamily) {
	for _, flags := range []byte{tcpRST, tcpRST | tcpACK, tcpFIN | tcpACK, tcpSYN | tcpRST} {
		p := natPacket{src: f.pod, dst: f.far, protocol: protoTCP, sport: r.port(), dport: 80, flags: flags}
		r.run(t, FromPod, p, ReasonToStack)
		r.run(t, ToNetdev, p, ReasonForwarded, withMark(contract.MarkFromPod))
		q := natPacket{src: f.far, dst: f.pod, protocol: protoTCP, sport: r.port(), dport: 80, flags: flags}
		r.run(t, FromNetdev, q, ReasonToStack)
		r.run(t, ToPod, q, ReasonForwarded, withMark(contract.MarkFromNetdev))
		for _, p := range []natPacket{p, q} {
			if _, ok := r.entry(t, p.src, p.dst, p.protocol, p.sport, p.dport); ok {
				t.Errorf("flags %#x made an entry", flags)
			}
		}
	}
}

func testQueryPath(t *testing.T, r *pathRig, f pathFamily) {
	id := r.port()
	q := natPacket{src: f.pod, dst: f.far, protocol: f.icmp, kind: f.query, sport: id, dport: id}
	r.run(t, FromPod, q, ReasonSent).sent(t, 64)
	back := q.answered()
	back.kind = f.answer
	r.run(t, FromNetdev, back, ReasonDelivered).delivered(t, r.a, 64)
	r.flow(t, q, false, 1, 1)
	q.dst = f.node
	r.run(t, FromPod, q, ReasonToStack)
	q.dst = f.other
	r.run(t, FromPod, q, ReasonDelivered).delivered(t, r.b, 64)
}

func testErrorPath(t *testing.T, r *pathRig, f pathFamily) {
	p := natPacket{src: f.pod, dst: f.far, protocol: protoUDP, sport: r.port(), dport: 33434, data: []byte("anybody?")}
	r.run(t, FromPod, p, ReasonSent)
	failed := natPacket{src: f.far, dst: f.pod, protocol: f.icmp, kind: f.dead, data: p.ip()}
	r.run(t, FromNetdev, failed, ReasonDelivered).delivered(t, r.a, 64)
	router := failed
	router.src = f.world
	r.run(t, FromNetdev, router, ReasonDelivered).delivered(t, r.a, 64)
	r.flow(t, p, false, 1, 0) // an error is about a flow, not of it

	// Of no flow: by the stack, and no entry.
	p.sport = r.port()
	failed.data = p.ip()
	r.run(t, FromNetdev, failed, ReasonToStack)
	r.run(t, ToPod, failed, ReasonForwarded, withMark(contract.MarkFromNetdev))
	// About what somebody else has sent.
	failed.data = natPacket{src: f.other, dst: f.far, protocol: protoUDP, sport: 1, dport: 2}.ip()
	r.run(t, FromNetdev, failed, ReasonBadHeader)
	failed.data = p.ip()[:10]
	r.run(t, FromNetdev, failed, ReasonTruncated)

	// The pod's own, about what it got; and not about what another got.
	in := natPacket{src: f.far, dst: f.pod, protocol: protoUDP, sport: r.port(), dport: 9, data: []byte("nobody is here")}
	r.run(t, FromNetdev, in, ReasonDelivered)
	own := natPacket{src: f.pod, dst: f.far, protocol: f.icmp, kind: f.dead, data: in.ip()}
	r.run(t, FromPod, own, ReasonSent).sent(t, 64)
	in.dst = f.other
	own.data = in.ip()
	r.run(t, FromPod, own, ReasonSourceAddress)
}

func testFragmentPath(t *testing.T, r *pathRig, f pathFamily) {
	first := natPacket{src: f.pod, dst: f.far, protocol: protoUDP, sport: r.port(), dport: 53, id: r.port(), fragment: 0x2000, data: make([]byte, 24)}
	later := first
	later.fragment, later.data = 4, make([]byte, 16)
	r.run(t, FromPod, later, ReasonFragmentUnknown)
	r.run(t, FromPod, first, ReasonSent)
	r.run(t, FromPod, later, ReasonSent).sent(t, 64)
	r.flow(t, first, false, 2, 0)
	stranger := later
	stranger.id++
	r.run(t, FromPod, stranger, ReasonFragmentUnknown)
	stranger.src = f.other
	r.runFrame(t, FromPod, r.a.Ifindex, ethernetFrame(r.a.HostMAC, r.a.PodMAC, r.ethertype(f), stranger.ip()), ReasonSourceAddress)

	in, more := first.answered(), later.answered()
	r.run(t, FromNetdev, more, ReasonFragmentUnknown)
	r.run(t, FromNetdev, in, ReasonDelivered)
	r.run(t, FromNetdev, more, ReasonDelivered).delivered(t, r.a, 64)
	// The host puts its own together.
	more.dst = f.node
	r.run(t, FromNetdev, more, ReasonForwarded, withDevice(r.enis[0].Ifindex))

	// To a tunnel's port, in pieces.
	first.dport, first.id = 4789, r.port()
	r.run(t, FromPod, first, ReasonTunnelPort)
	// Over TCP's flags.
	later.protocol, later.fragment = protoTCP, 1
	r.run(t, FromPod, later, ReasonBadHeader)
}

func (r *pathRig) ethertype(f pathFamily) uint16 {
	if f.pod.Is6() {
		return 0x86dd
	}
	return 0x0800
}

// The stack answers for packets whose time ends here, as a router does.
func testTTLPath(t *testing.T, r *pathRig, f pathFamily) {
	for _, to := range []netip.Addr{f.other, f.far, f.world} {
		for _, ttl := range []byte{0, 1} {
			p := natPacket{src: f.pod, dst: to, protocol: protoUDP, sport: r.port(), dport: 33434}
			r.run(t, FromPod, p, ReasonToStack, withTTL(ttl)).left(t, ttl, contract.MarkFromPod)
		}
		p := natPacket{src: f.pod, dst: to, protocol: protoUDP, sport: r.port(), dport: 33434}
		want := ReasonSent
		if to == f.other {
			want = ReasonDelivered
		}
		if g := r.run(t, FromPod, p, want, withTTL(2)); g.ttl != 1 {
			t.Errorf("two hops left to %s: %d afterwards, expected 1", to, g.ttl)
		}
		// Of a flow that is known, too.
		r.run(t, FromPod, p, ReasonToStack, withTTL(1)).left(t, 1, contract.MarkFromPod)
	}
	in := natPacket{src: f.far, dst: f.pod, protocol: protoUDP, sport: r.port(), dport: 7}
	r.run(t, FromNetdev, in, ReasonToStack, withTTL(1)).left(t, 1, contract.MarkFromNetdev)
	r.run(t, FromNetdev, in, ReasonDelivered, withTTL(2))
	r.run(t, FromNetdev, in, ReasonToStack, withTTL(1)).left(t, 1, contract.MarkFromNetdev)
}

// The ENIs' MTU is 1500.
func testTooBigPath(t *testing.T, r *pathRig, f pathFamily) {
	header := 20
	if f.pod.Is6() {
		header = 40
	}
	of := func(length int) natPacket {
		return natPacket{src: f.pod, dst: f.far, protocol: protoUDP, sport: r.port(), dport: 9, data: make([]byte, length-header-8)}
	}
	r.run(t, FromPod, of(1500), ReasonSent)
	r.run(t, FromPod, of(1501), ReasonToStack).left(t, 64, contract.MarkFromPod)
	// Between local pods no ENI is in the way.
	local := of(1600)
	local.dst = f.other
	r.run(t, FromPod, local, ReasonDelivered)
	// Of a flow that is known.
	p := of(1500)
	r.run(t, FromPod, p, ReasonSent)
	p.data = make([]byte, 1600)
	r.run(t, FromPod, p, ReasonToStack)

	// What counts of a large segment is what it is cut into.
	tcp := natPacket{src: f.pod, dst: f.far, protocol: protoTCP, sport: r.port(), dport: 80, flags: tcpSYN}
	r.run(t, FromPod, tcp, ReasonSent)
	tcp.flags, tcp.data = tcpACK, make([]byte, 2900)
	r.run(t, FromPod, tcp, ReasonSent, withGSO(uint32(1500-header-20)))
	r.run(t, FromPod, tcp, ReasonToStack, withGSO(uint32(1500-header-19)))
}

func testForgedPath(t *testing.T, r *pathRig, f pathFamily) {
	p := natPacket{src: f.pod, dst: f.other, protocol: protoUDP, sport: r.port(), dport: 7}
	r.run(t, FromNetdev, p, ReasonSourceIsLocal)
	r.run(t, FromPod, p, ReasonDelivered)
	r.run(t, FromNetdev, p, ReasonSourceIsLocal)
	out := natPacket{src: f.pod, dst: f.far, protocol: protoUDP, sport: r.port(), dport: 7}
	r.run(t, FromPod, out, ReasonSent)
	r.run(t, FromNetdev, out, ReasonSourceIsLocal)
	later := natPacket{src: f.pod, dst: f.node, protocol: protoUDP, fragment: 4, id: r.port(), data: make([]byte, 16)}
	r.run(t, FromNetdev, later, ReasonSourceIsLocal)
}

// A pod whose bandwidth is limited is reached through its device's queue.
func testQueuedPath(t *testing.T, r *pathRig, f pathFamily) {
	limited := r.b
	limited.Queued = true
	must(t, r.d.AddEndpoint(limited))
	defer func() { must(t, r.d.AddEndpoint(r.b)) }()
	for _, from := range []struct {
		hook Hook
		addr netip.Addr
	}{{FromPod, f.pod}, {FromNetdev, f.far}} {
		p := natPacket{src: from.addr, dst: f.other, protocol: protoUDP, sport: r.port(), dport: 7}
		g := r.run(t, from.hook, p, ReasonDelivered)
		if g.mark != contract.MarkDecided || g.ttl != 63 {
			t.Errorf("mark %#x and time to live %d, expected %#x and 63", g.mark, g.ttl, contract.MarkDecided)
		}
		r.run(t, ToPod, p, ReasonForwarded, withMark(contract.MarkDecided))
		r.flow(t, p, false, 1, 0)
	}
}

// What a pod sends by netkit has come in by no interface: it goes by the other pod's device, and the mark that
// says so ends there.
func testNetkitPath(t *testing.T, r *pathRig, f pathFamily) {
	byNetkit := func(_ []byte, in *skbContext) { in.IngressIfindex = notReceived }
	p := natPacket{src: f.pod, dst: f.other, protocol: protoUDP, sport: r.port(), dport: 7}
	for i := range 2 {
		g := r.run(t, FromPod, p, ReasonDelivered, byNetkit)
		if g.mark != contract.MarkDecided || g.ttl != 63 {
			t.Errorf("mark %#x and time to live %d, expected %#x and 63", g.mark, g.ttl, contract.MarkDecided)
		}
		if g := r.run(t, ToPod, p, ReasonForwarded, withMark(contract.MarkDecided)); g.mark != 0 {
			t.Errorf("the pod gets mark %#x, expected none", g.mark)
		}
		r.flow(t, p, false, uint64(i+1), 0)
	}
	p.dst = f.far
	r.run(t, FromPod, p, ReasonSent, byNetkit).sent(t, 64)
	p.dst = f.node
	r.run(t, FromPod, p, ReasonToStack, byNetkit).left(t, 64, contract.MarkFromPod)
	if g := r.run(t, ToPod, p.answered(), ReasonForwarded); g.mark != 0 {
		t.Errorf("the pod gets mark %#x, expected none", g.mark)
	}
}

func testReusedPath(t *testing.T, r *pathRig, f pathFamily) {
	tcp := natPacket{src: f.far, dst: f.other, protocol: protoTCP, sport: r.port(), dport: 80, flags: tcpSYN}
	udp := natPacket{src: f.pod, dst: f.other, protocol: protoUDP, sport: r.port(), dport: 53}
	r.run(t, FromNetdev, tcp, ReasonDelivered)
	r.run(t, FromPod, udp, ReasonDelivered)
	next := r.b
	next.Generation++
	must(t, r.d.DeleteEndpoint(r.b.Slot))
	must(t, r.d.AddEndpoint(next))
	r.b = next
	// Nothing of the old holder's flows is believed.
	tcp.flags = tcpACK
	r.run(t, FromNetdev, tcp, ReasonToStack)
	r.run(t, FromPod, udp, ReasonDelivered)
	if c := r.flow(t, udp, false, 1, 0); c.Received.Generation != next.Generation {
		t.Errorf("the entry is of generation %d, expected %d", c.Received.Generation, next.Generation)
	}
}

// An address that another node's pod had, or nobody, becomes a pod's of this node.
func testMovedPath(t *testing.T, r *pathRig, f pathFamily) {
	moved := f.far.Next()
	udp := natPacket{src: f.pod, dst: moved, protocol: protoUDP, sport: r.port(), dport: 7}
	tcp := natPacket{src: f.pod, dst: moved, protocol: protoTCP, sport: r.port(), dport: 80, flags: tcpSYN}
	in := natPacket{src: f.far, dst: f.pod, protocol: protoUDP, sport: r.port(), dport: 7}
	r.run(t, FromPod, udp, ReasonSent)
	r.run(t, FromPod, tcp, ReasonSent)
	r.run(t, FromNetdev, in, ReasonDelivered)
	must(t, r.d.SetAddress(moved, 2))
	defer func() { must(t, r.d.DeleteAddress(moved)) }()
	resting := udp
	resting.sport = r.port()
	r.run(t, FromPod, resting, ReasonToStack)

	was, next := r.b, r.b
	next.Generation++
	only := Endpoint{Slot: next.Slot, Generation: next.Generation} // its other address has a past of its own
	if moved.Is4() {
		next.Addr, only.Addr = moved, moved
	} else {
		next.Addr6, only.Addr6 = moved, moved
	}
	must(t, r.d.DeleteEndpoint(was.Slot))
	must(t, r.d.AddEndpoint(next))
	defer func() {
		must(t, r.d.DeleteEndpoint(next.Slot))
		r.b.Generation = next.Generation + 1
		must(t, r.d.AddEndpoint(r.b))
	}()
	// What was known of the address leads away from here, and would for as long as somebody sends.
	r.run(t, FromPod, udp, ReasonSent)
	r.run(t, FromPod, resting, ReasonToStack)
	n, err := r.d.ForgetOthers(only)
	must(t, err)
	if n != 3 {
		t.Errorf("%d connections were forgotten, expected 3", n)
	}
	r.run(t, FromPod, udp, ReasonDelivered).delivered(t, next, 64)
	r.run(t, FromPod, resting, ReasonDelivered).delivered(t, next, 64)
	r.run(t, FromPod, tcp, ReasonDelivered).delivered(t, next, 64)
	// What the endpoint has had since stays, and what isn't about it.
	if n, err = r.d.ForgetOthers(only); err != nil || n != 0 {
		t.Errorf("%d connections of the new endpoint were forgotten (%v), expected none", n, err)
	}
	r.flow(t, udp, false, 1, 0)
	r.flow(t, in, false, 1, 0)
}

// The address says that a slot holds it, which it no longer does.
func testGonePath(t *testing.T, r *pathRig, f pathFamily) {
	key := toWire(f.other)
	var have addressValue
	m := r.d.maps[weftMapWeftAddresses]
	must(t, m.Lookup(key, &have))
	gone := have
	gone.Slot = 77
	must(t, m.Put(key, gone))
	defer func() { must(t, m.Put(key, have)) }()
	r.run(t, FromPod, natPacket{src: f.pod, dst: f.other, protocol: protoUDP, sport: r.port(), dport: 7}, ReasonEndpointGone)
	r.run(t, FromNetdev, natPacket{src: f.far, dst: f.other, protocol: protoUDP, sport: r.port(), dport: 7}, ReasonEndpointGone)
}

func testMetadataPath(t *testing.T, r *pathRig, f pathFamily) {
	metadata := netip.MustParseAddr("169.254.169.254")
	if f.pod.Is6() {
		metadata = netip.MustParseAddr("fd00:ec2::254")
	}
	p := natPacket{src: f.pod, dst: metadata, protocol: protoTCP, sport: r.port(), dport: 80, flags: tcpSYN}
	r.run(t, FromPod, p, ReasonToStack)
	open := r.d.Settings()
	closed := open
	closed.MetadataClosed = true
	must(t, r.d.Configure(closed))
	defer func() { must(t, r.d.Configure(open)) }()
	r.run(t, FromPod, p, ReasonMetadataClosed)
	p.dst = f.far
	r.run(t, FromPod, p, ReasonSent)
}

func testAwayPath(t *testing.T, r *pathRig, f pathFamily) {
	known := natPacket{src: f.pod, dst: f.far, protocol: protoUDP, sport: r.port(), dport: 7}
	r.run(t, FromPod, known, ReasonSent)
	// A subnet without this family.
	e := r.enis[1]
	if f.pod.Is6() {
		e.NextHop6 = netip.Addr{}
		must(t, r.d.SetENI(e))
		r.run(t, FromPod, known, ReasonNoNextHop)
	}
	must(t, r.d.DeleteENI(2))
	defer r.addENIs(t)
	for _, p := range []natPacket{known, {src: f.pod, dst: f.far, protocol: protoUDP, sport: r.port(), dport: 7}} {
		r.run(t, FromPod, p, ReasonNoENI)
		r.run(t, ToNetdev, p, ReasonNoENI, withMark(contract.MarkFromPod), withDevice(r.enis[0].Ifindex))
	}
	r.run(t, ToNetdev, natPacket{src: f.stranger, dst: f.far, protocol: protoUDP, sport: 1, dport: 2}, ReasonNoOwner,
		withMark(contract.MarkFromPod), withDevice(r.enis[0].Ifindex))
}
