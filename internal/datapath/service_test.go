package datapath

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weft-cni/weft/internal/contract"
)

// A serviceRig is a node whose services' tables a test writes; each test has frontends of its own.
type serviceRig struct {
	*pathRig
	set   uint32
	front uint16 // the last port that a frontend was given
}

// add writes a frontend at a port that no test has used, and returns the port.
func (r *serviceRig) add(t *testing.T, s testService) uint16 {
	t.Helper()
	r.front++
	r.set++
	s.front = netip.AddrPortFrom(s.front.Addr(), r.front)
	setServices(t, r.d, r.set, s)
	return r.front
}

// onlyENI is the device of the ENI that has the node's address.
func (r *serviceRig) onlyENI() variation { return withDevice(r.enis[0].Ifindex) }

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// Every way of a service's packets through the hooks, in both families.
func TestServicePackets(t *testing.T) {
	r := &serviceRig{pathRig: newPathRig(t), front: 30000}
	for family, f := range pathFamilies() {
		for _, c := range []struct {
			name string
			test func(*testing.T, *serviceRig, pathFamily)
		}{
			{"a node port of a local pod", testNodePortHere},
			{"a node port of another node's pod", testNodePortElsewhere},
			{"who may use it", testServiceClients},
			{"by a load balancer's address", testServiceAddress},
			{"a pod's own service", testServiceOfPod},
			{"a client keeps its backend", testServiceAffinity},
			{"chosen by a hash", testServiceMaglev},
			{"fragments", testServiceFragments},
			{"ports of SCTP", testServiceSCTP},
			{"tables that nobody looks after", testServiceStale},
			{"again with the same ports", testServiceAgain},
			{"again by another service", testServiceAgainElsewhere},
			{"one backend by two services", testServiceConflict},
			{"forged", testServiceForged},
		} {
			t.Run(family+"/"+c.name, func(t *testing.T) {
				r.enter(t)
				r.t = t
				serveServices(t, r.d, lbHost|lbNorthSouth)
				c.test(t, r, f)
			})
		}
	}
}

func (f pathFamily) wildcard() netip.AddrPort {
	if f.pod.Is6() {
		return at(netip.IPv6Unspecified(), 0)
	}
	return at(netip.IPv4Unspecified(), 0)
}

// expectTuple checks a packet's addresses and ports.
func expectTuple(t *testing.T, what string, g natPacket, src, dst netip.AddrPort) {
	t.Helper()
	if at(g.src, g.sport) != src || at(g.dst, g.dport) != dst {
		t.Errorf("%s: from %s to %s, expected from %s to %s", what, at(g.src, g.sport), at(g.dst, g.dport), src, dst)
	}
}

// quoted is the packet that an error is about.
func quoted(t *testing.T, g natPacket) natPacket {
	t.Helper()
	inner, err := readPacket(g.data, true)
	must(t, err)
	return inner
}

