package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/ipam"
	"github.com/weft-cni/weft/internal/masquerade"
	"github.com/weft-cni/weft/internal/nodenet"
)

// view is what the sources say about this node, in the agent's own terms.
type view struct {
	desired nodenet.Desired
	// assigned are the addresses that endpoints may have; owners has every address of every ENI of ours
	// with the ENI's device index.
	assigned   []endpoint.Assigned
	owners     map[netip.Addr]int32
	generation int64
	capacity   int32
	// masquerade has the programs translate what leaves the VPC; with nftables it is desired's.
	masquerade bool
}

// errNotYet is wrapped by reasons to wait: the sources are there, but not complete.
var errNotYet = errors.New("not yet")

// compute reads the sources. It is pure; what it can't believe is an error and the last view stands.
func compute(cfg config.Config, exceptions masquerade.Exceptions, instance string, nn *v1alpha1.NodeNetwork, cn *v1alpha1.ClusterNetwork) (view, error) {
	var v view
	switch {
	case nn == nil:
		return v, fmt.Errorf("%w: there is no NodeNetwork for this node; the operator makes it", errNotYet)
	case nn.Spec.InstanceID == "" || len(nn.Spec.Interfaces) == 0:
		return v, fmt.Errorf("%w: the NodeNetwork names no interfaces; the operator fills it", errNotYet)
	case instance != "" && nn.Spec.InstanceID != instance:
		return v, fmt.Errorf("%w: the NodeNetwork is of instance %s, this is %s; the operator replaces it", errNotYet, nn.Spec.InstanceID, instance)
	case cfg.EnableIPv4Masquerade && (cn == nil || len(cn.Status.VPCCIDRs) == 0):
		return v, fmt.Errorf("%w: the ClusterNetwork names no CIDRs of the VPC; the operator fills it", errNotYet)
	}
	v.owners = map[netip.Addr]int32{}
	v.generation = nn.Generation
	v.capacity = capacity(cfg, nn.Spec)
	v.masquerade = cfg.EnableIPv4Masquerade && cfg.BPF.Masquerade
	v.desired = nodenet.Desired{MTU: cfg.MTU, FQ: cfg.BandwidthManager.Enabled, Masquerade: cfg.EnableIPv4Masquerade && !cfg.BPF.Masquerade, MasqueradeInterfaces: cfg.MasqueradeInterfaces}
	var primary netip.Addr
	for _, i := range nn.Spec.Interfaces {
		if i.DeviceIndex == 0 {
			a, err := ipv4(i.PrimaryAddress)
			if err != nil {
				return v, fmt.Errorf("interface %s: primaryAddress: %w", i.ID, err)
			}
			primary = a
		}
	}
	if !primary.IsValid() {
		return v, fmt.Errorf("%w: the NodeNetwork names no interface with device index 0", errNotYet)
	}
	for _, i := range nn.Spec.Interfaces {
		if i.DeviceIndex != 0 && !i.Managed {
			continue // somebody else's
		}
		if err := v.add(cfg, i, primary, cn); err != nil {
			return v, fmt.Errorf("interface %s: %w", i.ID, err)
		}
	}
	direct := slices.Clone([]string(nil))
	if cn != nil {
		direct = append(append(direct, cn.Status.VPCCIDRs...), cn.Status.Peers...)
	}
	if cfg.IPv4NativeRoutingCIDR != "" {
		direct = append(direct, cfg.IPv4NativeRoutingCIDR)
	}
	for _, s := range direct {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return v, fmt.Errorf("destination that is not masqueraded: %w", err)
		}
		v.desired.Direct = append(v.desired.Direct, p.Masked())
	}
	v.desired.Direct = append(v.desired.Direct, masquerade.Native(cfg.IPMasqAgent.Enabled, exceptions)...)
	return v, nil
}

// nodeAddress is the node's own.
func (v view) nodeAddress() netip.Addr {
	for _, i := range v.desired.Interfaces {
		if i.DeviceIndex == 0 {
			return i.Primary
		}
	}
	return netip.Addr{}
}

