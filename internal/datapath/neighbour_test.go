package datapath

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/weft-cni/weft/internal/contract"
)

// A discovery is a message of neighbour discovery with the fields that a forger would choose.
type discovery struct {
	dstMAC, srcMAC net.HardwareAddr
	src, dst       string
	kind, code     byte
	hops           byte
	flags          uint32
	target         string
	option         byte // 0: none
	mac            net.HardwareAddr
	extension      bool // behind a destination options header
	length         int  // of the message; 0: what it is
}

func (d discovery) frame() []byte {
	src, dst := netip.MustParseAddr(d.src), netip.MustParseAddr(d.dst)
	m := []byte{d.kind, d.code, 0, 0}
	m = binary.BigEndian.AppendUint32(m, d.flags)
	if d.target != "" {
		m = append(m, netip.MustParseAddr(d.target).AsSlice()...)
	}
	if d.option != 0 {
		m = append(append(m, d.option, 1), d.mac...)
	}
	if d.length > 0 {
		m = m[:d.length]
	}
	binary.BigEndian.PutUint16(m[2:], ^onesSum(pseudoHeader(src, dst, protoICMPv6, len(m)), m))
	next := byte(protoICMPv6)
	if d.extension {
		m, next = append([]byte{protoICMPv6, 0, 1, 4, 0, 0, 0, 0}, m...), 60
	}
	b := make([]byte, 40)
	b[0], b[6], b[7] = 0x60, next, d.hops
	binary.BigEndian.PutUint16(b[4:], uint16(len(m)))
	copy(b[8:], src.AsSlice())
	copy(b[24:], dst.AsSlice())
	return ethernetFrame(d.dstMAC, d.srcMAC, 0x86dd, append(b, m...))
}

const (
	solicitation, advertisement = 135, 136
	sourceMAC, targetMAC        = 1, 2
)