func testNodePortHere(t *testing.T, r *serviceRig, f pathFamily) {
	for _, protocol := range []byte{protoTCP, protoUDP} {
		port := r.add(t, testService{front: f.wildcard(), protocol: protocol, flags: lbOutside, backends: []netip.AddrPort{at(f.pod, 8080)}})
		p := natPacket{src: f.world, dst: f.node, protocol: protocol, sport: r.port(), dport: port, flags: tcpSYN, data: []byte("in")}
		g := r.run(t, FromNetdev, p, ReasonDelivered, r.onlyENI())
		g.delivered(t, r.a, 64)
		expectTuple(t, "in", g.natPacket, at(f.world, p.sport), at(f.pod, 8080))
		back := g.natPacket.answered()
		back.flags = tcpSYN | tcpACK
		g = r.run(t, FromPod, back, ReasonSent)
		g.sent(t, 64)
		expectTuple(t, "out", g.natPacket, at(f.node, port), at(f.world, p.sport))
		p.flags = tcpACK
		r.run(t, FromNetdev, p, ReasonDelivered, r.onlyENI())
		own := p
		own.dst, own.dport = f.pod, 8080
		c := r.flow(t, own, false, 2, 1)
		if c.Service != at(f.node, port) || protocol == protoTCP && !c.Established {
			t.Errorf("service %s, established %v; expected %s", c.Service, c.Established, at(f.node, port))
		}
		// By the ENI that has the node's address, though the pod's is another.
		key, _ := newCTKey(at(f.world, p.sport), at(f.pod, 8080), protocol)
		var e ctEntry
		table := map[byte]string{protoTCP: mapConntrackTCP, protoUDP: mapConntrackAny}[protocol]
		must(t, r.d.maps[table].Lookup(key, &e))
		if e.NATENI != 1 {
			t.Errorf("answers leave by ENI %d, expected 1", e.NATENI)
		}

		// A router on the way tells the client's side that the answer is too big; the pod understands.
		answer := natPacket{src: f.node, dst: f.world, protocol: protocol, sport: port, dport: p.sport, flags: tcpACK, data: make([]byte, 40)}
		big := natPacket{src: f.far, dst: f.node, protocol: f.icmp, kind: f.dead, data: answer.ip()}
		g = r.run(t, FromNetdev, big, ReasonDelivered, r.onlyENI())
		expectTuple(t, "an error inside", quoted(t, g.natPacket), at(f.pod, 8080), at(f.world, p.sport))
		// The pod's own error is the node's to the client.
		own.data = []byte("x")
		refused := natPacket{src: f.pod, dst: f.world, protocol: f.icmp, kind: f.dead, data: own.ip()}
		g = r.run(t, FromPod, refused, ReasonSent)
		if g.natPacket.src != f.node {
			t.Errorf("the error comes from %s, expected %s", g.natPacket.src, f.node)
		}
		expectTuple(t, "the pod's error inside", quoted(t, g.natPacket), at(f.world, p.sport), at(f.node, port))
		r.run(t, FromNetdev, p, ReasonTtl, r.onlyENI(), withTTL(1))
	}
}

func testNodePortElsewhere(t *testing.T, r *serviceRig, f pathFamily) {
	for _, protocol := range []byte{protoTCP, protoUDP} {
		port := r.add(t, testService{front: f.wildcard(), protocol: protocol, flags: lbOutside, backends: []netip.AddrPort{at(f.far, 8080)}})
		p := natPacket{src: f.world, dst: f.node, protocol: protocol, sport: r.port(), dport: port, flags: tcpSYN, data: []byte("in")}
		g := r.run(t, FromNetdev, p, ReasonSent, r.onlyENI())
		g.sent(t, 64)
		own := at(g.natPacket.src, g.sport)
		if own.Addr() != f.node || own.Port() < 1024 || own.Port() > 29999 {
			t.Errorf("the client became %s, expected the node with a port of the range", own)
		}
		expectTuple(t, "out", g.natPacket, own, at(f.far, 8080))
		back := g.natPacket.answered()
		back.flags = tcpSYN | tcpACK
		in := r.run(t, FromNetdev, back, ReasonSent, r.onlyENI())
		in.sent(t, 64)
		expectTuple(t, "back", in.natPacket, at(f.node, port), at(f.world, p.sport))
		p.flags = tcpACK
		again := r.run(t, FromNetdev, p, ReasonSent, r.onlyENI())
		expectTuple(t, "again", again.natPacket, own, at(f.far, 8080))
		// Errors of routers on both sides.
		behind := natPacket{src: f.stranger, dst: f.node, protocol: f.icmp, kind: f.dead, data: again.natPacket.ip()}
		in = r.run(t, FromNetdev, behind, ReasonSent, r.onlyENI())
		expectTuple(t, "an error for the client", quoted(t, in.natPacket), at(f.world, p.sport), at(f.node, port))
		if in.natPacket.src != f.node || in.natPacket.dst != f.world {
			t.Errorf("the error goes from %s to %s, expected from %s to %s", in.natPacket.src, in.natPacket.dst, f.node, f.world)
		}
		before := natPacket{src: f.world, dst: f.node, protocol: f.icmp, kind: f.dead,
			data: natPacket{src: f.node, dst: f.world, protocol: protocol, sport: port, dport: p.sport, flags: tcpACK, data: make([]byte, 9)}.ip()}
		in = r.run(t, FromNetdev, before, ReasonSent, r.onlyENI())
		expectTuple(t, "an error for the backend", quoted(t, in.natPacket), at(f.far, 8080), own)
		r.run(t, FromNetdev, p, ReasonTtl, r.onlyENI(), withTTL(1))
		r.run(t, FromNetdev, back, ReasonTtl, r.onlyENI(), withTTL(1))
		r.run(t, FromNetdev, p, ReasonTooBig, r.onlyENI(), withGSO(20000))
		// Another than the backend, from the backend's tuple's point of view: nobody's.
		back.sport++
		r.run(t, FromNetdev, back, ReasonForwarded, r.onlyENI())
	}
}

