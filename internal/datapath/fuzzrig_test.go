package datapath

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
)

// A fuzzRig is a node with two endpoints of both families behind one ENI, and masquerading behind the other.
type fuzzRig struct {
	space
	d         *Datapath
	endpoints []Endpoint
	enis      []ENI
	owner     map[netip.Addr]uint32 // ENI of each address of the node
	native    []netip.Prefix
	counters  map[Counter]uint64 // as last read
	origins   map[aliasKey]netip.AddrPort
	services  fuzzServices
	history   []passed // what got through lately
}

// aliasKey is what the answers to a translated flow come back with.
type aliasKey struct {
	protocol     byte
	remote, self netip.AddrPort
}

// passed is a packet that a program let through, as it left.
type passed struct {
	hook   Hook
	reason Reason
	before []byte // as it came
	frame  []byte
	ep     int // the endpoint that sent it or got it, if the hook is its
}

var (
	fuzzPods4  = []netip.Addr{netip.MustParseAddr(podAddr), netip.MustParseAddr(otherAddr)}
	fuzzPods6  = []netip.Addr{netip.MustParseAddr("fd00:1::10"), netip.MustParseAddr("fd00:1::11")}
	fuzzNode4  = netip.MustParseAddr(nodeAddr)
	fuzzNode6  = netip.MustParseAddr("2001:db8:9::5")
	fuzzSecond = netip.MustParseAddr(node2Addr)
)

func newFuzzRig(t testing.TB) *fuzzRig {
	t.Helper()
	r := &fuzzRig{space: newSpace(t), owner: map[netip.Addr]uint32{}, origins: map[aliasKey]netip.AddrPort{}}
	r.enter(t)
	gateway4, gateway6 := netip.MustParseAddr(routerAddr), netip.MustParseAddr("fd00:1::1")
	for i, m := range []string{"02:00:00:00:00:01", "02:00:00:00:00:02"} {
		must(t, addVeth("eni"+m[16:], 101+i, mac(m), "wire"+m[16:], nil))
		must(t, errors.Join(addNeighbour(101+i, gateway4.String(), mac("0e:00:00:00:00:01")), addNeighbour(101+i, gateway6.String(), mac("0e:00:00:00:00:01"))))
		r.enis = append(r.enis, ENI{Handle: uint32(i + 1), Ifindex: 101 + i, MAC: mac(m), NextHop: gateway4, NextHop6: gateway6,
			Masquerade: fuzzNode4, Masquerade6: fuzzNode6, MasqueradeENI: 1})
	}
	cfg := testConfig(t)
	cfg.Sizes = Sizes{ConntrackTCP: 1 << 16, ConntrackAny: 1 << 16}
	cfg.Settings = DefaultSettings()
	cfg.Settings.IPv6, cfg.Settings.Masquerade = true, true
	cfg.Settings.NodeAddr, cfg.Settings.NodeAddr6 = fuzzNode4, fuzzNode6
	cfg.Settings.Lifetimes = Lifetimes{TCP: time.Hour, SYN: time.Hour, FIN: time.Hour, Any: time.Hour, Stack: time.Hour}
	r.d = openDatapath(t, cfg)
	for a, eni := range map[netip.Addr]uint32{fuzzNode4: 1, fuzzNode6: 1, fuzzSecond: 2} {
		r.owner[a] = eni
		must(t, r.d.SetAddress(a, eni))
	}
	for _, e := range r.enis {
		must(t, r.d.SetENI(e))
	}
	for i := range fuzzPods4 {
		ep := endpointFor(uint32(3+i), fuzzPods4[i].String(), 2)
		ep.Addr6 = fuzzPods6[i]
		must(t, addVeth("pod"+string(rune('a'+i)), ep.Ifindex, ep.HostMAC, "peer"+string(rune('a'+i)), ep.PodMAC))
		for _, a := range []netip.Addr{ep.Addr, ep.Addr6} {
			r.owner[a] = 2
			must(t, r.d.SetAddress(a, 2))
		}
		must(t, r.d.AddEndpoint(ep))
		r.endpoints = append(r.endpoints, ep)
	}
	r.native = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("fd00:1::/64")}
	prefixes := map[netip.Prefix]PrefixInfo{netip.MustParsePrefix("10.96.0.0/12"): {Stack: true}}
	for _, p := range r.native {
		prefixes[p] = PrefixInfo{Native: true}
	}
	must(t, r.d.SetPrefixes(prefixes))
	must(t, r.d.SetHostAddresses([]netip.Addr{fuzzNode4, fuzzNode6, fuzzSecond}))
	r.addServices(t)
	r.counters = readCounters(t, r.d)
	return r
}

