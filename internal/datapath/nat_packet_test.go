package datapath

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// A packet of either family as the tests of translation make them and read them back, with every checksum.
type natPacket struct {
	src, dst     netip.Addr
	protocol     byte
	sport, dport uint16 // an ICMP query's id is in both
	kind         byte   // type of ICMP
	flags        byte   // of TCP
	id           uint16 // of fragments
	fragment     uint16 // as in the header: offset in units of 8, 0x2000 = more
	noSum        bool   // UDP or UDP-Lite without a checksum
	data         []byte // behind the transport's header; of an ICMP error: the packet it is about
}

const (
	protoICMP, protoTCP, protoUDP, protoDCCP, protoGRE, protoICMPv6, protoSCTP, protoUDPLite = 1, 6, 17, 33, 47, 58, 132, 136
)

// onesSum is the one's complement sum of big-endian words.
func onesSum(parts ...[]byte) uint16 {
	var s uint32
	for _, b := range parts {
		for i := 0; i < len(b); i += 2 {
			if i+1 < len(b) {
				s += uint32(b[i])<<8 | uint32(b[i+1])
			} else {
				s += uint32(b[i]) << 8
			}
		}
	}
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

func pseudoHeader(src, dst netip.Addr, protocol byte, length int) []byte {
	b := append(src.AsSlice(), dst.AsSlice()...)
	if src.Is4() {
		return binary.BigEndian.AppendUint16(append(b, 0, protocol), uint16(length))
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(length)), 0, 0, 0, protocol)
}

// sumAt is where a protocol's checksum is; -1: nowhere that depends on addresses or ports.
func sumAt(protocol byte) int {
	switch protocol {
	case protoTCP:
		return 16
	case protoUDP, protoUDPLite, protoDCCP:
		return 6
	case protoICMP, protoICMPv6:
		return 2
	}
	return -1
}

func (p natPacket) transport() []byte {
	var b []byte
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, p.sport), p.dport)
	switch p.protocol {
	case protoTCP:
		b = append(ports, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, p.flags, 0x20, 0, 0, 0, 0, 0)
	case protoUDP, protoUDPLite:
		b = append(binary.BigEndian.AppendUint16(ports, uint16(8+len(p.data))), 0, 0)
	case protoDCCP:
		b = append(ports, 4, 0, 0, 0, 0, 0, 0, 0)
	case protoSCTP:
		b = append(ports, 9, 9, 9, 9, 0xde, 0xad, 0xbe, 0xef)
	case protoICMP, protoICMPv6:
		b = []byte{p.kind, 0, 0, 0, 0, 0, 0, 1}
		binary.BigEndian.PutUint16(b[4:], p.sport)
	}
	b = append(b, p.data...)
	if at := sumAt(p.protocol); at >= 0 && !p.noSum {
		binary.BigEndian.PutUint16(b[at:], ^p.sum(b))
	}
	return b
}

func (p natPacket) sum(transport []byte) uint16 {
	if p.protocol == protoICMP {
		return onesSum(transport)
	}
	return onesSum(pseudoHeader(p.src, p.dst, p.protocol, len(transport)), transport)
}

// ip is the packet without its frame.
func (p natPacket) ip() []byte {
	t := p.transport()
	if p.fragment&0x1fff != 0 {
		t = p.data // a later fragment has no header of the transport
	}
	if p.src.Is4() {
		b := make([]byte, 20, 20+len(t))
		b[0], b[8], b[9] = 0x45, 64, p.protocol
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(t)))
		binary.BigEndian.PutUint16(b[4:], p.id)
		binary.BigEndian.PutUint16(b[6:], p.fragment)
		copy(b[12:], p.src.AsSlice())
		copy(b[16:], p.dst.AsSlice())
		binary.BigEndian.PutUint16(b[10:], ^onesSum(b))
		return append(b, t...)
	}
	next := p.protocol
	if p.fragment != 0 {
		head := []byte{next, 0, 0, 0, 0, 0, 0, 0}
		binary.BigEndian.PutUint16(head[2:], p.fragment&0x1fff<<3|p.fragment>>13&1)
		binary.BigEndian.PutUint32(head[4:], uint32(p.id))
		t, next = append(head, t...), 44
	}
	b := make([]byte, 40, 40+len(t))
	b[0], b[6], b[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(t)))
	copy(b[8:], p.src.AsSlice())
	copy(b[24:], p.dst.AsSlice())
	return append(b, t...)
}

func (p natPacket) frame() []byte {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	if p.src.Is4() {
		return ethernetFrame(mac, mac, 0x0800, p.ip())
	}
	return ethernetFrame(mac, mac, 0x86dd, p.ip())
}

// readPacket undoes ip and finds every checksum right, or says which isn't.
func readPacket(b []byte, quoted bool) (natPacket, error) {
	var p natPacket
	var t []byte
	if b[0]>>4 == 4 {
		p.src, p.dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		p.protocol, p.fragment, p.id = b[9], binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint16(b[4:])
		if s := onesSum(b[:20]); s != 0xffff {
			return p, fmt.Errorf("the IP header's sum is %#x", s)
		}
		t = b[20:]
	} else {
		p.src, p.dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		p.protocol, t = b[6], b[40:]
		if p.protocol == 44 {
			field := binary.BigEndian.Uint16(t[2:])
			p.protocol, p.fragment, p.id, t = t[0], field>>3|field&1<<13, binary.BigEndian.Uint16(t[6:]), t[8:]
		}
	}
	if p.fragment&0x1fff != 0 {
		p.data = t
		return p, nil
	}
	header := map[byte]int{protoTCP: 20, protoUDP: 8, protoUDPLite: 8, protoDCCP: 12, protoSCTP: 12, protoICMP: 8, protoICMPv6: 8}[p.protocol]
	switch p.protocol {
	case protoTCP, protoUDP, protoUDPLite, protoDCCP, protoSCTP:
		p.sport, p.dport = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
	case protoICMP, protoICMPv6:
		p.kind, p.sport = t[0], binary.BigEndian.Uint16(t[4:])
		p.dport = p.sport
	}
	if p.protocol == protoTCP && len(t) >= 20 {
		p.flags = t[13]
	}
	if len(t) >= header {
		p.data = t[header:]
	}
	if p.protocol == protoSCTP && binary.BigEndian.Uint32(t[8:]) != 0xdeadbeef {
		return p, fmt.Errorf("SCTP's checksum was touched: %x", t[8:12])
	}
	at := sumAt(p.protocol)
	if at < 0 || p.fragment != 0 || at+2 > len(t) {
		return p, nil
	}
	if have := binary.BigEndian.Uint16(t[at:]); (p.protocol == protoUDP || p.protocol == protoUDPLite) && have == 0 {
		p.noSum = true
	} else if s := p.sum(t); s != 0xffff && !quoted {
		return p, fmt.Errorf("protocol %d: the sum is %#x", p.protocol, s)
	}
	return p, nil
}
