package datapath

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"

	"github.com/weft-cni/weft/internal/contract"
)

// A generator makes packets that are nearly right, answers to what got through, and errors about it.
type generator struct {
	*rand.Rand
	r *fuzzRig
}

func pick[T any](g generator, list ...T) T { return list[g.IntN(len(list))] }

func (g generator) one(n int) bool { return g.IntN(n) == 0 }

func parseAddrs(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, a := range list {
		out[i] = netip.MustParseAddr(a)
	}
	return out
}

// others are addresses of no pod.
func others(six bool) []netip.Addr {
	if six {
		return parseAddrs("fd00:1::99", "2001:db8::9", "2001:db8::a", "2001:db8:9::5", "fd12::7", "fe80::1", "ff02::1", "ff02::1:ff00:10", "::1", "::", "fd00:ec2::254", "::ffff:192.168.1.10")
	}
	return addrs(farAddr, worldAddr, "198.51.100.81", "203.0.113.7", nodeAddr, node2Addr, "10.96.0.10", "172.20.1.1", "169.254.169.254", "169.254.1.1", "127.0.0.1", "0.0.0.0", "224.0.0.251", "255.255.255.255")
}

func (g generator) addr(six bool) netip.Addr {
	if g.one(4) {
		if six {
			return pick(g, fuzzPods6...)
		}
		return pick(g, fuzzPods4...)
	}
	return pick(g, others(six)...)
}

func (g generator) port() uint16 {
	return pick[uint16](g, 0, 1, 53, 80, 443, 1023, 1024, 1025, 4789, 8080, 29999, 30000, 40000, 65535)
}

// packet is whole and has right checksums.
func (g generator) packet(src, dst netip.Addr) []byte {
	six := src.Is6()
	p := natPacket{src: src, dst: dst, sport: g.port(), dport: g.port(), id: uint16(g.IntN(4)),
		flags: pick[byte](g, tcpSYN, tcpSYN, tcpSYN|tcpACK, tcpACK, tcpACK, tcpFIN|tcpACK, tcpRST, tcpRST|tcpACK, 0, tcpSYN|tcpFIN),
		data:  make([]byte, g.IntN(40))}
	p.protocol = pick[byte](g, protoTCP, protoTCP, protoTCP, protoUDP, protoUDP, protoUDP, protoICMP, protoICMP, protoSCTP, protoUDPLite, protoGRE, protoDCCP)
	if p.protocol == protoICMP {
		p.kind = pick[byte](g, 8, 8, 0, 13, 3, 11, 5, 40)
		if six {
			p.protocol, p.kind = protoICMPv6, pick[byte](g, 128, 128, 129, 1, 2, 130, 133, 134, 135, 135, 136, 136, 137, 200)
		}
		if p.kind == 3 || p.kind == 11 || p.kind == 1 || p.kind == 2 {
			p.data = natPacket{src: dst, dst: src, protocol: protoUDP, sport: p.dport, dport: p.sport}.ip()
		}
	}
	if p.kind >= 133 && p.kind <= 137 {
		return g.neighbour(p)
	}
	if p.protocol == protoSCTP && g.one(2) {
		p.data = append([]byte{pick[byte](g, 1, 2, 6, 7, 8, 10, 11, 14, 0)}, make([]byte, 11)...)
	}
	p.noSum = (p.protocol == protoUDP || p.protocol == protoUDPLite) && g.one(8)
	if g.one(6) {
		p.fragment = pick[uint16](g, 0x2000, 0x2000, 0x2001, 0x0003, 0x4000)
	}
	if six {
		p.fragment &= 0x3fff
	}
	ip := p.ip()
	if six && g.one(8) {
		ip = extended(ip, pick[byte](g, 0, 60, 43, 51, 135), g.IntN(2))
	}
	return ip
}

// extended puts an extension header between an IPv6 header and what follows.
func extended(ip []byte, kind byte, words int) []byte {
	head := make([]byte, 8+8*words)
	head[0], head[1] = ip[6], byte(words)
	if kind == 51 {
		head[1] = byte(len(head)/4 - 2)
	}
	out := slices.Concat(ip[:40], head, ip[40:])
	out[6] = kind
	binary.BigEndian.PutUint16(out[4:], uint16(len(out)-40))
	return out
}