// endpoint is who has the address; nil: nobody here.
func (r *fuzzRig) endpoint(a netip.Addr) *Endpoint {
	for i, e := range r.endpoints {
		if a.IsValid() && (a == e.Addr || a == e.Addr6) {
			return &r.endpoints[i]
		}
	}
	return nil
}

func (r *fuzzRig) isNative(a netip.Addr) bool {
	return slices.ContainsFunc(r.native, func(p netip.Prefix) bool { return p.Contains(a) })
}

// A shot is a packet on its way into a program.
type shot struct {
	hook  Hook
	ep    int // of hooks of endpoints
	eni   int // of the others
	mark  uint32
	frame []byte
}

func (r *fuzzRig) ifindex(s shot) int {
	if s.hook == FromPod || s.hook == ToPod {
		return r.endpoints[s.ep].Ifindex
	}
	return r.enis[s.eni].Ifindex
}

// fire runs the program and holds the outcome to what must never happen.
func (r *fuzzRig) fire(t testing.TB, s shot) {
	t.Helper()
	if len(s.frame) < 34 || len(s.frame) > 4000 {
		return // the kernel runs no shorter ones by hand
	}
	in := skbContext{Ifindex: uint32(r.ifindex(s)), Mark: s.mark}
	ret, data, out, err := runProgram(r.d.programs[s.hook], slices.Clone(s.frame), in)
	if errors.Is(err, unix.EINVAL) {
		return
	}
	if err != nil {
		t.Fatalf("%s: %v\n%x", s.hook, err, s.frame)
	}
	after := readCounters(t, r.d)
	diff := map[Counter]uint64{}
	for c, n := range after {
		if n != r.counters[c] {
			diff[c] = n - r.counters[c]
		}
	}
	r.counters = after
	reason, _, err := outcome(diff)
	if err != nil {
		t.Fatalf("%s: %v\n%x", s.hook, err, s.frame)
	}
	for c := range diff {
		if c.Hook != s.hook {
			t.Fatalf("%s counted as %s\n%x", s.hook, c.Hook, s.frame)
		}
	}
	if want := actionFor(reason); ret != want {
		t.Fatalf("%s: counted %s and returned %d\n%x", s.hook, reason, int32(ret), s.frame)
	}
	if fault := r.violation(s, reason, data, out); fault != "" {
		t.Fatalf("%s on device %d, mark %#x: %s; counted as %s, mark now %#x\nin  %x\nout %x", s.hook, in.Ifindex, s.mark, fault, reason, out.Mark, s.frame, data)
	}
	if !reason.Drop() && len(data) == len(s.frame) {
		r.remember(passed{hook: s.hook, reason: reason, before: s.frame, frame: data, ep: s.ep})
	}
}

func (r *fuzzRig) remember(p passed) {
	const most = 64
	if len(r.history) == most {
		r.history = r.history[1:]
	}
	r.history = append(r.history, p)
}

