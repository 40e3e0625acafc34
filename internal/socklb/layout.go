package socklb

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

// Mirrors of bpf/include/lb.h; a test compares them with the object's BTF.
type (
	keyValue struct {
		Addr     [16]byte
		Port     [2]byte // network byte order
		Protocol uint8
		Scope    uint8
		_        [4]byte
	}
	frontendValue struct {
		Set      uint32
		Count    uint32
		Flags    uint32
		Affinity uint32
	}
	slotKey struct {
		Set  uint32
		Slot uint32
	}
	backendValue struct {
		Addr [16]byte
		Port [2]byte
		_    [6]byte
	}
	memberKey struct {
		Addr [16]byte
		Set  uint32
		Port [2]byte
		_    [2]byte
	}
	// rangeKey is of a longest prefix match; the set is part of the prefix.
	rangeKey struct {
		Prefixlen uint32
		Set       uint32
		Addr      [16]byte
	}
	configValue struct {
		Host  uint64
		Flags uint32
		Epoch uint32
		Fresh uint64
	}
)

const (
	flagRefuse   = 1 << 0
	flagMembers  = 1 << 1
	flagAffinity = 1 << 2
	flagOutside  = 1 << 3
	// Who comes from outside has backends of its own, those of scopeOutside.
	flagOutsideOwn = 1 << 4
	flagRanges     = 1 << 5
	flagMaglev     = 1 << 6
	// With flagRanges: the node's own address is within them.
	flagRangesHost = 1 << 8

	flagHost       = 1 << 0
	flagNorthSouth = 1 << 1
	flagHostOnly   = 1 << 2
	flagGuard      = 1 << 3

	scopeCluster = 0
	scopeOutside = 1

	rangeFixedBits = 32
	mappedBits     = 96
)

func portBytes(p uint16) (b [2]byte) {
	binary.BigEndian.PutUint16(b[:], p)
	return b
}

var protocols = map[corev1.Protocol]uint8{
	corev1.ProtocolTCP: unix.IPPROTO_TCP, corev1.ProtocolUDP: unix.IPPROTO_UDP, corev1.ProtocolSCTP: unix.IPPROTO_SCTP,
}

func newKey(a loadbalancer.Address) keyValue {
	return keyValue{Addr: a.Addr().As16(), Port: portBytes(a.Port()), Protocol: protocols[a.Protocol]}
}

func (k keyValue) address() loadbalancer.Address {
	a := loadbalancer.Address{AddrPort: addrPort(k.Addr, k.Port)}
	for p, n := range protocols {
		if n == k.Protocol {
			a.Protocol = p
		}
	}
	return a
}

func addrPort(addr [16]byte, port [2]byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(addr).Unmap(), binary.BigEndian.Uint16(port[:]))
}

func newBackend(a netip.AddrPort) backendValue {
	return backendValue{Addr: a.Addr().As16(), Port: portBytes(a.Port())}
}

func newMember(set uint32, a netip.AddrPort) memberKey {
	return memberKey{Addr: a.Addr().As16(), Set: set, Port: portBytes(a.Port())}
}

// newRange is the key of the clients of a prefix.
func newRange(set uint32, p netip.Prefix) rangeKey {
	p = p.Masked()
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += mappedBits
	}
	return rangeKey{Prefixlen: uint32(rangeFixedBits + bits), Set: set, Addr: p.Addr().As16()}
}

// newMaglev is a map with a set's table for choosing by a hash: which slot each hash has. The programs take it
// from its own size on, so tables of several sizes may be in use at once.
func newMaglev(slots []uint16) (*ebpf.Map, error) {
	values := maglevValues(slots)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: uint32(len(values)),
		Flags: unix.BPF_F_INNER_MAP})
	if err != nil {
		return nil, err
	}
	keys := make([]uint32, len(values))
	for i := range keys {
		keys[i] = uint32(i)
	}
	if _, err := m.BatchUpdate(keys, values, nil); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// maglevValues are the elements of weft_lb_maglev: the size, then four slots in each.
func maglevValues(slots []uint16) []uint64 {
	values := make([]uint64, 1+(len(slots)+3)/4)
	values[0] = uint64(len(slots))
	for i, slot := range slots {
		values[1+i/4] |= uint64(slot) << (16 * (i % 4))
	}
	return values
}