// neighbour is a message of neighbour discovery, most often a sane one.
func (g generator) neighbour(p natPacket) []byte {
	gateway := contract.Gateway6.As16()
	target := gateway[:]
	if g.one(2) {
		target = g.addr(true).AsSlice()
	}
	p.sport, p.data = 0, append([]byte{}, target...)
	if p.kind == 136 {
		p.sport = 0x6000
	}
	if g.one(2) {
		option := slices.Concat([]byte{pick[byte](g, 1, 2, 2), 1}, pick(g, g.r.endpoints...).PodMAC)
		p.data = append(p.data, option...)
	}
	ip := p.ip()
	ip[7] = 255
	// What ip puts after the identifier is of an echo; here it is zero.
	ip[40+6], ip[40+7] = 0, 0
	t := ip[40:]
	t[2], t[3] = 0, 0
	binary.BigEndian.PutUint16(t[2:], ^p.sum(t))
	return ip
}

// quote makes an ICMP error about a packet, from whoever.
func (g generator) quote(frame []byte, from netip.Addr) []byte {
	h := readHeaders(frame)
	p := natPacket{src: from, dst: h.src, protocol: protoICMP, kind: pick[byte](g, 3, 11, 12)}
	if h.family == 6 {
		p.protocol, p.kind = protoICMPv6, pick[byte](g, 1, 2, 3)
	}
	p.data = slices.Clone(frame[14:min(len(frame), h.end)])
	if g.one(3) {
		p.data = p.data[:min(len(p.data), h.l4-14+8)]
	}
	return p.ip()
}

// answer is what a packet's receiver sends back.
func (g generator) answer(frame []byte) ([]byte, bool) {
	h := readHeaders(frame)
	if h.family == 0 || h.later || h.neighbour || h.error {
		return nil, false
	}
	p := natPacket{src: h.dst, dst: h.src, protocol: h.protocol, sport: h.dport, dport: h.sport, data: make([]byte, g.IntN(20)),
		flags: pick[byte](g, tcpSYN|tcpACK, tcpSYN|tcpACK, tcpACK, tcpACK, tcpFIN|tcpACK, tcpRST|tcpACK, tcpSYN)}
	switch {
	case h.protocol == protoICMP:
		p.kind = 0
	case h.protocol == protoICMPv6:
		p.kind = 129
	case h.protocol == protoSCTP:
		p.data = append([]byte{pick[byte](g, 2, 3, 8, 14, 6)}, make([]byte, 11)...)
	case !slices.Contains([]byte{protoTCP, protoUDP, protoUDPLite, protoDCCP, protoGRE}, h.protocol):
		return nil, false
	}
	return p.ip(), true
}

func frameOf(dst, src net.HardwareAddr, ip []byte) []byte {
	ethertype := uint16(0x0800)
	if ip[0]>>4 == 6 {
		ethertype = 0x86dd
	}
	return ethernetFrame(dst, src, ethertype, ip)
}

// enter puts an IP packet before the program that would meet it first.
func (g generator) enter(ip []byte) shot {
	h := readHeaders(frameOf(make([]byte, 6), make([]byte, 6), ip))
	for i, ep := range g.r.endpoints {
		if h.src == ep.Addr || h.src == ep.Addr6 {
			return shot{hook: FromPod, ep: i, frame: frameOf(ep.HostMAC, ep.PodMAC, ip)}
		}
	}
	return g.arrive(ip)
}

func (g generator) arrive(ip []byte) shot {
	eni := g.IntN(len(g.r.enis))
	return shot{hook: FromNetdev, eni: eni, frame: frameOf(g.r.enis[eni].MAC, mac("0e:00:00:00:00:01"), ip)}
}

// next is another packet.
func (g generator) next() shot {
	var s shot
	if len(g.r.history) > 0 && g.one(2) {
		s = g.follow(pick(g, g.r.history...))
	} else {
		s = g.begin()
	}
	if len(s.frame) == 0 {
		s = g.begin()
	}
	if g.one(4) {
		s.mark = pick[uint32](g, contract.MarkFromPod, contract.MarkDecided, contract.MarkFromNetdev, 0x4000, g.Uint32())
	}
	if g.one(8) {
		g.ttl(s.frame)
	}
	if g.one(4) {
		s.frame = g.spoil(s.frame)
	}
	return s
}

