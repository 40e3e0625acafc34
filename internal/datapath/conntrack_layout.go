package datapath

import (
	"encoding/binary"
	"net/netip"
)

// The types below mirror bpf/include/layout.h; a test compares sizes and offsets by BTF.

// Flags of an entry.
const (
	ctStack       = 1 << 0
	ctAlias       = 1 << 1
	ctNAT         = 1 << 2
	ctAtNetdev    = 1 << 3
	ctMidstream   = 1 << 4
	ctNoPromotion = 1 << 5
	ctEstablished = 1 << 6
	ctAtToPod     = 1 << 7
	ctBeginning   = 1 << 8
	ctService     = 1 << 9
	ctMiddle      = 1 << 10
	ctTranslated  = ctNAT | ctService | ctMiddle
)

const ctNoSlot = 0xffff

// Protocols whose flows have states.
const (
	protocolTCP  = 6
	protocolSCTP = 132
)

// TCP flags.
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
)

type ctKey struct {
	Addr     [2]wireAddr
	Port     [2][2]byte // network byte order
	Protocol uint8
	Reserved uint8
	Zone     uint16
}

type ctSide struct {
	Packets    uint64
	Bytes      uint64
	Generation uint32
	Slot       uint16
	TCP        uint8
	Reserved   uint8
}

type ctVerdict struct {
	EndpointEpoch uint16
	ClassEpoch    uint16
	Rule          uint32
}

type ctEntry struct {
	Expires    uint32
	Generation uint32
	Flags      uint16
	Origin     uint8
	Asked      uint8
	Class      uint32
	Side       [2]ctSide
	Verdict    [2]ctVerdict
	NATAddr    wireAddr
	NATPort    [2]byte // network byte order
	NATENI     uint16
	Created    uint32
	Told       uint32
	NATSeen    uint32
}

type ctRing struct {
	Head      uint64
	_         [7]uint64
	Tail      uint64
	Size      uint32
	Base      uint32
	Settled   uint64
	Reserved1 [5]uint64
}

type ctSlot struct {
	Key        ctKey
	Generation uint32
	Due        uint32
}

type ctTimer struct {
	Timer    [16]byte
	Ticks    uint64
	Looked   uint64
	Last     uint32
	Reserved uint32
}

type ctStats struct {
	Created   uint64
	Failed    uint64
	Promoted  uint64
	Full      uint64
	Closed    uint64
	Expired   uint64
	Replaced  uint64
	Inserted  uint64
	Removed   uint64
	Unwatched uint64
}

// Rings of bpf/include/layout.h.
const (
	ringNew = iota
	ringEst
	ringClosed
	ringMax
)

// Indexes of weft_ct_beginning.
const (
	beginningCount = iota
	beginningRemoved
	beginningMost
)

func (k ctKey) end(side int) netip.AddrPort {
	return netip.AddrPortFrom(fromWire(k.Addr[side]), binary.BigEndian.Uint16(k.Port[side][:]))
}
