package datapath

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/weft-cni/weft/internal/contract"
)

// MaxENIs is the highest handle of an ENI.
const MaxENIs = 64

// An ENI is a network interface of this node that weft sends pods' packets by.
type ENI struct {
	Handle  uint32 // device index + 1
	Ifindex int
	MAC     net.HardwareAddr
	NextHop netip.Addr // the subnet's router
	// NextHop6 is the router for IPv6; zero where the subnet has none.
	NextHop6 netip.Addr
	// Masquerade and Masquerade6 are the sources of what the ENI's endpoints send to the world; zero: not
	// translated by the programs. MasqueradeENI is the handle of the ENI that owns them.
	Masquerade    netip.Addr
	Masquerade6   netip.Addr
	MasqueradeENI uint32
	// Paced says that fq is the queue of this ENI, and of the one by which its endpoints' translated packets
	// leave: what endpoints with a limit send gets a departure time instead of being dropped.
	Paced bool
}

// An Endpoint is a pod's device and what it may send.
type Endpoint struct {
	Slot       uint32 // Ifindex - contract.IfindexBase
	Ifindex    int    // host side
	Addr       netip.Addr
	Addr6      netip.Addr // zero: none
	PodMAC     net.HardwareAddr
	HostMAC    net.HardwareAddr
	Generation uint32 // of the address
	ENI        uint32 // handle of the ENI that owns Addr
	Queued     bool   // limited bandwidth: what it gets passes its device's queue
	EgressRate uint64 // bytes a second that it may send; 0: not limited
}

// Validate reports why the datapath can't take e.
func (e Endpoint) Validate() error {
	switch {
	case e.Slot >= contract.MaxEndpoints:
		return fmt.Errorf("endpoint %s: slot is %d, expected less than %d", e.Addr, e.Slot, contract.MaxEndpoints)
	case e.Ifindex != contract.IfindexBase+int(e.Slot):
		return fmt.Errorf("endpoint %s: interface index is %d, expected %d for slot %d",
			e.Addr, e.Ifindex, contract.IfindexBase+int(e.Slot), e.Slot)
	case !e.Addr.Unmap().Is4():
		return fmt.Errorf("endpoint in slot %d: address is %q, expected an IPv4 address", e.Slot, e.Addr)
	case e.Addr6.IsValid() && !isIPv6(e.Addr6):
		return fmt.Errorf("endpoint %s: second address is %q, expected an IPv6 address or none", e.Addr, e.Addr6)
	case len(e.PodMAC) != 6 || len(e.HostMAC) != 6:
		return fmt.Errorf("endpoint %s: MACs are %q and %q, expected 6 bytes each", e.Addr, e.PodMAC, e.HostMAC)
	case e.ENI < 1 || e.ENI > MaxENIs:
		return fmt.Errorf("endpoint %s: ENI handle is %d, expected 1 to %d", e.Addr, e.ENI, MaxENIs)
	}
	return nil
}

// Validate reports why the datapath can't take e.
func (e ENI) Validate() error {
	switch {
	case e.Handle < 1 || e.Handle > MaxENIs:
		return fmt.Errorf("ENI %s: handle is %d, expected 1 to %d", e.MAC, e.Handle, MaxENIs)
	case e.Ifindex < 1:
		return fmt.Errorf("ENI %s: interface index is %d, expected that of a device", e.MAC, e.Ifindex)
	case !e.NextHop.Unmap().Is4():
		return fmt.Errorf("ENI %s: next hop is %q, expected the IPv4 address of the subnet's router", e.MAC, e.NextHop)
	case e.NextHop6.IsValid() && !isIPv6(e.NextHop6):
		return fmt.Errorf("ENI %s: next hop for IPv6 is %q, expected an IPv6 address or none", e.MAC, e.NextHop6)
	case e.Masquerade.IsValid() && !e.Masquerade.Unmap().Is4():
		return fmt.Errorf("ENI %s: masquerading source is %q, expected an IPv4 address or none", e.MAC, e.Masquerade)
	case e.Masquerade6.IsValid() && !isIPv6(e.Masquerade6):
		return fmt.Errorf("ENI %s: masquerading source for IPv6 is %q, expected an IPv6 address or none", e.MAC, e.Masquerade6)
	case (e.Masquerade.IsValid() || e.Masquerade6.IsValid()) && (e.MasqueradeENI < 1 || e.MasqueradeENI > MaxENIs):
		return fmt.Errorf("ENI %s: handle of the masquerading source's ENI is %d, expected 1 to %d", e.MAC, e.MasqueradeENI, MaxENIs)
	case len(e.MAC) != 6:
		return fmt.Errorf("ENI with handle %d: MAC is %q, expected 6 bytes", e.Handle, e.MAC)
	}
	return nil
}

// ValidateAddress reports why the datapath can't take addr as an address of the ENI with handle eni.
func ValidateAddress(addr netip.Addr, eni uint32) error {
	if !addr.IsValid() || addr.Zone() != "" {
		return fmt.Errorf("address is %q, expected an IPv4 or IPv6 address", addr)
	}
	if eni < 1 || eni > MaxENIs {
		return fmt.Errorf("address %s: ENI handle is %d, expected 1 to %d", addr, eni, MaxENIs)
	}
	return nil
}

func isIPv6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() && a.Zone() == "" }

// A Hook is a place where a program runs.
type Hook uint8

// The numbers are those of enum weft_hook.
const (
	FromPod Hook = iota
	ToPod
	FromNetdev
	ToNetdev
)

// Hooks lists the hooks of this version.
func Hooks() []Hook { return []Hook{FromPod, ToPod, FromNetdev, ToNetdev} }

// String is the name of the hook's program.
func (h Hook) String() string {
	switch h {
	case FromPod:
		return "from_pod"
	case ToPod:
		return "to_pod"
	case FromNetdev:
		return "from_netdev"
	case ToNetdev:
		return "to_netdev"
	}
	return fmt.Sprintf("hook-%d", uint8(h))
}

// ingress tells which side of the device the hook is on.
func (h Hook) ingress() bool { return h == FromPod || h == FromNetdev }

// Direction is as the endpoint or the host sees it.
type Direction uint8

// The numbers are those of enum weft_direction.
const (
	Ingress Direction = iota
	Egress
)

func (d Direction) String() string {
	if d == Ingress {
		return "ingress"
	}
	return "egress"
}

// A Reason says what became of a packet.
type Reason uint8

const firstDrop Reason = 32

// String is the name used in metrics and JSON.
func (r Reason) String() string {
	if name, _, _ := describe(r); name != "" {
		return name
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}

// Text is the reason in words.
func (r Reason) Text() string {
	if _, text, _ := describe(r); text != "" {
		return text
	}
	return fmt.Sprintf("reason %d, which this version doesn't know", uint8(r))
}

// Advice is one line of what to do; empty where there is nothing to do.
func (r Reason) Advice() string {
	_, _, advice := describe(r)
	return advice
}

// Drop tells whether a packet with this reason went no further.
func (r Reason) Drop() bool { return r >= firstDrop }

// Note tells whether the reason stands beside another one for the same packet.
func (r Reason) Note() bool { return r >= 16 && r < firstDrop }

// A Counter is what one hook counted for one reason, since the maps were made.
type Counter struct {
	Hook      Hook
	Direction Direction
	Reason    Reason
	Packets   uint64
	Bytes     uint64
}