func testServiceClients(t *testing.T, r *serviceRig, f pathFamily) {
	backends := []netip.AddrPort{at(f.pod, 8080)}
	from := func(front netip.Addr, port uint16) natPacket {
		return natPacket{src: f.world, dst: front, protocol: protoUDP, sport: r.port(), dport: port, data: []byte("x")}
	}
	cluster := r.add(t, testService{front: at(f.service, 0), protocol: protoUDP, backends: backends})
	r.run(t, FromNetdev, from(f.service, cluster), ReasonForwarded)
	// Clients of the cluster have others than those from outside.
	local := r.add(t, testService{front: f.wildcard(), protocol: protoUDP, flags: lbOutside | lbOutsideOwn, backends: backends})
	r.set++
	setServices(t, r.d, r.set, testService{front: at(f.wildcard().Addr(), local), protocol: protoUDP, scope: lbScopeOutside})
	r.run(t, FromNetdev, from(f.node, local), ReasonServiceNoBackend, r.onlyENI())
	p := natPacket{src: f.other, dst: f.node, protocol: protoUDP, sport: r.port(), dport: local}
	r.run(t, FromPod, p, ReasonDelivered).delivered(t, r.a, 64)
	narrow := netip.PrefixFrom(f.world, f.world.BitLen())
	ranged := r.add(t, testService{front: f.wildcard(), protocol: protoUDP, flags: lbOutside | lbRanges, backends: backends, ranges: []netip.Prefix{narrow}})
	r.run(t, FromNetdev, from(f.node, ranged), ReasonDelivered, r.onlyENI())
	other := from(f.node, ranged)
	other.src = f.far
	r.run(t, FromNetdev, other, ReasonServiceSourceRange, r.onlyENI())
	// What has no backend is refused by the stack, and the answer is the service's.
	empty := r.add(t, testService{front: at(f.service, 0), protocol: protoTCP, flags: lbRefuse})
	p = natPacket{src: f.pod, dst: f.service, protocol: protoTCP, sport: r.port(), dport: empty, flags: tcpSYN}
	g := r.run(t, FromPod, p, ReasonToStack)
	expectTuple(t, "refused", g.natPacket, at(f.pod, p.sport), at(f.node, 0))
	reset := g.natPacket.answered()
	reset.flags = tcpRST | tcpACK
	expectTuple(t, "the reset", r.run(t, ToPod, reset, ReasonForwarded).natPacket, at(f.service, empty), at(f.pod, p.sport))
	// Only what begins a flow finds a service.
	p = from(f.node, r.add(t, testService{front: f.wildcard(), protocol: protoTCP, flags: lbOutside, backends: backends}))
	p.protocol, p.flags = protoTCP, tcpACK
	r.run(t, FromNetdev, p, ReasonForwarded, r.onlyENI())
	// Without the setting nothing from outside is looked at.
	serveServices(t, r.d, lbHost)
	r.run(t, FromNetdev, from(f.node, ranged), ReasonForwarded, r.onlyENI())
	p = natPacket{src: f.other, dst: f.node, protocol: protoUDP, sport: r.port(), dport: local}
	r.run(t, FromPod, p, ReasonToStack)
}

func testServiceAddress(t *testing.T, r *serviceRig, f pathFamily) {
	port := r.add(t, testService{front: at(f.stranger, 0), protocol: protoTCP, flags: lbOutside, backends: []netip.AddrPort{at(f.pod, 8080)}})
	p := natPacket{src: f.world, dst: f.stranger, protocol: protoTCP, sport: r.port(), dport: port, flags: tcpSYN}
	g := r.run(t, FromNetdev, p, ReasonDelivered, withDevice(r.enis[1].Ifindex))
	expectTuple(t, "in", g.natPacket, at(f.world, p.sport), at(f.pod, 8080))
	back := g.natPacket.answered()
	back.flags = tcpSYN | tcpACK
	expectTuple(t, "out", r.run(t, FromPod, back, ReasonSent).natPacket, at(f.stranger, port), at(f.world, p.sport))
	key, _ := newCTKey(at(f.world, p.sport), at(f.pod, 8080), protoTCP)
	var e ctEntry
	must(t, r.d.maps[mapConntrackAny].Lookup(key, &e))
	if e.NATENI != 2 {
		t.Errorf("answers leave by ENI %d, expected the one that the client came in by, 2", e.NATENI)
	}
}

