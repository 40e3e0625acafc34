package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weft-cni/weft/internal/contract"
)

// A pathRig is a node with two pods on its second ENI, both families, masquerading by the programs, whose
// hooks are given packets by hand, in the order in which the kernel would.
type pathRig struct {
	space
	t    testing.TB
	d    *Datapath
	a, b Endpoint
	enis [2]ENI
	next uint16 // a port that no test has used
}

// A pathFamily is who is who in one address family.
type pathFamily struct {
	pod, other, node         netip.Addr
	far                      netip.Addr // in the VPC
	world, service, stranger netip.Addr // stranger: private, and nothing is known of it
	translated               bool       // what goes to the world is
	icmp                     byte
	query, answer, dead      byte // types of ICMP
}

func addrs(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, s := range list {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

func pathFamilies() map[string]pathFamily {
	v4 := addrs(podAddr, otherAddr, nodeAddr, farAddr, worldAddr, "10.100.0.10", "172.20.1.1")
	v6 := addrs("2001:db8:1::10", "2001:db8:1::11", "2001:db8:1::5", "2001:db8:1:9::9", "2600::80", "fd12::10", "fd34::1")
	return map[string]pathFamily{
		"IPv4": {pod: v4[0], other: v4[1], node: v4[2], far: v4[3], world: v4[4], service: v4[5], stranger: v4[6], translated: true,
			icmp: protoICMP, query: 8, answer: 0, dead: 3},
		"IPv6": {pod: v6[0], other: v6[1], node: v6[2], far: v6[3], world: v6[4], service: v6[5], stranger: v6[6],
			icmp: protoICMPv6, query: 128, answer: 129, dead: 1},
	}
}

const routerMAC = "0e:00:00:00:00:01"

func newPathRig(t testing.TB) *pathRig {
	t.Helper()
	r := &pathRig{space: newSpace(t), t: t, next: 33000}
	r.enter(t)
	four, six := pathFamilies()["IPv4"], pathFamilies()["IPv6"]
	r.a, r.b = endpointFor(3, four.pod.String(), 2), endpointFor(4, four.other.String(), 2)
	r.a.Addr6, r.b.Addr6 = six.pod, six.other
	for i, m := range []string{"02:00:00:00:00:01", "02:00:00:00:00:02"} {
		must(t, addVeth(fmt.Sprintf("eni%d", i+1), 101+i, mac(m), fmt.Sprintf("wire%d", i+1), nil))
		must(t, addNeighbour(101+i, "192.168.0.1", mac(routerMAC)))
		must(t, addNeighbour(101+i, "fe80::ff", mac(routerMAC)))
		r.enis[i] = ENI{Handle: uint32(i + 1), Ifindex: 101 + i, MAC: mac(m), NextHop: netip.MustParseAddr("192.168.0.1"),
			NextHop6: netip.MustParseAddr("fe80::ff"), Masquerade: four.node, MasqueradeENI: 1}
	}
	must(t, addVeth("pod3", r.a.Ifindex, r.a.HostMAC, "peer3", r.a.PodMAC))
	must(t, addVeth("pod4", r.b.Ifindex, r.b.HostMAC, "peer4", r.b.PodMAC))
	cfg := testConfig(t)
	cfg.Sizes = Sizes{ConntrackTCP: 4096, ConntrackAny: 4096}
	cfg.Settings = DefaultSettings()
	cfg.Settings.IPv6, cfg.Settings.Masquerade = true, true
	cfg.Settings.NodeAddr, cfg.Settings.NodeAddr6 = four.node, six.node
	r.d = openDatapath(t, cfg)
	for _, f := range pathFamilies() {
		must(t, r.d.SetAddress(f.node, 1))
	}
	r.addENIs(t)
	must(t, r.d.AddEndpoint(r.a))
	must(t, r.d.AddEndpoint(r.b))
	must(t, r.d.SetPrefixes(map[netip.Prefix]PrefixInfo{
		netip.MustParsePrefix("192.168.0.0/16"): {Native: true}, netip.MustParsePrefix("2001:db8:1::/48"): {Native: true},
		netip.MustParsePrefix("10.100.0.0/16"): {Stack: true}, netip.MustParsePrefix("fd12::/64"): {Stack: true},
	}))
	return r
}

func (r *pathRig) addENIs(t testing.TB) {
	for _, e := range r.enis {
		must(t, r.d.SetENI(e))
	}
}

// port is one that no earlier test has used, so that no entry is in the way.
func (r *pathRig) port() uint16 { r.next++; return r.next }

// A passage is what a hook did with a packet.
type passage struct {
	reason Reason
	notes  []Reason
	natPacket
	ttl      byte
	dst, src net.HardwareAddr
	mark     uint32
	tstamp   uint64
	data     []byte
}

// frameOf puts a packet into the frame that the hook's device would get it in.
func (r *pathRig) frameOf(h Hook, p natPacket) []byte {
	ethertype := uint16(0x0800)
	if p.src.Is6() {
		ethertype = 0x86dd
	}
	dst, src := net.HardwareAddr(r.a.HostMAC), r.podMAC(p.src)
	switch h {
	case ToPod:
		dst, src = r.podMAC(p.dst), r.a.HostMAC
	case FromNetdev:
		dst, src = r.enis[0].MAC, mac(routerMAC)
	case ToNetdev:
		dst, src = mac(routerMAC), r.enis[0].MAC
	}
	return ethernetFrame(dst, src, ethertype, p.ip())
}

func (r *pathRig) podMAC(addr netip.Addr) net.HardwareAddr {
	if addr == r.b.Addr || addr == r.b.Addr6 {
		return r.b.PodMAC
	}
	return r.a.PodMAC
}

// device is the one on which the hook meets the packet.
func (r *pathRig) device(h Hook, p natPacket) int {
	addr := p.src
	switch h {
	case FromNetdev:
		return r.enis[1].Ifindex
	case ToNetdev:
		return r.enis[1].Ifindex
	case ToPod:
		addr = p.dst
	}
	if addr == r.b.Addr || addr == r.b.Addr6 {
		return r.b.Ifindex
	}
	return r.a.Ifindex
}

// A variation changes how a packet meets a hook.
type variation func(frame []byte, in *skbContext)

func withMark(mark uint32) variation { return func(_ []byte, in *skbContext) { in.Mark = mark } }

func withDevice(ifindex int) variation {
	return func(_ []byte, in *skbContext) { in.Ifindex = uint32(ifindex) }
}

func withGSO(size uint32) variation {
	return func(_ []byte, in *skbContext) { in.GSOSize, in.GSOSegs = size, 2 }
}

func withTTL(ttl byte) variation {
	return func(frame []byte, _ *skbContext) {
		if frame[14]>>4 == 6 {
			frame[21] = ttl
			return
		}
		frame[22], frame[24], frame[25] = ttl, 0, 0
		sum := ^onesSum(frame[14:34])
		frame[24], frame[25] = byte(sum>>8), byte(sum)
	}
}

// run gives the packet to a hook and wants this of it.
func (r *pathRig) run(t *testing.T, h Hook, p natPacket, want Reason, how ...variation) passage {
	t.Helper()
	return r.runFrame(t, h, r.device(h, p), r.frameOf(h, p), want, how...)
}

func (r *pathRig) runFrame(t *testing.T, h Hook, ifindex int, frame []byte, want Reason, how ...variation) passage {
	t.Helper()
	in := skbContext{Ifindex: uint32(ifindex)}
	for _, v := range how {
		v(frame, &in)
	}
	var ret uint32
	var out skbContext
	var data []byte
	var err error
	diff := counted(t, r.d, func() { ret, data, out, err = runProgram(r.d.programs[h], frame, in) })
	if err != nil {
		t.Fatalf("%s: run: %v", h, err)
	}
	got := passage{mark: out.Mark, tstamp: out.Tstamp, data: data}
	got.reason, got.notes, err = outcome(diff)
	if err != nil {
		t.Fatalf("%s: %v", h, err)
	}
	if got.reason != want {
		t.Fatalf("%s: %s, expected %s", h, got.reason, want)
	}
	if act := actionFor(want); ret != act {
		t.Fatalf("%s: %s and returned %d, expected %d", h, want, int32(ret), int32(act))
	}
	if want.Drop() || want == ReasonIgnored {
		return got
	}
	got.dst, got.src = data[:6], data[6:12]
	if ethertype := uint16(data[12])<<8 | uint16(data[13]); ethertype != 0x0800 && ethertype != 0x86dd {
		return got
	}
	// As long as it says: the buffer is longer.
	ip := data[14:]
	if ip[0]>>4 == 4 {
		got.ttl, ip = ip[8], ip[:max(20, int(ip[2])<<8|int(ip[3]))]
	} else {
		got.ttl, ip = ip[7], ip[:40+(int(ip[4])<<8|int(ip[5]))]
	}
	if got.natPacket, err = readPacket(ip, false); err != nil {
		t.Fatalf("%s: afterwards %v", h, err)
	}
	return got
}

// delivered checks what a pod gets that the programs deliver.
func (g passage) delivered(t *testing.T, to Endpoint, ttl byte) {
	t.Helper()
	if !slices.Equal(g.dst, to.PodMAC) || !slices.Equal(g.src, to.HostMAC) {
		t.Errorf("delivered from %s to %s, expected %s to %s", g.src, g.dst, to.HostMAC, to.PodMAC)
	}
	if g.ttl != ttl-1 {
		t.Errorf("delivered with a time to live of %d, expected %d", g.ttl, ttl-1)
	}
	if g.mark != 0 {
		t.Errorf("delivered with mark %#x, expected none", g.mark)
	}
}

// sent checks what leaves past the stack.
func (g passage) sent(t *testing.T, ttl byte) {
	t.Helper()
	if g.ttl != ttl-1 || g.mark != contract.MarkDecided {
		t.Errorf("sent with a time to live of %d and mark %#x, expected %d and %#x", g.ttl, g.mark, ttl-1, contract.MarkDecided)
	}
}

// left checks what goes up the stack.
func (g passage) left(t *testing.T, ttl byte, mark uint32) {
	t.Helper()
	if g.ttl != ttl || g.mark != mark {
		t.Errorf("left to the stack with a time to live of %d and mark %#x, expected %d and %#x", g.ttl, g.mark, ttl, mark)
	}
}

// entry is what is known of a flow.
func (r *pathRig) entry(t *testing.T, from, to netip.Addr, protocol byte, sport, dport uint16) (Connection, bool) {
	t.Helper()
	key, side := newCTKey(netip.AddrPortFrom(from, sport), netip.AddrPortFrom(to, dport), protocol)
	for _, name := range []string{mapConntrackTCP, mapConntrackAny} {
		var e ctEntry
		err := r.d.maps[name].Lookup(key, &e)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		}
		must(t, err)
		if int(e.Origin) != side {
			t.Errorf("the flow from %s to %s was begun by the other side", from, to)
		}
		return connection(key, e, name == mapConntrackTCP, 0, 1000), true
	}
	return Connection{}, false
}

// flow checks who has counted how many packets, and which way they go.
func (r *pathRig) flow(t *testing.T, p natPacket, stack bool, sent, received uint64) Connection {
	t.Helper()
	c, ok := r.entry(t, p.src, p.dst, p.protocol, p.sport, p.dport)
	if !ok {
		t.Fatalf("no entry from %s to %s, port %d", p.src, p.dst, p.dport)
	}
	if c.Stack != stack || c.Sent.Packets != sent || c.Received.Packets != received {
		t.Errorf("the flow from %s to %s: by the stack %v, packets %d and %d; expected %v, %d and %d", p.src, p.dst, c.Stack, c.Sent.Packets, c.Received.Packets, stack, sent, received)
	}
	return c
}

// reply is the packet that answers.
func (p natPacket) answered() natPacket {
	p.src, p.dst, p.sport, p.dport = p.dst, p.src, p.dport, p.sport
	return p
}
