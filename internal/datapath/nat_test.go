package datapath

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// natRig runs translation without hooks.
type natRig struct {
	testing.TB
	maps            map[string]*ebpf.Map
	egress, ingress *ebpf.Program
	host            *ebpf.Program
}

var (
	natPod4, natPod6     = netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("fd00:1::10")
	natOther4, natOther6 = netip.MustParseAddr("192.168.1.11"), netip.MustParseAddr("fd00:1::11")
	natNode4, natNode6   = netip.MustParseAddr("192.168.0.5"), netip.MustParseAddr("fd00::5")
	natWorld4, natWorld6 = netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8::9")
	natRouter4           = netip.MustParseAddr("198.51.100.1")
	natRouter6           = netip.MustParseAddr("2001:db8:1::1")
)

const natENI = 1

// newNATRig loads the programs, which takes longer than every test with them.
func newNATRig(t testing.TB) *natRig {
	needRoot(t)
	spec, err := loadNatprog()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"weft_ct_new", "weft_ct_est"} {
		spec.Maps[name].MaxEntries = 4096
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(coll.Close)
	eni := eniValue{Flags: eniValid, Ifindex: 1, MTU: 9001, MasqueradeENI: 7, Masquerade: toWire(natNode4), Masquerade6: toWire(natNode6)}
	if err := coll.Maps["weft_enis"].Put(uint32(natENI), eni); err != nil {
		t.Fatal(err)
	}
	return &natRig{TB: t, maps: coll.Maps, egress: coll.Programs["nat_egress"], ingress: coll.Programs["nat_ingress"], host: coll.Programs["nat_host"]}
}

// fresh has no flows and this range of ports.
func (r *natRig) fresh(t testing.TB, first, last uint16) *natRig {
	t.Helper()
	f := *r
	f.TB = t
	config := configValue{Layout: layoutVersion, Families: 3, MasqueradePortMin: first, MasqueradePortMax: last, JiffiesPerSecond: 1000}
	for i := range config.Lifetime {
		config.Lifetime[i] = 60 * 1000
	}
	if err := f.maps["weft_config"].Put(uint32(0), config); err != nil {
		t.Fatal(err)
	}
	f.drop(true)
	f.drop(false)
	return &f
}

// Translation without hooks, each packet through the programs by itself.
func TestNAT(t *testing.T) {
	r := newNATRig(t)
	for name, test := range map[string]func(*testing.T, *natRig){
		"every protocol": testNATEveryProtocol, "keeps a port of the range": testNATKeepsAPortOfTheRange, "no port": testNATNoPort,
		"only by address": testNATOnlyByAddress, "neither query nor error": testNATOtherICMP, "errors": testNATErrors, "errors of nobody": testNATErrorsOfNobody,
		"fragments": testNATFragments, "takes what is left": testNATTakesWhatIsLeft, "alias evicted": testNATAliasEvicted, "the host's packets": testNATHost,
	} {
		t.Run(name, func(t *testing.T) { test(t, r) })
	}
}

// run returns the packet as it came out, and why it didn't.
func (r *natRig) run(p *ebpf.Program, in natPacket) (natPacket, Reason) {
	r.Helper()
	ret, out, _, err := runProgram(p, in.frame(), skbContext{CB: [5]uint32{natENI}})
	if err != nil {
		r.Fatal(err)
	}
	if reason := Reason(ret & 0xff); reason != 0 {
		return natPacket{}, reason
	}
	got, err := readPacket(out[14:14+len(in.frame())-14], false)
	if err != nil {
		r.Fatalf("%+v came out damaged: %v", in, err)
	}
	return got, 0
}

func (r *natRig) send(in natPacket) natPacket {
	r.Helper()
	out, reason := r.run(r.egress, in)
	if reason != 0 {
		r.Fatalf("%+v: %s", in, reason)
	}
	return out
}

func (r *natRig) receive(in natPacket) natPacket {
	r.Helper()
	out, reason := r.run(r.ingress, in)
	if reason != 0 {
		r.Fatalf("%+v: %s", in, reason)
	}
	return out
}

// same compares packets but for their transport's checksum, which was found right.
func (r *natRig) same(want, got natPacket) {
	r.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(natPacket{}), cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
		r.Fatalf("expected -, got +\n%s", diff)
	}
}