func testServiceOfPod(t *testing.T, r *serviceRig, f pathFamily) {
	port := r.add(t, testService{front: at(f.service, 0), protocol: protoUDP, backends: []netip.AddrPort{at(f.pod, 8080)}})
	p := natPacket{src: f.pod, dst: f.service, protocol: protoUDP, sport: r.port(), dport: port, data: []byte("me")}
	g := r.run(t, FromPod, p, ReasonDelivered)
	g.delivered(t, r.a, 64)
	if g.natPacket.src != f.node || g.natPacket.dst != f.pod || g.dport != 8080 {
		t.Errorf("came back from %s to %s port %d, expected from %s to the pod", g.natPacket.src, g.natPacket.dst, g.dport, f.node)
	}
	back := r.run(t, FromPod, g.natPacket.answered(), ReasonDelivered)
	back.delivered(t, r.a, 64)
	expectTuple(t, "the answer", back.natPacket, at(f.service, port), at(f.pod, p.sport))
	// From another pod: its own address, and the service's in the answer.
	p.src, p.sport = f.other, r.port()
	g = r.run(t, FromPod, p, ReasonDelivered)
	g.delivered(t, r.a, 64)
	expectTuple(t, "to the pod", g.natPacket, at(f.other, p.sport), at(f.pod, 8080))
	back = r.run(t, FromPod, g.natPacket.answered(), ReasonDelivered)
	back.delivered(t, r.b, 64)
	expectTuple(t, "to the client", back.natPacket, at(f.service, port), at(f.other, p.sport))
	// To a remote backend, and to one in the world.
	port = r.add(t, testService{front: at(f.service, 0), protocol: protoUDP, backends: []netip.AddrPort{at(f.far, 53)}})
	p = natPacket{src: f.pod, dst: f.service, protocol: protoUDP, sport: r.port(), dport: port, data: []byte("far")}
	g = r.run(t, FromPod, p, ReasonSent)
	expectTuple(t, "to the remote one", g.natPacket, at(f.pod, p.sport), at(f.far, 53))
	back = r.run(t, FromNetdev, g.natPacket.answered(), ReasonDelivered)
	expectTuple(t, "from the remote one", back.natPacket, at(f.service, port), at(f.pod, p.sport))
	p.data = make([]byte, 60)
	r.run(t, FromPod, p, ReasonToStack, withGSO(20000))
	r.run(t, FromPod, p, ReasonTtl, withTTL(1))
	// To the node itself: by the stack.
	port = r.add(t, testService{front: at(f.service, 0), protocol: protoUDP, backends: []netip.AddrPort{at(f.node, 53)}})
	p = natPacket{src: f.pod, dst: f.service, protocol: protoUDP, sport: r.port(), dport: port, data: []byte("host")}
	for range 2 {
		g = r.run(t, FromPod, p, ReasonToStack)
		g.left(t, 64, contract.MarkFromPod)
		expectTuple(t, "to the node", g.natPacket, at(f.pod, p.sport), at(f.node, 53))
		back = r.run(t, ToPod, g.natPacket.answered(), ReasonForwarded)
		expectTuple(t, "from the node", back.natPacket, at(f.service, port), at(f.pod, p.sport))
	}
	// From outside to the node itself: its answer is turned on its way out.
	port = r.add(t, testService{front: f.wildcard(), protocol: protoUDP, flags: lbOutside, backends: []netip.AddrPort{at(f.node, 53)}})
	p = natPacket{src: f.world, dst: f.node, protocol: protoUDP, sport: r.port(), dport: port, data: []byte("host")}
	for range 2 {
		g = r.run(t, FromNetdev, p, ReasonToStack, r.onlyENI())
		expectTuple(t, "in to the node", g.natPacket, at(f.world, p.sport), at(f.node, 53))
		back = r.run(t, ToNetdev, g.natPacket.answered(), ReasonForwarded, r.onlyENI())
		expectTuple(t, "out of the node", back.natPacket, at(f.node, port), at(f.world, p.sport))
	}
}