// violation says what is wrong with the outcome, in terms of the packet alone.
func (r *fuzzRig) violation(s shot, reason Reason, data []byte, out skbContext) string {
	if reason.Drop() {
		return ""
	}
	a, b := readHeaders(s.frame), readHeaders(data)
	switch reason {
	case ReasonAnswered:
		return r.wrongAnswer(s, a, b, data)
	case ReasonIgnored:
		if !a.neighbour {
			return "ignored what is no neighbour discovery"
		}
		return ""
	}
	if fault := wrongChange(a, b, s.frame, data, reason); fault != "" {
		return fault
	}
	turned, fault := r.serviceTurned(s.hook, a, b, s.frame, data)
	if fault != "" {
		return fault
	}
	switch s.hook {
	case FromPod:
		return r.wrongFromPod(s, reason, a, b, data, out, turned)
	case ToPod:
		switch ep := r.endpoints[s.ep]; {
		case reason != ReasonForwarded:
			return "ended in no way that to_pod knows"
		case turned:
			return r.serviceDone(s, reason, a, b, data, out)
		case !slices.Equal(s.frame, data):
			return "changed on its way into the pod"
		case a.family == 0 && !a.arp:
			return "passed what is neither IP nor ARP"
		case a.family != 0 && !a.neighbour && a.dst != ep.Addr && a.dst != ep.Addr6:
			return "delivered to the wrong endpoint"
		}
	case FromNetdev:
		return r.wrongFromNetdev(s, reason, a, b, data, out, turned)
	case ToNetdev:
		return r.wrongToNetdev(s, reason, a, b, data, out, turned)
	}
	return ""
}

func (r *fuzzRig) wrongAnswer(s shot, a, b headers, data []byte) string {
	ep := r.endpoints[s.ep]
	switch {
	case s.hook != FromPod:
		return "answered by another hook than from_pod"
	case !slices.Equal(data[:6], ep.PodMAC) || !slices.Equal(data[6:12], ep.HostMAC):
		return "answered to somebody else"
	case a.arp:
		if !slices.Equal(data[22:28], ep.HostMAC) || !slices.Equal(data[28:32], contract.Gateway.AsSlice()) || !slices.Equal(data[32:38], ep.PodMAC) {
			return "the answer isn't that the gateway is here"
		}
	case !a.neighbour || !b.neighbour || b.src != contract.Gateway6 || b.ttl != 255 || b.residual != 0 || data[b.l4] != 136:
		return "the answer is no right advertisement of the gateway"
	}
	return ""
}

// wrongDelivery holds a packet that goes into a pod to that pod.
func (r *fuzzRig) wrongDelivery(b headers, data []byte) string {
	ep := r.endpoint(b.dst)
	switch {
	case ep == nil:
		return "delivered, and no endpoint has its address"
	case !slices.Equal(data[:6], ep.PodMAC) || !slices.Equal(data[6:12], ep.HostMAC):
		return "delivered to the wrong endpoint"
	}
	return ""
}

func (r *fuzzRig) wrongFromPod(s shot, reason Reason, a, b headers, data []byte, out skbContext, turned bool) string {
	ep := r.endpoints[s.ep]
	own := a.src.IsValid() && (a.src == ep.Addr || a.src == ep.Addr6)
	translated := a.src != b.src
	switch {
	case !slices.Equal(s.frame[6:12], ep.PodMAC):
		return "passed another's MAC"
	case a.arp || a.neighbour:
		if reason != ReasonToStack || !slices.Equal(s.frame, data) {
			return "passed what a pod says about neighbours to somebody else than the host"
		}
		return ""
	case a.family == 0:
		return "passed what is neither IP nor ARP"
	case !own:
		return "passed with a forged source"
	case a.dst.IsMulticast() || a.dst.IsLoopback() || a.dst.IsUnspecified():
		return "passed to nowhere"
	case turned:
		return r.serviceDone(s, reason, a, b, data, out)
	case a.dst != b.dst:
		return "sent to somebody else"
	}
	switch reason {
	case ReasonToStack:
		if !slices.Equal(s.frame, data) || out.Mark != contract.MarkFromPod {
			return "left to the stack changed, or without its mark"
		}
	case ReasonDelivered:
		if translated {
			return "translated on its way to a pod of the same node"
		}
		return r.wrongDelivery(b, data)
	case ReasonSent:
		switch {
		case r.owner[a.dst] != 0:
			return "sent out though its destination is here"
		case translated:
			return r.wrongTranslation(a, b)
		}
	default:
		return "ended in no way that from_pod knows"
	}
	return ""
}