// reply is what comes back for a packet.
func (p natPacket) reply() natPacket {
	p.src, p.dst = p.dst, p.src
	p.sport, p.dport = p.dport, p.sport
	switch {
	case p.protocol == protoICMP && p.kind == 8:
		p.kind = 0
	case p.protocol == protoICMPv6 && p.kind == 128:
		p.kind = 129
	}
	if p.flags == tcpSYN {
		p.flags = tcpSYN | tcpACK
	}
	return p
}

type natFamily struct {
	name                     string
	pod, other, node, world  netip.Addr
	router                   netip.Addr
	icmp                     byte
	query, tooBig, unreached byte
}

func natFamilies() []natFamily {
	return []natFamily{
		{"IPv4", natPod4, natOther4, natNode4, natWorld4, natRouter4, protoICMP, 8, 3, 3},
		{"IPv6", natPod6, natOther6, natNode6, natWorld6, natRouter6, protoICMPv6, 128, 2, 1},
	}
}

// Every protocol out and back: the source is the node's, what comes back is the pod's, every checksum is
// right and nothing else changed. Lengths are odd and even, and one data word makes the sum of UDP zero.
func testNATEveryProtocol(t *testing.T, r *natRig) {
	for _, fam := range natFamilies() {
		tests := []struct {
			name  string
			p     natPacket
			ports bool // may get another one
		}{
			{"TCP", natPacket{protocol: protoTCP, sport: 40000, dport: 443, flags: tcpSYN}, true},
			{"UDP", natPacket{protocol: protoUDP, sport: 40000, dport: 53, data: []byte("query")}, true},
			{"UDP without a checksum", natPacket{protocol: protoUDP, sport: 40001, dport: 53, noSum: true, data: []byte("quer")}, true},
			{"echo", natPacket{protocol: fam.icmp, kind: fam.query, sport: 40000, dport: 40000, data: []byte("ping!")}, true},
			{"SCTP", natPacket{protocol: protoSCTP, sport: 40000, dport: 9, data: []byte{1, 0, 0, 4}}, false},
			{"GRE", natPacket{protocol: protoGRE, data: []byte{0, 0, 8, 0, 1, 2, 3}}, false},
			{"UDP-Lite", natPacket{protocol: protoUDPLite, sport: 5, dport: 6, data: []byte("lite")}, false},
			{"UDP-Lite without a checksum, which is damaged and stays so", natPacket{protocol: protoUDPLite, sport: 5, dport: 6, noSum: true, data: []byte("lit")}, false},
			{"DCCP", natPacket{protocol: protoDCCP, sport: 5, dport: 6, data: []byte("dccp")}, false},
		}
		for _, tt := range tests {
			t.Run(fam.name+"/"+tt.name, func(t *testing.T) {
				if fam.name == "IPv6" && tt.p.noSum {
					t.Skip("IPv6 has no UDP without a checksum")
				}
				r := r.fresh(t, 2000, 2999)
				p := tt.p
				p.src, p.dst = fam.pod, fam.world
				out := r.send(p)
				want := p
				want.src = fam.node
				if tt.ports {
					if out.sport < 2000 || out.sport > 2999 {
						t.Fatalf("source port is %d, expected one of 2000-2999", out.sport)
					}
					want.sport = out.sport
					if p.protocol == fam.icmp {
						want.dport = out.sport
					}
				}
				r.same(want, out)
				// Once more: the same translation.
				r.same(out, r.send(p))
				r.same(p.reply(), r.receive(out.reply()))
				for i := range 64 { // all kinds of sums
					p.data = bytes.Repeat([]byte{byte(i * 37), byte(i)}, i)
					if p.protocol == protoTCP {
						p.flags = tcpACK
					}
					want.data, want.flags = p.data, p.flags
					r.same(want, r.send(p))
					r.same(p.reply(), r.receive(want.reply()))
				}
			})
		}
	}
}

func testNATKeepsAPortOfTheRange(t *testing.T, r *natRig) {
	r = r.fresh(t, 2000, 2999)
	p := natPacket{src: natPod4, dst: natWorld4, protocol: protoUDP, sport: 2500, dport: 53}
	if out := r.send(p); out.sport != 2500 {
		t.Errorf("source port 2500 became %d though it is free", out.sport)
	}
	p.src = natOther4
	out := r.send(p)
	if out.sport == 2500 {
		t.Error("two pods have the same port to one destination")
	}
	r.same(p.reply(), r.receive(out.reply()))
	// To another destination it is free.
	p.dport = 54
	if out := r.send(p); out.sport != 2500 {
		t.Errorf("source port 2500 became %d though it is free to this destination", out.sport)
	}
}

