package socklb

import (
	"encoding/binary"
	"net/netip"

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
		_        [5]byte
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

	flagHost = 1 << 0
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