// begin makes a packet of nothing that was before.
func (g generator) begin() shot {
	six := g.one(2)
	i := g.IntN(len(g.r.endpoints))
	ep := g.r.endpoints[i]
	own := ep.Addr
	if six {
		own = ep.Addr6
	}
	switch g.IntN(15) {
	case 10, 11, 12, 13, 14:
		return g.serve()
	case 0, 1, 2, 3:
		return shot{hook: FromPod, ep: i, frame: frameOf(ep.HostMAC, ep.PodMAC, g.packet(own, g.addr(six)))}
	case 4:
		if six {
			return shot{hook: FromPod, ep: i, frame: frameOf(pick(g, ep.HostMAC, mac("33:33:ff:00:00:01")), ep.PodMAC, g.neighbour(natPacket{src: pick(g, own, own, netip.MustParseAddr("fe80::2"), netip.IPv6Unspecified()), dst: netip.MustParseAddr("ff02::1:ff00:1"), protocol: protoICMPv6, kind: pick[byte](g, 135, 135, 136)}))}
		}
		arp := arpPacket(pick[uint16](g, 1, 1, 2), ep.PodMAC, pick(g, ep.Addr.String(), "0.0.0.0", otherAddr), make([]byte, 6), pick(g, "169.254.1.1", otherAddr))
		return shot{hook: FromPod, ep: i, frame: ethernetFrame(pick(g, ep.HostMAC, mac("ff:ff:ff:ff:ff:ff")), ep.PodMAC, 0x0806, arp)}
	case 5:
		return shot{hook: ToPod, ep: i, frame: frameOf(ep.PodMAC, ep.HostMAC, g.packet(g.addr(six), pick(g, own, own, g.addr(six))))}
	case 6, 7:
		return g.arrive(g.packet(g.addr(six), pick(g, own, g.addr(six))))
	}
	eni := g.IntN(len(g.r.enis))
	return shot{hook: ToNetdev, eni: eni, mark: pick[uint32](g, contract.MarkFromPod, 0),
		frame: frameOf(mac("0e:00:00:00:00:01"), g.r.enis[eni].MAC, g.packet(pick(g, own, g.addr(six)), g.addr(six)))}
}

// follow makes what comes after a packet that got through: itself at the next hook, its answer, an error
// about it, or the same again.
func (g generator) follow(p passed) shot {
	h := readHeaders(p.frame)
	if h.family == 0 || h.src.IsUnspecified() {
		return shot{}
	}
	switch g.IntN(10) {
	case 3, 4:
		return g.again(p)
	case 0:
		if p.reason == ReasonToStack && (h.dst == fuzzNode4 || h.dst == fuzzNode6) {
			return g.hostAnswers(p)
		}
		if p.reason == ReasonToStack && p.hook == FromPod {
			eni := g.IntN(len(g.r.enis))
			return shot{hook: ToNetdev, eni: eni, mark: contract.MarkFromPod, frame: p.frame}
		}
		if ep := g.r.endpoint(h.dst); p.reason == ReasonToStack && ep != nil {
			return shot{hook: ToPod, ep: int(ep.Slot) - 3, mark: contract.MarkFromNetdev, frame: slices.Concat(ep.PodMAC, ep.HostMAC, p.frame[12:])}
		}
	case 1:
		if !h.neighbour && !h.error && !h.later && h.dst.Is4() == h.src.Is4() {
			return g.enter(g.quote(p.frame, pick(g, h.dst, g.addr(h.family == 6))))
		}
	case 2:
		// The same flow goes on.
		if ip, ok := g.answer(p.frame); ok {
			back := frameOf(make([]byte, 6), make([]byte, 6), ip)
			if again, ok := g.answer(back); ok && g.r.endpoint(h.src) != nil {
				return g.enter(again)
			}
		}
	}
	ip, ok := g.answer(p.frame)
	if !ok {
		return shot{}
	}
	return g.enter(ip)
}

// ttl gives the packet few hops more to go, with a right checksum.
func (g generator) ttl(frame []byte) {
	h := readHeaders(frame)
	left := pick[byte](g, 0, 1, 2, 255)
	switch h.family {
	case 4:
		frame[22] = left
		frame[24], frame[25] = 0, 0
		binary.BigEndian.PutUint16(frame[24:], ^onesSum(frame[14:14+int(frame[14]&15)*4]))
	case 6:
		frame[21] = left
	}
}

// spoil changes some bytes, or how many there are.
func (g generator) spoil(frame []byte) []byte {
	frame = slices.Clone(frame)
	interesting := []byte{0, 1, 4, 5, 6, 8, 15, 17, 0x20, 0x45, 0x46, 0x4f, 0x60, 127, 169, 192, 224, 255}
	for range g.IntN(4) {
		i := g.IntN(len(frame))
		if g.one(2) {
			i = g.IntN(min(len(frame), 60))
		}
		frame[i] = pick(g, pick(g, interesting...), byte(g.Uint32()))
	}
	switch g.IntN(6) {
	case 0:
		frame = frame[:g.IntN(len(frame)+1)]
	case 1:
		frame = append(frame, make([]byte, g.IntN(100))...)
	}
	return frame
}