// Every port of a small range is given once, then none.
func testNATNoPort(t *testing.T, r *natRig) {
	for _, fam := range natFamilies() {
		t.Run(fam.name, func(t *testing.T) {
			r := r.fresh(t, 2000, 2007)
			given := map[uint16]uint16{}
			p := natPacket{src: fam.pod, dst: fam.world, protocol: protoUDP, dport: 53}
			for p.sport = 50000; p.sport < 50008; p.sport++ {
				out := r.send(p)
				if was, ok := given[out.sport]; ok {
					t.Fatalf("port %d is given to %d and %d", out.sport, was, p.sport)
				}
				given[out.sport] = p.sport
			}
			if _, reason := r.run(r.egress, p); reason != ReasonNatNoPort {
				t.Errorf("with every port taken: %s, expected %s", reason, ReasonNatNoPort)
			}
			p.dport = 54
			r.send(p)
		})
	}
}

// A protocol whose port can't change has one flow for each tuple, whoever is first.
func testNATOnlyByAddress(t *testing.T, r *natRig) {
	for _, protocol := range []byte{protoSCTP, protoGRE} {
		t.Run(fmt.Sprint(protocol), func(t *testing.T) {
			r := r.fresh(t, 2000, 2999)
			p := natPacket{src: natPod4, dst: natWorld4, protocol: protocol, data: []byte{1, 0, 0, 4}}
			if protocol == protoSCTP {
				p.sport, p.dport = 7, 9
			}
			r.send(p)
			p.src = natOther4
			if _, reason := r.run(r.egress, p); reason != ReasonNatNoPort {
				t.Errorf("the second flow of one tuple: %s, expected %s", reason, ReasonNatNoPort)
			}
		})
	}
}

// ICMP that is neither a query nor an error has no id, and shares its flow with the query whose id is 0. It leaves
// only under the tuple that its own flow has: the answer to another would be another pod's.
func testNATOtherICMP(t *testing.T, r *natRig) {
	for _, fam := range natFamilies() {
		t.Run(fam.name, func(t *testing.T) {
			r := r.fresh(t, 2000, 2999)
			other := natPacket{src: fam.other, dst: fam.world, protocol: fam.icmp, kind: 200}
			out := r.send(other)
			r.same(other.reply(), r.receive(out.reply()))

			query := natPacket{src: fam.pod, dst: fam.world, protocol: fam.icmp, kind: fam.query}
			translated := r.send(query)
			plain := query
			plain.kind = 200
			if got, reason := r.run(r.egress, plain); reason != ReasonNatNoPort {
				t.Errorf("it came out as %+v, %s: expected %s, as the answer is %s's", got, reason, ReasonNatNoPort, fam.other)
			}
			r.same(query.reply(), r.receive(translated.reply()))
			r.same(other.reply(), r.receive(out.reply()))

			// Nor is an error about it one about a query that has the same number where its id is.
			query.sport, query.dport = 40000, 40000
			r.send(query)
			for _, id := range []uint16{0, 40000} {
				plain.sport, plain.dport = id, id
				p := natPacket{src: fam.pod, dst: fam.world, protocol: fam.icmp, kind: fam.unreached, data: plain.reply().ip()}
				if got, reason := r.run(r.egress, p); reason != ReasonNatNoPort {
					t.Errorf("an error about it, with %d for an id, came out as %+v, %s: expected %s", id, got, reason, ReasonNatNoPort)
				}
			}
		})
	}
}

