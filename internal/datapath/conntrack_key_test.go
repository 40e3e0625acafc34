package datapath

import (
	"encoding/binary"
	"net/netip"
)

// above orders the two ends of a flow as ct_key_make does.
func above(from, to netip.AddrPort) bool {
	a, b := toWire(from.Addr()), toWire(to.Addr())
	for i := 0; i < 16; i += 8 {
		x, y := binary.NativeEndian.Uint64(a[i:]), binary.NativeEndian.Uint64(b[i:])
		if x != y {
			return x > y
		}
	}
	p, q := toPort(from.Port()), toPort(to.Port())
	return binary.NativeEndian.Uint16(p[:]) > binary.NativeEndian.Uint16(q[:])
}

// newCTKey returns the key of a flow and the side of its first end.
func newCTKey(from, to netip.AddrPort, protocol uint8) (ctKey, int) {
	side := 0
	if above(from, to) {
		from, to, side = to, from, 1
	}
	return ctKey{
		Addr:     [2]wireAddr{toWire(from.Addr()), toWire(to.Addr())},
		Port:     [2][2]byte{toPort(from.Port()), toPort(to.Port())},
		Protocol: protocol,
	}, side
}

func toPort(p uint16) (out [2]byte) {
	binary.BigEndian.PutUint16(out[:], p)
	return out
}
