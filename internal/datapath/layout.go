package datapath

import (
	"net"
	"net/netip"
)

// layoutVersion is the number in the name of contract.PinDir.
const layoutVersion = 1

// The types below mirror bpf/include/layout.h; a test compares sizes and offsets by BTF.

// wireAddr is an address as map keys hold it: IPv4 is mapped, network byte order.
type wireAddr [16]byte

const (
	endpointValid        = 1 << 0
	endpointQueued       = 1 << 1
	endpointLimited      = 1 << 2
	addressEndpoint      = 1 << 0
	addressHost          = 1 << 1
	eniValid             = 1 << 0
	eniPaced             = 1 << 1
	familyIPv4           = 1 << 0
	familyIPv6           = 1 << 1
	configMasquerade     = 1 << 0
	configMetadataClosed = 1 << 1
	configTrace          = 1 << 2
	ipcacheNative        = 1 << 0
	ipcacheStack         = 1 << 1
	ipcacheFixedBits     = 32
)

// Indexes of configValue.Lifetime.
const (
	lifetimeTCP = iota
	lifetimeSYN
	lifetimeFIN
	lifetimeAny
	lifetimeStack
)

type endpointValue struct {
	Addr       wireAddr
	Addr6      wireAddr
	Flags      uint32
	Generation uint32
	ENI        uint32
	Ifindex    uint32
	PodMAC     [6]byte
	HostMAC    [6]byte
	Class      uint32
}

type addressValue struct {
	ENI        uint32
	Flags      uint32
	Slot       uint32
	Generation uint32
}

type eniValue struct {
	Flags         uint32
	Ifindex       uint32
	MTU           uint32
	MasqueradeENI uint32
	NextHop       wireAddr
	NextHop6      wireAddr
	Masquerade    wireAddr
	Masquerade6   wireAddr
	MAC           [6]byte
	Reserved1     [10]byte
}

type ipcacheKey struct {
	Prefixlen uint32
	Cluster   uint16
	Reserved  uint16
	Addr      wireAddr
}

type ipcacheValue struct {
	Class    uint32
	Flags    uint32
	Epoch    uint32
	Reserved uint32
}

type fragmentKey struct {
	Src      wireAddr
	Dst      wireAddr
	ID       uint32
	Protocol uint32
}

type fragmentValue struct {
	Sport [2]byte
	Dport [2]byte
}

type counterValue struct {
	Packets uint64
	Bytes   uint64
}

type configValue struct {
	Layout      uint32
	Families    uint32
	Gateway     wireAddr
	Gateway6    wireAddr
	TunnelPorts [8][2]byte
	Flags       uint32
	// MasqueradePortMin and MasqueradePortMax bound the source ports of translated flows.
	MasqueradePortMin uint16
	MasqueradePortMax uint16
	Lifetime          [8]uint32
	JiffiesPerSecond  uint32
	EventsPerSecond   uint32
	NodeAddr          wireAddr
	NodeAddr6         wireAddr
	EventTypes        uint32 // bits 1 << EventType
	EventCapture      uint32
	Epoch             uint32 // of the agent that may write
	Reserved          [5]uint32
}

// Numbers of bpf/include/reason.h that shape weft_counters.
const (
	hookMax      = 8
	directionMax = 2
	reasonMax    = 128
)

func toWire(a netip.Addr) wireAddr {
	if !a.IsValid() {
		return wireAddr{}
	}
	return wireAddr(a.As16())
}

func fromWire(w wireAddr) netip.Addr {
	if w == (wireAddr{}) {
		return netip.Addr{} // none; nobody has ::
	}
	return netip.AddrFrom16(w).Unmap()
}

func toMAC(m net.HardwareAddr) (out [6]byte) {
	copy(out[:], m)
	return out
}

// tunnelPorts are those of Geneve, VXLAN as Linux and Cilium use it, and VXLAN's own.
func tunnelPorts() []uint16 { return []uint16{6081, 8472, 4789} }

func newEndpointValue(e Endpoint) endpointValue {
	flags := uint32(endpointValid)
	if e.Queued {
		flags |= endpointQueued
	}
	if e.EgressRate > 0 {
		flags |= endpointLimited
	}
	return endpointValue{
		Addr:       toWire(e.Addr),
		Addr6:      toWire(e.Addr6),
		Flags:      flags,
		Generation: e.Generation,
		ENI:        e.ENI,
		Ifindex:    uint32(e.Ifindex),
		PodMAC:     toMAC(e.PodMAC),
		HostMAC:    toMAC(e.HostMAC),
	}
}

func newENIValue(e ENI, mtu int) eniValue {
	flags := uint32(eniValid)
	if e.Paced {
		flags |= eniPaced
	}
	return eniValue{
		Flags:         flags,
		Ifindex:       uint32(e.Ifindex),
		MTU:           uint32(mtu),
		MasqueradeENI: e.MasqueradeENI,
		NextHop:       toWire(e.NextHop),
		NextHop6:      toWire(e.NextHop6),
		Masquerade:    toWire(e.Masquerade),
		Masquerade6:   toWire(e.Masquerade6),
		MAC:           toMAC(e.MAC),
	}
}

// counterOf undoes COUNTER_INDEX of bpf/include/maps.h.
func counterOf(index uint32) (Hook, Direction, Reason) {
	return Hook(index / reasonMax / directionMax), Direction(index / reasonMax % directionMax), Reason(index % reasonMax)
}

type bucketValue struct {
	Lock      uint32
	Reserved  uint32
	Rate      uint64
	Tolerance uint64
	Next      uint64
}