// Errors of routers on the way reach the pod, with the pod's own packet inside; the pod's errors leave with
// the node's packet inside.
func testNATErrors(t *testing.T, r *natRig) {
	for _, fam := range natFamilies() {
		for _, inner := range []natPacket{
			{protocol: protoTCP, sport: 40000, dport: 443, flags: tcpSYN, data: []byte("some data")},
			{protocol: protoUDP, sport: 40000, dport: 53, data: []byte("odd")},
			{protocol: protoUDP, sport: 40000, dport: 53, noSum: true, data: []byte("none")},
			{protocol: fam.icmp, kind: fam.query, sport: 40000, dport: 40000, data: []byte("ping")},
			{protocol: fam.icmp, kind: 200, sport: 40000, dport: 40000, data: []byte("no query")},
			{protocol: protoSCTP, sport: 40000, dport: 9, data: []byte{1, 0, 0, 4}},
			{protocol: protoGRE, data: []byte{0, 0, 8, 0, 1, 2, 3, 4}},
		} {
			for _, quoted := range []int{8, 64} { // what routers quote of the packet, behind its IP header
				t.Run(fmt.Sprintf("%s/protocol %d, type %d, %d bytes", fam.name, inner.protocol, inner.kind, quoted), func(t *testing.T) {
					if fam.name == "IPv6" && inner.noSum {
						t.Skip("IPv6 has no UDP without a checksum")
					}
					r := r.fresh(t, 2000, 2999)
					p := inner
					p.src, p.dst = fam.pod, fam.world
					out := r.send(p)

					cut := func(p natPacket) []byte {
						b := p.ip()
						head := 20
						if p.src.Is6() {
							head = 40
						}
						return b[:min(len(b), head+quoted)]
					}
					got := r.receive(natPacket{src: fam.router, dst: fam.node, protocol: fam.icmp, kind: fam.tooBig, data: cut(out)})
					if got.src != fam.router || got.dst != fam.pod {
						t.Fatalf("an error for the pod goes from %s to %s, expected from %s to %s", got.src, got.dst, fam.router, fam.pod)
					}
					if !bytes.Equal(got.data, cut(p)) {
						t.Fatalf("the error is about\n%x, expected\n%x", got.data, cut(p))
					}

					back := r.receive(out.reply())
					got = r.send(natPacket{src: fam.pod, dst: fam.world, protocol: fam.icmp, kind: fam.unreached, data: cut(back)})
					if got.src != fam.node || got.dst != fam.world {
						t.Fatalf("the pod's error goes from %s to %s, expected from %s to %s", got.src, got.dst, fam.node, fam.world)
					}
					if want := cut(out.reply()); !bytes.Equal(got.data, want) {
						t.Fatalf("the pod's error is about\n%x, expected\n%x", got.data, want)
					}
				})
			}
		}
	}
}

// An error about a packet that no translated flow has sent is nobody's.
func testNATErrorsOfNobody(t *testing.T, r *natRig) {
	for _, fam := range natFamilies() {
		t.Run(fam.name, func(t *testing.T) {
			r := r.fresh(t, 2000, 2999)
			about := natPacket{src: fam.node, dst: fam.world, protocol: protoUDP, sport: 2001, dport: 53, data: []byte("x")}
			p := natPacket{src: fam.router, dst: fam.node, protocol: fam.icmp, kind: fam.tooBig, data: about.ip()}
			if _, reason := r.run(r.ingress, p); reason != ReasonNatNoState {
				t.Errorf("an error about nothing: %s, expected %s", reason, ReasonNatNoState)
			}
			about.src, about.dst = fam.world, fam.pod
			p = natPacket{src: fam.pod, dst: fam.world, protocol: fam.icmp, kind: fam.unreached, data: about.ip()}
			if _, reason := r.run(r.egress, p); reason != ReasonNatNoState {
				t.Errorf("a pod's error about nothing: %s, expected %s", reason, ReasonNatNoState)
			}
		})
	}
}

// Later fragments have no ports and are translated by those of the first.
func testNATFragments(t *testing.T, r *natRig) {
	for _, fam := range natFamilies() {
		t.Run(fam.name, func(t *testing.T) {
			r := r.fresh(t, 2000, 2999)
			first := natPacket{src: fam.pod, dst: fam.world, protocol: protoUDP, sport: 40000, dport: 53, id: 77, fragment: 0x2000, data: bytes.Repeat([]byte("a"), 24)}
			later := natPacket{src: fam.pod, dst: fam.world, protocol: protoUDP, id: 77, fragment: 4, data: []byte("the rest")}
			out := r.send(first)
			want := first
			want.src, want.sport = fam.node, out.sport
			r.same(want, out)
			want = later
			want.src = fam.node
			r.same(want, r.send(later))

			back, rest := first.reply(), later.reply()
			back.dst, back.dport, rest.dst = fam.node, out.sport, fam.node
			r.same(first.reply(), r.receive(back))
			r.same(later.reply(), r.receive(rest))
		})
	}
}

// A flow that has ended leaves its alias in an LRU; the next one may have its port.
func testNATTakesWhatIsLeft(t *testing.T, r *natRig) {
	r = r.fresh(t, 2000, 2000)
	p := natPacket{src: natPod4, dst: natWorld4, protocol: protoUDP, sport: 40000, dport: 53}
	r.send(p)
	p.src = natOther4
	if _, reason := r.run(r.egress, p); reason != ReasonNatNoPort {
		t.Fatalf("the only port is taken: %s, expected %s", reason, ReasonNatNoPort)
	}
	r.age(func(e *ctEntry) {
		e.Created -= 5000
		e.Expires -= 120 * 1000
	})
	out := r.send(p)
	r.same(p.reply(), r.receive(out.reply()))
}

