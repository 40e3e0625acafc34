package datapath

import (
	"encoding/binary"
	"net/netip"
)

// The types below mirror bpf/include/lb.h and service.h; a test compares sizes and offsets by BTF.

// Flags of a frontend, and of the tables.
const (
	lbRefuse     = 1 << 0
	lbMembers    = 1 << 1
	lbAffinity   = 1 << 2
	lbOutside    = 1 << 3
	lbOutsideOwn = 1 << 4
	lbRanges     = 1 << 5
	lbMaglev     = 1 << 6
	lbTCPKeep    = 1 << 7

	lbHost       = 1 << 0
	lbNorthSouth = 1 << 1

	lbScopeCluster = 0
	lbScopeOutside = 1

	lbRangeFixedBits = 32
)

type lbKey struct {
	Addr     wireAddr
	Port     [2]byte // network byte order
	Protocol uint8
	Scope    uint8
	Reserved [4]byte
}

type lbFrontend struct {
	Set      uint32
	Count    uint32
	Flags    uint32
	Affinity uint32 // seconds
}

type lbSlot struct {
	Set  uint32
	Slot uint32
}

type lbBackend struct {
	Addr     wireAddr
	Port     [2]byte
	Reserved [6]byte
}

type lbMember struct {
	Addr     wireAddr
	Set      uint32
	Port     [2]byte
	Reserved [2]byte
}

type lbRange struct {
	Prefixlen uint32
	Set       uint32
	Addr      wireAddr
}

type lbConfig struct {
	Host  uint64 // cookie
	Flags uint32
	Epoch uint32
	Fresh uint64 // CLOCK_MONOTONIC, ns
}

type lbKeeper struct {
	Addr     wireAddr
	Set      uint32
	Reserved uint32
}

type lbKept struct {
	Backend lbBackend
	Used    uint64 // CLOCK_MONOTONIC, ns
}

// ctNew mirrors struct ct_new of conntrack.h.
type ctNew struct {
	Flags          uint16
	FromSlot       uint16
	ToSlot         uint16
	NATENI         uint16
	FromGeneration uint32
	ToGeneration   uint32
	Class          uint32
	Generation     uint32
	NATAddr        wireAddr
	NATPort        [2]byte
	Reserved       [6]byte
}

type serviceScratch struct {
	Key          lbKey
	Frontend     lbFrontend
	Backend      lbBackend
	Slot         lbSlot
	Member       lbMember
	Range        lbRange
	Keeper       lbKeeper
	Kept         lbKept
	FrontendAddr wireAddr
	FrontendPort [2]byte
	Reserved     [6]byte
	Begun        ctNew
	Tuple        ctKey
	Side         uint32
	Reserved1    uint32
}

func (b lbBackend) addrPort() netip.AddrPort {
	return netip.AddrPortFrom(fromWire(b.Addr), binary.BigEndian.Uint16(b.Port[:]))
}