func TestNeighbourDiscovery(t *testing.T) {
	r := newPathRig(t)
	pod6, link := r.a.Addr6.String(), "fe80::77:c0ff:fea8:10a"
	group := mac("33:33:ff:00:00:01")
	ask := discovery{dstMAC: group, srcMAC: r.a.PodMAC, src: pod6, dst: "ff02::1:ff00:1", kind: solicitation, hops: 255,
		target: contract.Gateway6.String(), option: sourceMAC, mac: r.a.PodMAC}
	tell := discovery{dstMAC: r.a.HostMAC, srcMAC: r.a.PodMAC, src: pod6, dst: "2001:db8:1::5", kind: advertisement, hops: 255, flags: 0x60000000,
		target: pod6, option: targetMAC, mac: r.a.PodMAC}
	with := func(d discovery, change func(*discovery)) discovery { change(&d); return d }
	for _, c := range []struct {
		name string
		d    discovery
		want Reason
	}{
		{"for the gateway", ask, ReasonAnswered},
		{"by a link-local address", with(ask, func(d *discovery) { d.src = link }), ReasonAnswered},
		{"straight to the gateway", with(ask, func(d *discovery) { d.dstMAC, d.dst = r.a.HostMAC, contract.Gateway6.String() }), ReasonAnswered},
		{"without its MAC", with(ask, func(d *discovery) { d.option = 0 }), ReasonAnswered},
		{"in another's name", with(ask, func(d *discovery) { d.src = r.b.Addr6.String() }), ReasonNdBad},
		{"for another pod", with(ask, func(d *discovery) { d.target = r.b.Addr6.String() }), ReasonNdBad},
		{"from another link", with(ask, func(d *discovery) { d.hops = 254 }), ReasonNdBad},
		{"with a code", with(ask, func(d *discovery) { d.code = 1 }), ReasonNdBad},
		{"for the gateway's address, to have it", with(ask, func(d *discovery) { d.src, d.option = "::", 0 }), ReasonNdBad},
		{"is my address taken?", with(ask, func(d *discovery) { d.src, d.option, d.target = "::", 0, pod6 }), ReasonIgnored},
		{"is my link-local address taken?", with(ask, func(d *discovery) { d.src, d.option, d.target = "::", 0, link }), ReasonIgnored},
		{"is another's address taken?", with(ask, func(d *discovery) { d.src, d.option, d.target = "::", 0, r.b.Addr6.String() }), ReasonNdBad},
		{"half a message", with(ask, func(d *discovery) { d.option, d.length = 0, 16 }), ReasonTruncated},
		{"behind an extension header", with(ask, func(d *discovery) { d.extension = true }), ReasonTruncated},
		{"with another's frame", with(ask, func(d *discovery) { d.srcMAC = r.b.PodMAC }), ReasonSourceMAC},
		{"to another's MAC", with(ask, func(d *discovery) { d.dstMAC = r.b.PodMAC }), ReasonDestMAC},

		{"the truth about itself", tell, ReasonToStack},
		{"the truth, without a MAC", with(tell, func(d *discovery) { d.option = 0 }), ReasonToStack},
		{"to everybody", with(tell, func(d *discovery) { d.dstMAC, d.dst = mac("33:33:00:00:00:01"), "ff02::1" }), ReasonIgnored},
		{"about its link-local address", with(tell, func(d *discovery) { d.target = link }), ReasonIgnored},
		{"to be the gateway", with(tell, func(d *discovery) { d.target = contract.Gateway6.String() }), ReasonNdBad},
		{"to be the gateway, by its name", with(tell, func(d *discovery) { d.src, d.target = contract.Gateway6.String(), contract.Gateway6.String() }), ReasonNdBad},
		{"to be another pod", with(tell, func(d *discovery) { d.target = r.b.Addr6.String() }), ReasonNdBad},
		{"with another's MAC", with(tell, func(d *discovery) { d.mac = r.b.PodMAC }), ReasonNdBad},
		{"with the wrong option", with(tell, func(d *discovery) { d.option = sourceMAC }), ReasonNdBad},

		{"router solicitation", with(ask, func(d *discovery) { d.kind, d.target, d.dst, d.dstMAC = 133, "", "ff02::2", mac("33:33:00:00:00:02") }), ReasonIgnored},
		{"router advertisement", with(ask, func(d *discovery) { d.kind, d.target, d.dst = 134, "", "ff02::1" }), ReasonNdBad},
		{"redirect", with(tell, func(d *discovery) { d.kind = 137 }), ReasonNdBad},
		{"listener report", with(ask, func(d *discovery) { d.kind, d.target, d.dst, d.hops = 143, "", "ff02::16", 1 }), ReasonIgnored},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.enter(t)
			frame := c.d.frame()
			g := r.runFrame(t, FromPod, r.a.Ifindex, bytes.Clone(frame), c.want)
			if c.want != ReasonAnswered {
				return
			}
			if len(g.data) < 86 {
				t.Fatalf("the answer has %d bytes", len(g.data))
			}
			want := discovery{dstMAC: r.a.PodMAC, srcMAC: r.a.HostMAC, src: contract.Gateway6.String(), dst: c.d.src, kind: advertisement,
				hops: 255, flags: 0xe0000000, target: contract.Gateway6.String(), option: targetMAC, mac: r.a.HostMAC}.frame()
			if !bytes.Equal(g.data[:86], want) {
				t.Errorf("the answer is\n%x, expected\n%x", g.data[:86], want)
			}
			// It passes to_pod on its way.
			r.runFrame(t, ToPod, r.a.Ifindex, want, ReasonForwarded)
		})
	}

	host := discovery{dstMAC: r.a.PodMAC, srcMAC: r.a.HostMAC, src: "fe80::5", dst: pod6, kind: solicitation, hops: 255, target: pod6, option: sourceMAC, mac: r.a.HostMAC}
	for name, c := range map[string]struct {
		d    discovery
		want Reason
	}{
		"the host asks for the pod": {host, ReasonForwarded},
		"for another":               {with(host, func(d *discovery) { d.target = r.b.Addr6.String() }), ReasonIgnored},
		"the host's own address":    {with(host, func(d *discovery) { d.src, d.option, d.target = "::", 0, "fe80::5" }), ReasonIgnored},
		"somebody's advertisement":  {with(host, func(d *discovery) { d.kind = advertisement }), ReasonIgnored},
		"half a message":            {with(host, func(d *discovery) { d.option, d.length = 0, 16 }), ReasonTruncated},
	} {
		t.Run("to the pod, "+name, func(t *testing.T) {
			r.enter(t)
			r.runFrame(t, ToPod, r.a.Ifindex, c.d.frame(), c.want)
		})
	}
}

