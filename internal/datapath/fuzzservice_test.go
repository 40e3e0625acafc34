package datapath

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/weft-cni/weft/internal/contract"
)

// The services of a fuzzRig: what is asked for, what it has, and whose the answers are.
type fuzzServices struct {
	frontends map[lbKey]testService
	// turned is what the packets of a translated flow are by now: whose answers come back with the key.
	turned map[aliasKey]turn
	// pairs are the addresses of packets that were turned, before and after: a later fragment has no ports.
	pairs map[[2][2]netip.Addr]bool
	// ways counts the packets that were turned, by what became of them.
	ways map[string]int
}

// A turn is a translated flow as its client knows it.
type turn struct{ client, front netip.AddrPort }

// A fuzzFamily is who is who for the services.
type fuzzFamily struct {
	any, node, cluster, external, far, world netip.Addr
	pods                                     []netip.Addr
}

func fuzzFamilies() []fuzzFamily {
	return []fuzzFamily{
		{any: netip.IPv4Unspecified(), node: fuzzNode4, cluster: netip.MustParseAddr("10.96.0.10"), external: netip.MustParseAddr("203.0.113.7"),
			far: netip.MustParseAddr(farAddr), world: netip.MustParseAddr(worldAddr), pods: fuzzPods4},
		{any: netip.IPv6Unspecified(), node: fuzzNode6, cluster: netip.MustParseAddr("fd12::7"), external: netip.MustParseAddr("2001:db8::a"),
			far: netip.MustParseAddr("fd00:1::99"), world: netip.MustParseAddr("2001:db8::9"), pods: fuzzPods6},
	}
}

// services are frontends of all kinds, with backends of all kinds; their ports are among those that the generator picks.
func (f fuzzFamily) services() []testService {
	pods := []netip.AddrPort{at(f.pods[0], 8080), at(f.pods[1], 8080)}
	far, world, host := []netip.AddrPort{at(f.far, 8080)}, []netip.AddrPort{at(f.world, 8080)}, []netip.AddrPort{at(f.node, 53)}
	all := slices.Concat(pods, far, world, host)
	client := []netip.Prefix{netip.PrefixFrom(f.world, f.world.BitLen())}
	return []testService{
		{front: at(f.cluster, 80), backends: pods},
		{front: at(f.cluster, 443), backends: far},
		{front: at(f.cluster, 53), backends: host},
		{front: at(f.cluster, 8080), backends: world},
		{front: at(f.cluster, 1024), flags: lbRefuse},
		{front: at(f.cluster, 1025)},
		{front: at(f.cluster, 65535), flags: lbAffinity, affinity: 60, backends: all},
		{front: at(f.any, 30000), flags: lbOutside, backends: slices.Concat(pods, far)},
		{front: at(f.any, 443), flags: lbOutside, backends: host},
		{front: at(f.any, 40000), flags: lbOutside | lbOutsideOwn, backends: all},
		{front: at(f.any, 40000), scope: lbScopeOutside, backends: pods},
		{front: at(f.any, 1025), flags: lbOutside | lbOutsideOwn, backends: far},
		{front: at(f.any, 1025), scope: lbScopeOutside},
		{front: at(f.any, 80), flags: lbOutside | lbRanges, backends: pods, ranges: client},
		{front: at(f.any, 29999), flags: lbOutside | lbRefuse},
		{front: at(f.external, 80), flags: lbOutside | lbMaglev, backends: all},
		{front: at(f.external, 443), flags: lbOutside | lbAffinity, affinity: 60, backends: far},
		{front: at(f.external, 1024), flags: lbOutside | lbRefuse},
	}
}

func (r *fuzzRig) addServices(t testing.TB) {
	t.Helper()
	r.services = fuzzServices{frontends: map[lbKey]testService{}, turned: map[aliasKey]turn{}, pairs: map[[2][2]netip.Addr]bool{}, ways: map[string]int{}}
	set := uint32(1)
	for _, f := range fuzzFamilies() {
		for _, s := range f.services() {
			for _, s.protocol = range []byte{protoTCP, protoUDP, protoSCTP} {
				if s.protocol == protoSCTP {
					s.backends = slices.Clone(s.backends)
					for i, b := range s.backends {
						s.backends[i] = at(b.Addr(), s.front.Port())
					}
				}
				setServices(t, r.d, set, s)
				r.services.frontends[newLBKey(s.front, s.protocol, s.scope)] = s
				set++
			}
		}
	}
	serveServices(t, r.d, lbHost|lbNorthSouth)
}

