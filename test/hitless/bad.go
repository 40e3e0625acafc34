package main

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// sender is from whom frames come, and over whom they leave.
type sender struct {
	addr         netip.Addr
	mac, gateway net.HardwareAddr
	host, other  netip.Addr // the node's own address, and a pod's on it
}

// kind is one way of being a bad packet, or many small good ones.
type kind struct {
	name string
	// reason is what the programs call it if they drop it.
	reason string
	frame  func(s sender, r *rand.Rand) []byte
}

const (
	etherARP  = 0x0806
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
)

func ether(s sender, kind uint16, payload []byte) []byte {
	b := slices.Concat(s.gateway[:6], s.mac[:6], []byte{byte(kind >> 8), byte(kind)}, payload)
	for len(b) < 60 {
		b = append(b, 0)
	}
	return b
}

// ip4 is a datagram with a right checksum.
func ip4(from, to netip.Addr, protocol byte, payload []byte) []byte {
	b := make([]byte, 20, 20+len(payload))
	b[0], b[8], b[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
	f, t := from.As4(), to.As4()
	copy(b[12:], f[:])
	copy(b[16:], t[:])
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return append(b, payload...)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// again writes the header's checksum after a change.
func again(b []byte) []byte {
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], checksum(b[:20]))
	return b
}

func udp(r *rand.Rand, to uint16) []byte {
	b := make([]byte, 8+r.IntN(64))
	binary.BigEndian.PutUint16(b, uint16(1024+r.IntN(60000)))
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	return b
}

func tcp(r *rand.Rand, flags, offset byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, uint16(1024+r.IntN(60000)))
	binary.BigEndian.PutUint16(b[2:], uint16(1+r.IntN(65535)))
	binary.BigEndian.PutUint32(b[4:], r.Uint32())
	b[12], b[13] = offset<<4, flags
	return b
}

func arp(operation byte, senderMAC net.HardwareAddr, from, target netip.Addr) []byte {
	f, t := from.As4(), target.As4()
	return slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, operation}, senderMAC[:6], f[:], make([]byte, 6), t[:])
}

// somewhere is an address that nobody has.
func somewhere(r *rand.Rand) netip.Addr { return netip.AddrFrom4(target(r.IntN(1 << 16))) }

func address(s string) netip.Addr { return netip.MustParseAddr(s) }

// ip4 is a frame from the sender itself.
func (s sender) ip4(protocol byte, to netip.Addr, payload []byte) []byte {
	return ether(s, etherIPv4, ip4(s.addr, to, protocol, payload))
}

