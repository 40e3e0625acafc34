package datapath

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// headers are what a packet is, read without the programs' help and without their rules.
type headers struct {
	family         int // 4, 6; 0: neither, or too short
	arp            bool
	src, dst       netip.Addr
	broadcast      bool
	protocol       byte
	ttl            byte
	header         int // where the IP header begins
	l4             int
	end            int  // of the IP packet
	later          bool // a fragment without ports
	sport, dport   uint16
	query, error   bool // ICMP
	neighbour      bool
	residual       uint16 // by how much the transport's checksum is wrong; 0: right, or none
	headerResidual uint16
	noSum          bool
}

// residualOf is 0 if the sum is right.
func residualOf(sum uint16) uint16 {
	if sum == 0xffff {
		return 0
	}
	return sum
}

func readHeaders(frame []byte) headers {
	h := headers{}
	if len(frame) < 14 {
		return h
	}
	h.header = 14
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0806:
		h.arp = len(frame) >= 42
		return h
	case 0x0800:
		h.readIPv4(frame, 14)
	case 0x86dd:
		h.readIPv6(frame, 14)
	}
	if h.family != 0 {
		h.readTransport(frame)
	}
	return h
}

func (h *headers) readIPv4(frame []byte, at int) {
	if len(frame) < at+20 {
		return
	}
	ip := frame[at:]
	words, length := int(ip[0]&15), int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0]>>4 != 4 || words < 5 || len(ip) < words*4 {
		return
	}
	h.family, h.header = 4, at
	h.src, h.dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	h.broadcast = h.dst == netip.AddrFrom4([4]byte{255, 255, 255, 255})
	h.ttl, h.protocol = ip[8], ip[9]
	h.l4, h.end = at+words*4, min(at+length, len(frame))
	h.later = binary.BigEndian.Uint16(ip[6:])&0x1fff != 0
	h.headerResidual = residualOf(onesSum(ip[:words*4]))
}

func (h *headers) readIPv6(frame []byte, at int) {
	if len(frame) < at+40 || frame[at]>>4 != 6 {
		return
	}
	ip := frame[at:]
	h.family, h.header = 6, at
	h.src, h.dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
	h.ttl, h.protocol = ip[7], ip[6]
	h.l4, h.end = at+40, min(at+40+int(binary.BigEndian.Uint16(ip[4:])), len(frame))
	for range 16 {
		next := h.protocol
		if !slices.Contains([]byte{0, 43, 44, 51, 60, 135}, next) || h.l4+8 > h.end || h.later {
			return
		}
		b := frame[h.l4:]
		switch next {
		case 44:
			h.later = binary.BigEndian.Uint16(b[2:])>>3 != 0
			h.l4 += 8
		case 51:
			h.l4 += (int(b[1]) + 2) * 4
		default:
			h.l4 += (int(b[1]) + 1) * 8
		}
		h.protocol = b[0]
	}
}

func (h *headers) readTransport(frame []byte) {
	if h.later || h.l4+8 > h.end {
		return
	}
	t := frame[h.l4:h.end]
	switch h.protocol {
	case protoTCP, protoUDP, protoSCTP:
		h.sport, h.dport = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
	case protoICMP:
		if h.family == 4 {
			h.query = slices.Contains([]byte{0, 8, 13, 14, 15, 16, 17, 18}, t[0])
			h.error = slices.Contains([]byte{3, 4, 5, 11, 12}, t[0])
		}
	case protoICMPv6:
		if h.family == 6 {
			h.query = t[0] == 128 || t[0] == 129
			h.error = t[0] < 128
			h.neighbour = t[0] >= 130 && t[0] <= 137 || t[0] == 143
		}
	}
	if h.query {
		h.sport = binary.BigEndian.Uint16(t[4:])
		h.dport = h.sport
	}
	at := sumAt(h.protocol)
	if at < 0 || at+2 > len(t) {
		return
	}
	h.noSum = (h.protocol == protoUDP || h.protocol == protoUDPLite) && t[at] == 0 && t[at+1] == 0
	if h.noSum {
		return
	}
	sum := onesSum(t)
	if h.protocol != protoICMP {
		sum = onesSum(pseudoHeader(h.src, h.dst, h.protocol, len(t)), t)
	}
	h.residual = residualOf(sum)
}

// inner is the packet that an ICMP error is about.
func (h headers) inner(frame []byte) headers {
	var q headers
	if !h.error {
		return q
	}
	if h.family == 4 {
		q.readIPv4(frame, h.l4+8)
	} else {
		q.readIPv6(frame, h.l4+8)
	}
	if q.family != 0 {
		q.end = h.end // what is quoted is shorter than it says, or longer
		q.readTransport(frame)
	}
	return q
}

// bare is the frame without what a router or a translator may change.
func (h headers) bare(frame []byte) []byte {
	b := slices.Clone(frame)
	clear(b[:12])
	blank := func(q headers) {
		if q.family == 0 {
			return
		}
		wipe := func(at, n int) {
			if at >= 0 && at+n <= len(b) {
				clear(b[at : at+n])
			}
		}
		if q.family == 4 {
			wipe(q.header+8, 1)
			wipe(q.header+10, 2)
			wipe(q.header+12, 8)
		} else {
			wipe(q.header+7, 1)
			wipe(q.header+8, 32)
		}
		if q.later {
			return
		}
		switch {
		case q.protocol == protoTCP || q.protocol == protoUDP:
			wipe(q.l4, 4)
		case q.query:
			wipe(q.l4+4, 2)
		}
		if at := sumAt(q.protocol); at >= 0 {
			wipe(q.l4+at, 2)
		}
	}
	blank(h)
	blank(h.inner(frame))
	return b
}

// wrongChange says what a program did to a packet that no router and no translator does.
func wrongChange(a, b headers, before, after []byte, reason Reason) string {
	hop := byte(0)
	if reason == ReasonDelivered || reason == ReasonSent {
		hop = 1
	}
	switch {
	case len(before) != len(after):
		return "has another length"
	case a.family == 0 || b.family == 0:
		if !slices.Equal(before, after) {
			return "changed what isn't IP"
		}
		return ""
	case hop > a.ttl || b.ttl != a.ttl-hop:
		return "has a wrong time to live"
	case hop == 1 && b.ttl == 0:
		return "sent on with no time to live"
	case a.headerResidual != b.headerResidual:
		return "has another header checksum than its changes make"
	case a.noSum != b.noSum:
		return "has or lacks a checksum that it lacked or had"
	case a.residual != b.residual:
		return "has another transport checksum than its changes make"
	case !slices.Equal(a.bare(before), b.bare(after)):
		return "changed where nobody may"
	}
	p, q := a.inner(before), b.inner(after)
	if p.family == 4 && p.headerResidual != q.headerResidual {
		return "has another header checksum inside"
	}
	return ""
}