// An alias that was evicted is made again by the next packet, or its flow ends if another has the port.
func testNATAliasEvicted(t *testing.T, r *natRig) {
	r = r.fresh(t, 2000, 2000)
	p := natPacket{src: natPod4, dst: natWorld4, protocol: protoUDP, sport: 40000, dport: 53}
	out := r.send(p)
	r.drop(true)
	if _, reason := r.run(r.ingress, out.reply()); reason != ReasonNatNoState {
		t.Fatalf("the alias is gone: %s, expected %s", reason, ReasonNatNoState)
	}
	r.age(func(e *ctEntry) { e.Created -= 5000; e.NATSeen -= 5000 })
	r.same(out, r.send(p))
	r.same(p.reply(), r.receive(out.reply()))

	r.drop(true)
	r.age(func(e *ctEntry) { e.Created -= 5000; e.NATSeen -= 5000 })
	other := p
	other.src = natOther4
	taken := r.send(other)
	if _, reason := r.run(r.egress, p); reason != ReasonNatNoPort {
		t.Errorf("the port has another flow: %s, expected %s", reason, ReasonNatNoPort)
	}
	r.same(other.reply(), r.receive(taken.reply()))
}

// The host's packet is refused only while a pod's flow has its port to the same peer.
func testNATHost(t *testing.T, r *natRig) {
	for _, fam := range natFamilies() {
		for _, p := range []natPacket{
			{protocol: protoTCP, sport: 40000, dport: 443, flags: tcpSYN},
			{protocol: protoUDP, sport: 40000, dport: 53, data: []byte("query")},
			{protocol: fam.icmp, kind: fam.query, sport: 40000, dport: 40000, data: []byte("ping!")},
		} {
			t.Run(fmt.Sprintf("%s/protocol %d", fam.name, p.protocol), func(t *testing.T) {
				r := r.fresh(t, 2000, 2999)
				p.src, p.dst = fam.pod, fam.world
				own := r.send(p)
				if _, reason := r.run(r.host, own); reason != ReasonNatHostPort {
					t.Errorf("the pod's port: %s, expected %s", reason, ReasonNatHostPort)
				}
				for what, change := range map[string]func(*natPacket){
					"another peer": func(p *natPacket) { p.dst = fam.router },
					"a port outside of the range": func(p *natPacket) {
						p.sport = 40000
						if p.protocol == fam.icmp {
							p.dport = 40000
						}
					},
					"an answer": func(p *natPacket) {
						p.flags |= tcpACK
						if p.protocol == fam.icmp {
							p.kind = map[byte]byte{8: 0, 128: 129}[p.kind]
						} else if p.protocol == protoUDP {
							p.dport = 54 // has none
						}
					},
				} {
					q := own
					change(&q)
					if _, reason := r.run(r.host, q); reason != 0 {
						t.Errorf("%s: %s, expected that it passes", what, reason)
					}
				}
				r.age(func(e *ctEntry) { e.Expires -= 120 * 1000 })
				if _, reason := r.run(r.host, own); reason != 0 {
					t.Errorf("when the pod's flow has ended: %s, expected that it passes", reason)
				}
			})
		}
	}
}

// age changes every entry of a flow that isn't established.
func (r *natRig) age(change func(*ctEntry)) {
	r.Helper()
	var key [40]byte
	var e ctEntry
	var keys [][40]byte
	var entries []ctEntry
	it := r.maps["weft_ct_new"].Iterate()
	for it.Next(&key, &e) {
		change(&e)
		keys, entries = append(keys, key), append(entries, e)
	}
	if err := it.Err(); err != nil {
		r.Fatal(err)
	}
	for i := range keys {
		if err := r.maps["weft_ct_new"].Put(keys[i], entries[i]); err != nil {
			r.Fatal(err)
		}
	}
}

// drop deletes the aliases, or the flows.
func (r *natRig) drop(aliases bool) {
	r.Helper()
	var key [40]byte
	var e ctEntry
	var keys [][40]byte
	it := r.maps["weft_ct_new"].Iterate()
	for it.Next(&key, &e) {
		if e.Flags&ctAlias != 0 == aliases {
			keys = append(keys, key)
		}
	}
	if err := it.Err(); err != nil {
		r.Fatal(err)
	}
	for _, key := range keys {
		if err := r.maps["weft_ct_new"].Delete(key); err != nil {
			r.Fatal(err)
		}
	}
}