// kinds are what a pod that means harm, or is broken, may send.
func kinds() []kind {
	stranger := net.HardwareAddr{0x02, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb}
	return []kind{
		{"new flows by SYN", "", func(s sender, r *rand.Rand) []byte { return s.ip4(unix.IPPROTO_TCP, somewhere(r), tcp(r, 2, 5)) }},
		{"new flows by UDP", "", func(s sender, r *rand.Rand) []byte { return s.ip4(unix.IPPROTO_UDP, somewhere(r), udp(r, 9)) }},
		{"answers to nothing", "", func(s sender, r *rand.Rand) []byte { return s.ip4(unix.IPPROTO_TCP, somewhere(r), tcp(r, 0x10, 5)) }},
		{"resets", "", func(s sender, r *rand.Rand) []byte { return s.ip4(unix.IPPROTO_TCP, somewhere(r), tcp(r, 4, 5)) }},
		{"all flags at once", "", func(s sender, r *rand.Rand) []byte {
			return s.ip4(unix.IPPROTO_TCP, somewhere(r), tcp(r, 0xff, 5))
		}},
		{"SYNs to the node", "", func(s sender, r *rand.Rand) []byte { return s.ip4(unix.IPPROTO_TCP, s.host, tcp(r, 2, 5)) }},
		{"SYNs to a pod of the node", "", func(s sender, r *rand.Rand) []byte { return s.ip4(unix.IPPROTO_TCP, s.other, tcp(r, 2, 5)) }},
		{"protocols that nobody speaks", "", func(s sender, r *rand.Rand) []byte {
			return s.ip4(byte(140+r.IntN(100)), somewhere(r), udp(r, 9))
		}},
		{"its time to live over", "", func(s sender, r *rand.Rand) []byte {
			b := ip4(s.addr, somewhere(r), unix.IPPROTO_UDP, udp(r, 9))
			b[8] = byte(r.IntN(2))
			return ether(s, etherIPv4, again(b))
		}},
		{"errors about nothing", "", func(s sender, r *rand.Rand) []byte {
			inner := ip4(somewhere(r), s.addr, unix.IPPROTO_UDP, udp(r, 9)[:8])
			return s.ip4(unix.IPPROTO_ICMP, somewhere(r), slices.Concat([]byte{3, 4, 0, 0, 0, 0, 0, 68}, inner))
		}},
		{"first fragments", "", func(s sender, r *rand.Rand) []byte {
			b := ip4(s.addr, somewhere(r), unix.IPPROTO_UDP, udp(r, 9))
			binary.BigEndian.PutUint16(b[4:], uint16(r.Uint32()))
			b[6] = 0x20
			return ether(s, etherIPv4, again(b))
		}},
		{"fragments without a first", "fragment-unknown", func(s sender, r *rand.Rand) []byte {
			b := ip4(s.addr, address(outside), unix.IPPROTO_UDP, udp(r, 9))
			binary.BigEndian.PutUint16(b[4:], uint16(r.Uint32()))
			b[7] = byte(1 + r.IntN(200))
			return ether(s, etherIPv4, again(b))
		}},
		{"headers longer than the packet", "truncated", func(s sender, r *rand.Rand) []byte {
			b := ip4(s.addr, somewhere(r), unix.IPPROTO_UDP, udp(r, 9))
			binary.BigEndian.PutUint16(b[2:], 9000)
			return ether(s, etherIPv4, again(b))
		}},
		{"headers that are too short", "bad-header", func(s sender, r *rand.Rand) []byte {
			b := ip4(s.addr, somewhere(r), unix.IPPROTO_UDP, udp(r, 9))
			b[0] = 0x40 | byte(r.IntN(5))
			return ether(s, etherIPv4, b)
		}},
		{"TCP headers that are too short", "", func(s sender, r *rand.Rand) []byte {
			return s.ip4(unix.IPPROTO_TCP, somewhere(r), tcp(r, 2, byte(r.IntN(5))))
		}},
		{"others' addresses", "source-address", func(s sender, r *rand.Rand) []byte {
			return ether(s, etherIPv4, ip4(somewhere(r), s.other, unix.IPPROTO_UDP, udp(r, 9)))
		}},
		{"others' MAC addresses", "source-mac", func(s sender, r *rand.Rand) []byte {
			s.mac = slices.Concat(stranger[:5], []byte{byte(r.IntN(256))})
			return s.ip4(unix.IPPROTO_UDP, somewhere(r), udp(r, 9))
		}},
		{"to others' MAC addresses", "dest-mac", func(s sender, r *rand.Rand) []byte {
			s.gateway = slices.Concat(stranger[:5], []byte{byte(r.IntN(256))})
			return s.ip4(unix.IPPROTO_UDP, somewhere(r), udp(r, 9))
		}},
		{"ARP for all the world", "arp-target", func(s sender, r *rand.Rand) []byte { return ether(s, etherARP, arp(1, s.mac, s.addr, somewhere(r))) }},
		{"ARP with another's address", "arp-bad", func(s sender, r *rand.Rand) []byte {
			return ether(s, etherARP, arp(byte(1+r.IntN(2)), s.mac, s.other, s.addr))
		}},
		{"multicast", "multicast", func(s sender, r *rand.Rand) []byte {
			return s.ip4(unix.IPPROTO_UDP, netip.AddrFrom4([4]byte{224 + byte(r.IntN(16)), 0, 0, byte(r.IntN(256))}), udp(r, 9))
		}},
		{"to loopback addresses", "loopback-dest", func(s sender, r *rand.Rand) []byte {
			return s.ip4(unix.IPPROTO_UDP, netip.AddrFrom4([4]byte{127, 0, 0, byte(r.IntN(256))}), udp(r, 9))
		}},
		{"to tunnels' ports", "tunnel-port", func(s sender, r *rand.Rand) []byte {
			return s.ip4(unix.IPPROTO_UDP, s.host, udp(r, []uint16{6081, 8472, 4789}[r.IntN(3)]))
		}},
		{"IPv6", "", func(s sender, r *rand.Rand) []byte {
			b := make([]byte, 48)
			b[0], b[5], b[6], b[7] = 0x60, 8, unix.IPPROTO_UDP, 64
			for i := range 32 {
				b[8+i] = byte(r.IntN(256))
			}
			return ether(s, etherIPv6, b)
		}},
		{"protocols beside IP", "ethertype", func(s sender, r *rand.Rand) []byte {
			return ether(s, uint16(0x8863+2*r.IntN(2)), udp(r, 9))
		}},
		{"tagged frames", "vlan", func(s sender, r *rand.Rand) []byte {
			return ether(s, 0x8100, slices.Concat([]byte{0, byte(1 + r.IntN(200)), 8, 0}, ip4(s.addr, somewhere(r), unix.IPPROTO_UDP, udp(r, 9))))
		}},
		{"noise", "", func(s sender, r *rand.Rand) []byte {
			b := make([]byte, 40+r.IntN(200))
			for i := range b {
				b[i] = byte(r.IntN(256))
			}
			b[0] = 0x45
			return ether(s, etherIPv4, b)
		}},
	}
}

// frames are so many of each kind, mixed.
func frames(s sender, each int) (out [][]byte) {
	r := rand.New(rand.NewPCG(20, 26))
	for range each {
		for _, k := range kinds() {
			out = append(out, k.frame(s, r))
		}
	}
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}