func (v *view) add(cfg config.Config, i v1alpha1.Interface, primary netip.Addr, cn *v1alpha1.ClusterNetwork) error {
	own, err := ipv4(i.PrimaryAddress)
	if err != nil {
		return fmt.Errorf("primaryAddress: %w", err)
	}
	subnet, err := netip.ParsePrefix(i.SubnetCIDR)
	if err != nil || !subnet.Addr().Is4() {
		return fmt.Errorf("subnetCIDR is %q, expected an IPv4 prefix", i.SubnetCIDR)
	}
	mac, err := net.ParseMAC(i.MAC)
	if err != nil {
		return fmt.Errorf("mac is %q, expected the ENI's: %w", i.MAC, err)
	}
	v.desired.Interfaces = append(v.desired.Interfaces, nodenet.Interface{
		ID: i.ID, MAC: strings.ToLower(mac.String()), DeviceIndex: i.DeviceIndex, Primary: own,
		Router: subnet.Masked().Addr().Next(), MasqueradeTo: masqueradeTo(i.SubnetID, own, primary, cn),
	})
	v.owners[own] = i.DeviceIndex
	for _, a := range i.Addresses {
		addr, err := ipv4(a.Address)
		if err != nil {
			return fmt.Errorf("addresses: %w", err)
		}
		if other, ok := v.owners[addr]; ok {
			return fmt.Errorf("address %s is also on the interface with device index %d", addr, other)
		}
		v.owners[addr] = i.DeviceIndex
		if i.Managed && int(i.DeviceIndex) >= cfg.ENI.FirstInterfaceIndex {
			v.assigned = append(v.assigned, endpoint.Assigned{Address: addr, Generation: a.Generation, ENI: i.ID, DeviceIndex: i.DeviceIndex, Release: a.Release})
		}
	}
	return nil
}

// masqueradeTo chooses the source of what leaves the VPC. Behind an internet gateway only the primary
// ENI has a public address; a NAT or transit gateway takes any, so the pod's own ENI is used.
func masqueradeTo(subnetID string, own, primary netip.Addr, cn *v1alpha1.ClusterNetwork) netip.Addr {
	if cn != nil {
		for _, s := range cn.Status.Subnets {
			if s.ID == subnetID && (s.DefaultRoute == v1alpha1.RouteNATGateway || s.DefaultRoute == v1alpha1.RouteTransitGateway) {
				return own
			}
		}
	}
	return primary
}

// capacity is how many endpoints the node can hold in the end: every usable interface full, less its own
// address and what another CNI has on it.
func capacity(cfg config.Config, s v1alpha1.NodeNetworkSpec) int32 {
	usable := s.MaxInterfaces - int32(cfg.ENI.FirstInterfaceIndex)
	for _, i := range s.Interfaces {
		if !i.Managed && i.DeviceIndex >= int32(cfg.ENI.FirstInterfaceIndex) {
			usable--
		}
	}
	n := max(usable, 0) * max(s.MaxAddressesPerInterface-1, 0)
	for _, i := range s.Interfaces {
		if i.Managed {
			n = max(n-int32(len(i.Foreign)), 0)
		}
	}
	if m := int32(cfg.IPAM.MaxAllocate); m > 0 {
		n = min(n, m)
	}
	return n
}

func ipv4(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Unmap().Is4() {
		return netip.Addr{}, fmt.Errorf("found %q, expected an IPv4 address", s)
	}
	return a.Unmap(), nil
}

// whyNoAddress says what keeps the node from having a free address, for the pod's event.
func whyNoAddress(nn *v1alpha1.NodeNetwork, capacity int32) string {
	if nn == nil {
		return "the node has no NodeNetwork"
	}
	for _, c := range nn.Status.Conditions {
		if c.Type == v1alpha1.ConditionAddressesAssigned && c.Status == "False" {
			if c.Reason == string(ipam.InstanceLimit) {
				return c.Message
			}
			return fmt.Sprintf("EC2 gave no more addresses: %s: %s", c.Reason, c.Message)
		}
	}
	held := 0
	for _, i := range nn.Spec.Interfaces {
		if i.Managed {
			held += len(i.Addresses)
		}
	}
	if capacity > 0 && int32(held) >= capacity {
		return fmt.Sprintf("an instance of type %s holds at most %d addresses for pods with these settings", nn.Spec.InstanceType, capacity)
	}
	return fmt.Sprintf("the operator has not assigned more yet; see kubectl describe nodenetwork %s", nn.Name)
}