func testServiceAffinity(t *testing.T, r *serviceRig, f pathFamily) {
	port := r.add(t, testService{front: f.wildcard(), protocol: protoUDP, flags: lbOutside | lbAffinity, affinity: 3600,
		backends: []netip.AddrPort{at(f.pod, 8080), at(f.other, 8080)}})
	var first netip.Addr
	for i := range 20 {
		g := r.run(t, FromNetdev, natPacket{src: f.world, dst: f.node, protocol: protoUDP, sport: r.port(), dport: port}, ReasonDelivered, r.onlyENI())
		if i == 0 {
			first = g.natPacket.dst
		}
		if g.natPacket.dst != first {
			t.Fatalf("flow %d went to %s, the first one to %s", i, g.natPacket.dst, first)
		}
	}
	// The one it had is none any more.
	left := []netip.AddrPort{at(f.pod, 8080)}
	if first == f.pod {
		left[0] = at(f.other, 8080)
	}
	replaceBackends(t, r.d, r.set, testService{front: at(f.wildcard().Addr(), port), protocol: protoUDP, flags: lbOutside | lbAffinity, affinity: 3600, backends: left}, at(first, 8080))
	g := r.run(t, FromNetdev, natPacket{src: f.world, dst: f.node, protocol: protoUDP, sport: r.port(), dport: port}, ReasonDelivered, r.onlyENI())
	if g.natPacket.dst != left[0].Addr() {
		t.Errorf("went to %s, expected the backend that is left", g.natPacket.dst)
	}
}

func testServiceMaglev(t *testing.T, r *serviceRig, f pathFamily) {
	port := r.add(t, testService{front: f.wildcard(), protocol: protoUDP, flags: lbOutside | lbMaglev,
		backends: []netip.AddrPort{at(f.pod, 8080), at(f.other, 8080)}})
	for want, addr := range []netip.Addr{f.pod, f.other} {
		// A table of 7, in which every hash has the same slot.
		values := []uint64{7, 0, 0}
		for i := range 7 {
			values[1+i/4] |= uint64(want) << (16 * (i % 4))
		}
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 3, Flags: bpfInnerMap})
		must(t, err)
		for i, v := range values {
			must(t, m.Put(uint32(i), v))
		}
		must(t, r.d.maps[weftMapWeftLbMaglev].Put(r.set, m))
		must(t, m.Close())
		for range 10 {
			g := r.run(t, FromNetdev, natPacket{src: f.world, dst: f.node, protocol: protoUDP, sport: r.port(), dport: port}, ReasonDelivered, r.onlyENI())
			if g.natPacket.dst != addr {
				t.Fatalf("went to %s, expected the table's %s", g.natPacket.dst, addr)
			}
		}
	}
}

// bpfInnerMap lets a map of maps have arrays of several sizes.
const bpfInnerMap = 1 << 12

func testServiceFragments(t *testing.T, r *serviceRig, f pathFamily) {
	for _, backend := range []netip.Addr{f.pod, f.far} {
		port := r.add(t, testService{front: f.wildcard(), protocol: protoUDP, flags: lbOutside, backends: []netip.AddrPort{at(backend, 8080)}})
		want := ReasonDelivered
		if backend == f.far {
			want = ReasonSent
		}
		first := natPacket{src: f.world, dst: f.node, protocol: protoUDP, sport: r.port(), dport: port, id: r.port(), fragment: 0x2000, data: make([]byte, 24)}
		later := first
		later.fragment, later.data = 4, make([]byte, 16)
		r.run(t, FromNetdev, later, ReasonForwarded, r.onlyENI())
		r.run(t, FromNetdev, first, want, r.onlyENI())
		if g := r.run(t, FromNetdev, later, want, r.onlyENI()); g.natPacket.dst != backend {
			t.Errorf("the later fragment went to %s, expected %s", g.natPacket.dst, backend)
		}
	}
}