// A chain of extension headers; each is its type and its bytes but for the next header.
type extension struct {
	kind byte
	body []byte
}

func TestIPv6Headers(t *testing.T) {
	r := newPathRig(t)
	f := pathFamilies()["IPv6"]
	udp := natPacket{src: f.pod, dst: f.far, protocol: protoUDP, sport: 5000, dport: 53, data: []byte("q")}
	hop, dest := extension{0, []byte{0, 1, 4, 0, 0, 0, 0}}, extension{60, []byte{0, 1, 4, 0, 0, 0, 0}}
	long := extension{60, append([]byte{3, 1, 28}, make([]byte, 28)...)}
	auth := extension{51, append([]byte{4}, make([]byte, 22)...)}
	used, loose := extension{43, []byte{0, 4, 0, 0, 0, 0, 0}}, extension{43, []byte{0, 4, 1, 0, 0, 0, 0}}
	whole := extension{44, []byte{0, 0, 0, 1, 2, 3, 4}}
	cut := extension{44, []byte{0, 0, 1, 1, 2, 3, 4}}
	far := extension{60, append([]byte{255, 1, 4}, make([]byte, 2044)...)}
	chain := func(p natPacket, list ...extension) []byte {
		ip := p.ip()
		rest := ip[40:]
		next := ip[6]
		for i := len(list) - 1; i >= 0; i-- {
			rest = append(append([]byte{next}, list[i].body...), rest...)
			next = list[i].kind
		}
		out := append(append([]byte{}, ip[:40]...), rest...)
		out[6] = next
		binary.BigEndian.PutUint16(out[4:], uint16(len(rest)))
		return out
	}
	for _, c := range []struct {
		name string
		ip   []byte
		want Reason
	}{
		{"none", chain(udp), ReasonSent},
		{"hop by hop", chain(udp, hop), ReasonSent},
		{"all that is allowed", chain(udp, hop, dest, used, whole, auth, long), ReasonSent},
		{"one more", chain(udp, hop, dest, used, whole, auth, long, dest), ReasonExtensionHeader},
		{"hop by hop, not first", chain(udp, dest, hop), ReasonExtensionHeader},
		{"segments left", chain(udp, loose), ReasonExtensionHeader},
		{"first fragment", chain(udp, cut), ReasonSent},
		{"a fragment's fragment", chain(udp, cut, cut), ReasonExtensionHeader},
		{"farther than anybody looks", chain(udp, far, dest), ReasonExtensionHeader},
		{"cut off in a header", chain(udp, hop)[:44], ReasonTruncated},
		{"tunnel port behind headers", chain(natPacket{src: f.pod, dst: f.far, protocol: protoUDP, sport: 1, dport: 8472}, hop, long), ReasonTunnelPort},
		{"no next header", append(chain(natPacket{src: f.pod, dst: f.far, protocol: 59}), make([]byte, 8)...), ReasonSent},
		{"IPv4's ICMP", chain(natPacket{src: f.pod, dst: f.far, protocol: protoICMP, kind: 8}), ReasonSent},
		{"another's address", chain(natPacket{src: f.other, dst: f.far, protocol: protoUDP}), ReasonSourceAddress},
		{"no address", chain(natPacket{src: netip.MustParseAddr("::"), dst: f.far, protocol: protoUDP}), ReasonSourceAddress},
		{"a link-local address", chain(natPacket{src: netip.MustParseAddr("fe80::1234"), dst: f.far, protocol: protoUDP}), ReasonSourceAddress},
		{"IPv4 as IPv6's source", chain(natPacket{src: mappedAddr(podAddr), dst: f.far, protocol: protoUDP}), ReasonBadHeader},
		{"IPv4 as IPv6's destination", chain(natPacket{src: f.pod, dst: mappedAddr(otherAddr), protocol: protoUDP}), ReasonBadHeader},
		{"loopback", chain(natPacket{src: f.pod, dst: netip.MustParseAddr("::1"), protocol: protoUDP}), ReasonLoopbackDest},
		{"multicast", chain(natPacket{src: f.pod, dst: netip.MustParseAddr("ff02::fb"), protocol: protoUDP, dport: 5353}), ReasonMulticast},
		{"link-local", chain(natPacket{src: f.pod, dst: netip.MustParseAddr("fe80::1"), protocol: protoUDP, dport: 53}), ReasonToStack},
		{"another version", append([]byte{0x50}, chain(udp)[1:]...), ReasonBadHeader},
		{"shorter than it says", chain(udp)[:46], ReasonTruncated},
		{"half a TCP header", chain(natPacket{src: f.pod, dst: f.far, protocol: 6})[:40], ReasonTruncated},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.enter(t)
			frame := ethernetFrame(r.a.HostMAC, r.a.PodMAC, 0x86dd, c.ip)
			in := skbContext{Ifindex: uint32(r.a.Ifindex)}
			var err error
			diff := counted(t, r.d, func() { _, _, _, err = runProgram(r.d.programs[FromPod], frame, in) })
			must(t, err)
			got, _, err := outcome(diff)
			must(t, err)
			if got != c.want {
				t.Errorf("%s, expected %s", got, c.want)
			}
		})
	}
	// Multicast by its frame alone.
	r.runFrame(t, FromPod, r.a.Ifindex, ethernetFrame(mac("33:33:00:00:00:fb"), r.a.PodMAC, 0x86dd, udp.ip()), ReasonMulticast)
	// What isn't for a pod is the host's, and what is malformed is nobody's.
	in := func(p natPacket, want Reason) {
		t.Helper()
		r.runFrame(t, FromNetdev, r.enis[0].Ifindex, ethernetFrame(r.enis[0].MAC, mac(routerMAC), 0x86dd, p.ip()), want)
	}
	in(natPacket{src: netip.MustParseAddr("fe80::ff"), dst: f.pod, protocol: protoUDP}, ReasonForwarded)
	in(natPacket{src: f.far, dst: netip.MustParseAddr("ff02::1"), protocol: protoICMPv6, kind: 134}, ReasonForwarded)
	in(natPacket{src: mappedAddr(farAddr), dst: f.pod, protocol: protoUDP}, ReasonBadHeader)
	r.runFrame(t, ToNetdev, r.enis[1].Ifindex, ethernetFrame(mac(routerMAC), r.enis[1].MAC, 0x86dd, natPacket{src: f.node, dst: f.far, protocol: protoUDP}.ip()), ReasonRedirected)
	r.runFrame(t, ToNetdev, r.enis[1].Ifindex, ethernetFrame(mac(routerMAC), r.enis[1].MAC, 0x86dd, natPacket{src: netip.MustParseAddr("fe80::2"), dst: netip.MustParseAddr("fe80::ff"), protocol: protoUDP}.ip()), ReasonForwarded)
}

func mappedAddr(addr string) netip.Addr {
	return netip.AddrFrom16(netip.MustParseAddr(addr).As16())
}