// service is what a client that such a hook sees is to get at an address; false: nothing.
func (r *fuzzRig) service(hook Hook, h headers) (testService, bool) {
	front := at(h.dst, h.dport)
	s, ok := r.services.frontends[newLBKey(front, h.protocol, lbScopeCluster)]
	if !ok && (h.dst == fuzzNode4 || h.dst == fuzzNode6 || h.dst == fuzzSecond) {
		front = at(netip.IPv6Unspecified(), h.dport)
		if h.dst.Is4() {
			front = at(netip.IPv4Unspecified(), h.dport)
		}
		s, ok = r.services.frontends[newLBKey(front, h.protocol, lbScopeCluster)]
	}
	if !ok || hook == FromPod {
		return s, ok
	}
	if s.flags&lbOutsideOwn != 0 {
		s, ok = r.services.frontends[newLBKey(front, h.protocol, lbScopeOutside)]
		return s, ok
	}
	return s, s.flags&lbOutside != 0
}

// has says whether a client of the service may get to this backend.
func (s testService) has(client netip.Addr, backend netip.AddrPort) bool {
	if s.flags&lbRanges != 0 && !slices.ContainsFunc(s.ranges, func(p netip.Prefix) bool { return p.Contains(client) }) {
		return false
	}
	if len(s.backends) == 0 && s.flags&lbRefuse != 0 {
		return backend.Port() == 0 && (backend.Addr() == fuzzNode4 || backend.Addr() == fuzzNode6)
	}
	return slices.Contains(s.backends, backend)
}

// serviceTurned says whether the packet was translated as a service's, and what is wrong with it. What isn't is held to
// the rules of masquerading.
func (r *fuzzRig) serviceTurned(hook Hook, a, b headers, before, after []byte) (bool, string) {
	if a.family == 0 || b.family == 0 || a.neighbour {
		return false, ""
	}
	was, is := [2]netip.Addr{a.src, a.dst}, [2]netip.Addr{b.src, b.dst}
	switch {
	case a.error:
		return r.serviceError(a, b, a.inner(before), b.inner(after))
	case a.later:
		return was != is && r.services.pairs[[2][2]netip.Addr{was, is}], ""
	case a.protocol != protoTCP && a.protocol != protoUDP && a.protocol != protoSCTP:
		return false, ""
	}
	src, dst := at(a.src, a.sport), at(a.dst, a.dport)
	if at(b.src, b.sport) == src && at(b.dst, b.dport) == dst {
		return false, ""
	}
	// An answer becomes the frontend's, for its client.
	if known, ok := r.services.turned[aliasOf(a, a.src, a.sport, a.dst, a.dport)]; ok && known == (turn{client: at(b.dst, b.dport), front: at(b.src, b.sport)}) {
		r.services.pairs[[2][2]netip.Addr{was, is}] = true
		return true, ""
	}
	if at(b.dst, b.dport) == dst || (hook != FromPod && hook != FromNetdev) {
		return false, ""
	}
	if _, masqueraded := r.origins[aliasOf(a, a.src, a.sport, a.dst, a.dport)]; masqueraded {
		return false, ""
	}
	s, ok := r.service(hook, a)
	switch {
	case !ok:
		return false, ""
	case !s.has(a.src, at(b.dst, b.dport)):
		return true, "sent to what is no backend of the service for this client"
	}
	if at(b.src, b.sport) != src {
		first, last := DefaultSettings().MasqueradePorts[0], DefaultSettings().MasqueradePorts[1]
		switch {
		case b.src != fuzzNode4 && b.src != fuzzNode6:
			return true, "the client became an address that isn't the node's"
		case b.sport != a.sport && (b.sport < first || b.sport > last):
			return true, "the client became a port outside of the range"
		}
	} else if hook == FromNetdev && r.owner[b.dst] == 0 {
		return true, "sent to another node as the client, whose answers come back another way"
	}
	key := aliasOf(b, b.dst, b.dport, b.src, b.sport)
	r.services.turned[key] = turn{client: src, front: dst}
	delete(r.origins, key)
	r.services.pairs[[2][2]netip.Addr{was, is}] = true
	return true, ""
}

// serviceError holds an ICMP error to the flow of the packet that it is about: p is that packet as the error came, q as
// it went on. Who gets it is who sent that packet.
func (r *fuzzRig) serviceError(a, b, p, q headers) (bool, string) {
	if p.family == 0 || q.family == 0 || p.later || a.src == b.src && a.dst == b.dst && p.src == q.src && p.dst == q.dst && p.sport == q.sport && p.dport == q.dport {
		return false, ""
	}
	// The client sent it to the frontend, or the backend sent it to who it takes for the client.
	toClient, ok := r.services.turned[aliasOf(p, p.dst, p.dport, p.src, p.sport)]
	ok = ok && toClient == (turn{client: at(q.src, q.sport), front: at(q.dst, q.dport)})
	if !ok {
		var toBackend turn
		toBackend, ok = r.services.turned[aliasOf(q, q.src, q.sport, q.dst, q.dport)]
		ok = ok && toBackend == (turn{client: at(p.dst, p.dport), front: at(p.src, p.sport)})
	}
	if ok && b.dst != q.src {
		return true, "the error goes to somebody else than who sent what it is about"
	}
	return ok, ""
}