func testServiceSCTP(t *testing.T, r *serviceRig, f pathFamily) {
	init := append([]byte{1}, make([]byte, 15)...)
	port := r.add(t, testService{front: f.wildcard(), protocol: protoSCTP, flags: lbOutside, backends: []netip.AddrPort{at(f.pod, 9)}})
	p := natPacket{src: f.world, dst: f.node, protocol: protoSCTP, sport: r.port(), dport: port, data: init}
	r.run(t, FromNetdev, p, ReasonServiceSctpPort, r.onlyENI())
	port = r.front + 1
	r.add(t, testService{front: f.wildcard(), protocol: protoSCTP, flags: lbOutside, backends: []netip.AddrPort{at(f.pod, port)}})
	p.dport = port
	g := r.run(t, FromNetdev, p, ReasonDelivered, r.onlyENI())
	expectTuple(t, "in", g.natPacket, at(f.world, p.sport), at(f.pod, port))
	expectTuple(t, "out", r.run(t, FromPod, g.natPacket.answered(), ReasonSent).natPacket, at(f.node, port), at(f.world, p.sport))
}

func testServiceStale(t *testing.T, r *serviceRig, f pathFamily) {
	port := r.add(t, testService{front: at(f.service, 0), protocol: protoUDP, backends: []netip.AddrPort{at(f.other, 8080)}})
	must(t, r.d.maps[weftMapWeftLbConfig].Put(uint32(0), lbConfig{Fresh: 1}))
	p := natPacket{src: f.pod, dst: f.service, protocol: protoUDP, sport: r.port(), dport: port}
	r.run(t, FromPod, p, ReasonToStack)
	serveServices(t, r.d, 0)
	p.sport = r.port()
	r.run(t, FromPod, p, ReasonDelivered)
	// kube-proxy answers for what has no backend.
	p.dport, p.sport = r.add(t, testService{front: at(f.service, 0), protocol: protoUDP, flags: lbRefuse}), r.port()
	if g := r.run(t, FromPod, p, ReasonToStack); g.natPacket.dst != f.service {
		t.Errorf("went to %s, expected it untouched", g.natPacket.dst)
	}
}

// A connection that has closed, and a new one from the same port: a backend is chosen anew.
func testServiceAgain(t *testing.T, r *serviceRig, f pathFamily) {
	for _, backends := range [][2]netip.Addr{{f.pod, f.other}, {f.pod, f.far}, {f.far, f.pod}} {
		s := testService{front: f.wildcard(), protocol: protoTCP, flags: lbOutside, backends: []netip.AddrPort{at(backends[0], 8080)}}
		port := r.add(t, s)
		s.front = at(s.front.Addr(), port)
		p := natPacket{src: f.world, dst: f.node, protocol: protoTCP, sport: r.port(), dport: port, flags: tcpSYN}
		reasons := map[netip.Addr]Reason{f.pod: ReasonDelivered, f.other: ReasonDelivered, f.far: ReasonSent}
		r.run(t, FromNetdev, p, reasons[backends[0]], r.onlyENI())
		p.flags = tcpRST
		r.run(t, FromNetdev, p, reasons[backends[0]], r.onlyENI())
		s.backends = []netip.AddrPort{at(backends[1], 8080)}
		replaceBackends(t, r.d, r.set, s, at(backends[0], 8080))
		p.flags = tcpSYN
		if g := r.run(t, FromNetdev, p, reasons[backends[1]], r.onlyENI()); g.natPacket.dst != backends[1] {
			t.Errorf("after %s went to %s, expected %s", backends[0], g.natPacket.dst, backends[1])
		}
	}
}

// The same by another service, and in SCTP, where not only what begins an association may be the first packet that is seen.
func testServiceAgainElsewhere(t *testing.T, r *serviceRig, f pathFamily) {
	port := r.add(t, testService{front: at(f.service, 0), protocol: protoSCTP})
	for _, front := range []netip.Addr{f.service, f.stranger} {
		r.set++
		setServices(t, r.d, r.set, testService{front: at(front, port), protocol: protoSCTP, flags: lbOutside, backends: []netip.AddrPort{at(f.other, port)}})
	}
	p := natPacket{src: f.pod, dst: f.service, protocol: protoSCTP, sport: r.port(), dport: port, data: append([]byte{1}, make([]byte, 11)...)}
	g := r.run(t, FromPod, p, ReasonDelivered)
	abort := g.natPacket.answered()
	abort.data = append([]byte{6}, make([]byte, 11)...)
	expectTuple(t, "the end", r.run(t, FromPod, abort, ReasonDelivered).natPacket, at(f.service, port), at(f.pod, p.sport))
	p.dst, p.data = f.stranger, append([]byte{0}, make([]byte, 11)...)
	g = r.run(t, FromPod, p, ReasonDelivered)
	expectTuple(t, "by the other", g.natPacket, at(f.pod, p.sport), at(f.other, port))
	expectTuple(t, "its answer", r.run(t, FromPod, g.natPacket.answered(), ReasonDelivered).natPacket, at(f.stranger, port), at(f.pod, p.sport))
}