// wrongTranslation holds a pod's packet to the node's address and its ports, and remembers whose they are.
func (r *fuzzRig) wrongTranslation(a, b headers) string {
	first, last := DefaultSettings().MasqueradePorts[0], DefaultSettings().MasqueradePorts[1]
	switch {
	case b.src != fuzzNode4 && b.src != fuzzNode6:
		return "translated to an address that isn't the node's"
	case r.isNative(a.dst):
		return "translated though its destination is reached natively"
	case a.error || a.later:
		return ""
	case a.sport != b.sport && (b.sport < first || b.sport > last):
		return "translated to a port outside of the range"
	}
	key := aliasOf(b, b.dst, b.dport, b.src, b.sport)
	r.origins[key] = netip.AddrPortFrom(a.src, a.sport)
	delete(r.services.turned, key)
	return ""
}

// aliasOf makes the key; an ICMP query has one id, which isn't the remote's.
func aliasOf(h headers, remote netip.Addr, rport uint16, self netip.Addr, port uint16) aliasKey {
	if h.query {
		rport = 0
	}
	return aliasKey{protocol: h.protocol, remote: netip.AddrPortFrom(remote, rport), self: netip.AddrPortFrom(self, port)}
}

func (r *fuzzRig) wrongFromNetdev(s shot, reason Reason, a, b headers, data []byte, out skbContext, turned bool) string {
	back := a.dst != b.dst
	switch {
	case a.family == 0:
		return ""
	case r.endpoint(a.src) != nil:
		return "let somebody outside speak as a pod of this node"
	case turned:
		return r.serviceDone(s, reason, a, b, data, out)
	case a.src != b.src:
		return "changed its source on the way in"
	case back && a.dst != fuzzNode4 && a.dst != fuzzNode6:
		return "translated what wasn't sent to the node"
	case back && !a.error && !a.later:
		want, known := r.origins[aliasOf(a, a.src, a.sport, a.dst, a.dport)]
		if !known || want != netip.AddrPortFrom(b.dst, b.dport) {
			return "translated back for somebody who didn't send: it is " + want.String() + "'s"
		}
	}
	switch reason {
	case ReasonDelivered:
		return r.wrongDelivery(b, data)
	case ReasonToStack, ReasonForwarded, ReasonOtherFamily:
		if reason != ReasonOtherFamily && out.Mark&0xf00 != contract.MarkFromNetdev {
			return "went up without its mark"
		}
		if back && r.endpoint(b.dst) == nil {
			return "translated back for nobody"
		}
		return ""
	}
	return "ended in no way that from_netdev knows"
}

func (r *fuzzRig) wrongToNetdev(s shot, reason Reason, a, b headers, data []byte, out skbContext, turned bool) string {
	fromPod := s.mark&0xf00 == contract.MarkFromPod
	eni := r.owner[b.src]
	here := eni != 0 && r.enis[eni-1].Ifindex == r.ifindex(s)
	switch {
	case reason != ReasonForwarded && reason != ReasonRedirected && reason != ReasonOtherFamily:
		return "ended in no way that to_netdev knows"
	case a.family == 0: // what only the host can send
		return ""
	case s.mark&0xf00 == contract.MarkDecided:
		if reason != ReasonForwarded {
			return "decided again what was decided"
		}
		return ""
	case turned:
		return r.serviceDone(s, reason, a, b, data, out)
	case a.dst != b.dst:
		return "changed its destination on the way out"
	case fromPod && eni == 0:
		return "left for a pod with a source that no ENI owns"
	case reason == ReasonRedirected && (here || eni == 0 || out.Mark != contract.MarkDecided):
		return "redirected to nowhere better"
	case reason == ReasonForwarded && eni != 0 && !here && !a.dst.IsMulticast() && !a.broadcast && !a.src.IsLinkLocalUnicast():
		return "left by an ENI that doesn't own its source"
	}
	if a.src != b.src {
		if !fromPod || r.endpoint(a.src) == nil {
			return "translated what no pod sent"
		}
		return r.wrongTranslation(a, b)
	}
	return ""
}