// serviceDone says what is wrong with where a translated packet goes.
func (r *fuzzRig) serviceDone(s shot, reason Reason, a, b headers, data []byte, out skbContext) string {
	r.services.ways[s.hook.String()+" "+reason.String()]++
	switch reason {
	case ReasonDelivered:
		if s.hook != FromPod && s.hook != FromNetdev {
			return "delivered by a hook that doesn't"
		}
		return r.wrongDelivery(b, data)
	case ReasonSent:
		if r.owner[b.dst] != 0 {
			return "sent out though its destination is here"
		}
		return ""
	case ReasonToStack:
		if want := map[Hook]uint32{FromPod: contract.MarkFromPod, FromNetdev: contract.MarkFromNetdev}[s.hook]; want == 0 || out.Mark&contract.MarkKindMask != want {
			return "left to the stack by a hook that doesn't, or without its mark"
		}
		// The node itself is asked, or must say that it is too big; it is for nobody else.
		if b.dst != fuzzNode4 && b.dst != fuzzNode6 && a.ttl > 1 && int(b.end-14) <= 1500 && r.endpoint(b.dst) == nil {
			return "left to the stack, which isn't its destination"
		}
		return ""
	case ReasonForwarded:
		if s.hook == ToPod && r.endpoint(b.dst) != &r.endpoints[s.ep] {
			return "delivered to the wrong endpoint"
		}
		if s.hook == FromNetdev || s.hook == FromPod {
			return "translated, and then let be"
		}
		return ""
	case ReasonRedirected:
		if s.hook != ToNetdev {
			return "redirected by a hook that doesn't"
		}
		return ""
	}
	return "ended in no way that a service's packet does"
}

// serve makes a packet for a service: from a pod, or from somebody outside.
func (g generator) serve() shot {
	f := pick(g, fuzzFamilies()...)
	s := pick(g, f.services()...)
	p := natPacket{dst: s.front.Addr(), dport: s.front.Port(), sport: pick[uint16](g, 1024, 1025, 40000, 29999, 53), id: uint16(g.IntN(4)),
		protocol: pick[byte](g, protoTCP, protoTCP, protoUDP, protoUDP, protoSCTP),
		flags:    pick[byte](g, tcpSYN, tcpSYN, tcpSYN, tcpACK, tcpFIN|tcpACK, tcpRST), data: make([]byte, g.IntN(40))}
	if p.dst.IsUnspecified() {
		p.dst = f.node
	}
	if p.protocol == protoSCTP {
		p.data = append([]byte{pick[byte](g, 1, 10, 0)}, make([]byte, 11)...)
	}
	if g.one(8) {
		p.fragment = 0x2000
	}
	p.src = pick(g, f.pods[0], f.pods[1], f.world, f.world, f.far, f.external)
	if i := slices.Index(f.pods, p.src); i >= 0 {
		ep := g.r.endpoints[i]
		return shot{hook: FromPod, ep: i, frame: frameOf(ep.HostMAC, ep.PodMAC, p.ip())}
	}
	return g.arrive(p.ip())
}

// again makes the next packet of a flow, as its sender sends it.
func (g generator) again(p passed) shot {
	back, ok := g.answer(p.before)
	if !ok {
		return shot{}
	}
	if back, ok = g.answer(frameOf(make([]byte, 6), make([]byte, 6), back)); !ok {
		return shot{}
	}
	return g.enter(back)
}

// hostAnswers makes what the node itself answers, which meets the hook of its receiver's device.
func (g generator) hostAnswers(p passed) shot {
	ip, ok := g.answer(p.frame)
	if !ok {
		return shot{}
	}
	h := readHeaders(p.frame)
	if ep := g.r.endpoint(h.src); ep != nil {
		i := slices.IndexFunc(g.r.endpoints, func(e Endpoint) bool { return e.Slot == ep.Slot })
		return shot{hook: ToPod, ep: i, frame: frameOf(ep.PodMAC, ep.HostMAC, ip)}
	}
	eni := g.IntN(len(g.r.enis))
	return shot{hook: ToNetdev, eni: eni, frame: frameOf(mac("0e:00:00:00:00:01"), g.r.enis[eni].MAC, ip)}
}