// A client that reaches one backend from one port by two services: the second time as the node.
func testServiceConflict(t *testing.T, r *serviceRig, f pathFamily) {
	one := r.add(t, testService{front: f.wildcard(), protocol: protoUDP, flags: lbOutside, backends: []netip.AddrPort{at(f.pod, 8080)}})
	two := r.add(t, testService{front: f.wildcard(), protocol: protoUDP, flags: lbOutside, backends: []netip.AddrPort{at(f.pod, 8080)}})
	p := natPacket{src: f.world, dst: f.node, protocol: protoUDP, sport: r.port(), dport: one}
	g := r.run(t, FromNetdev, p, ReasonDelivered, r.onlyENI())
	expectTuple(t, "by the first", g.natPacket, at(f.world, p.sport), at(f.pod, 8080))
	p.dport = two
	h := r.run(t, FromNetdev, p, ReasonDelivered, r.onlyENI())
	if h.natPacket.src != f.node || h.natPacket.dst != f.pod {
		t.Errorf("by the second from %s to %s, expected from the node", h.natPacket.src, h.natPacket.dst)
	}
	expectTuple(t, "the first answer", r.run(t, FromPod, g.natPacket.answered(), ReasonSent).natPacket, at(f.node, one), at(f.world, p.sport))
	expectTuple(t, "the second answer", r.run(t, FromPod, h.natPacket.answered(), ReasonSent).natPacket, at(f.node, two), at(f.world, p.sport))
}

func testServiceForged(t *testing.T, r *serviceRig, f pathFamily) {
	port := r.add(t, testService{front: f.wildcard(), protocol: protoUDP, flags: lbOutside, backends: []netip.AddrPort{at(f.pod, 8080)}})
	p := natPacket{src: f.other, dst: f.node, protocol: protoUDP, sport: r.port(), dport: port}
	frame := ethernetFrame(r.enis[0].MAC, mac(routerMAC), r.ethertype(f), p.ip())
	r.runFrame(t, FromNetdev, r.enis[0].Ifindex, frame, ReasonSourceIsLocal)
	// A flow of a pod, and somebody outside who claims to be it.
	r.run(t, FromPod, p, ReasonDelivered)
	frame = ethernetFrame(r.enis[0].MAC, mac(routerMAC), r.ethertype(f), p.ip())
	r.runFrame(t, FromNetdev, r.enis[0].Ifindex, frame, ReasonSourceIsLocal)
	// Nor as the backend of a flow, whatever the stack would say to it.
	q := p
	q.src, q.sport = f.world, r.port()
	back := r.run(t, FromNetdev, q, ReasonDelivered, r.onlyENI()).natPacket.answered()
	for _, ttl := range []byte{1, 64} {
		frame = ethernetFrame(r.enis[0].MAC, mac(routerMAC), r.ethertype(f), back.ip())
		r.runFrame(t, FromNetdev, r.enis[0].Ifindex, frame, ReasonSourceIsLocal, withTTL(ttl))
	}
	// The node's own address from outside is no client.
	p.src, p.sport = f.node, r.port()
	frame = ethernetFrame(r.enis[0].MAC, mac(routerMAC), r.ethertype(f), p.ip())
	r.runFrame(t, FromNetdev, r.enis[0].Ifindex, frame, ReasonForwarded)
	// Who claims to be a frontend of a flow that goes on to another node.
	port = r.add(t, testService{front: at(f.stranger, 0), protocol: protoUDP, flags: lbOutside, backends: []netip.AddrPort{at(f.far, 8080)}})
	p = natPacket{src: f.world, dst: f.stranger, protocol: protoUDP, sport: r.port(), dport: port}
	r.run(t, FromNetdev, p, ReasonSent, r.onlyENI())
	r.run(t, FromNetdev, p.answered(), ReasonSourceIsLocal, r.onlyENI())
}
