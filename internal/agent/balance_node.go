package agent

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/internal/loadbalancer"
	"github.com/weft-cni/weft/internal/nodehealth"
)

// here is the node as the choice of backends sees it.
func (a *agent) here() loadbalancer.Node {
	nn, _, _ := a.source.get()
	n := loadbalancer.Node{Name: a.Node, Settings: serviceSettings(a.Config), Addresses: a.balance.addresses()}
	if nn != nil {
		n.Zone = nn.Spec.AvailabilityZone
	}
	return n
}

// sameNode tells whether services resolved for one are as they are for the other. Settings don't change.
func sameNode(a, b loadbalancer.Node) bool {
	return a.Name == b.Name && a.Zone == b.Zone && slices.Equal(a.Addresses, b.Addresses)
}

// ownAddresses are those of the node's devices at which it may be asked from elsewhere, sorted.
func ownAddresses() ([]netip.Addr, error) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list the node's addresses: %w", err)
	}
	var out []netip.Addr
	for _, l := range list {
		a, ok := netip.AddrFromSlice(l.IP)
		if a = a.Unmap(); ok && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}

// lookAtAddresses tells the programs which addresses are the node's own. Only they know what is served at all of
// them, and only where weft does kube-proxy's work.
func (a *agent) lookAtAddresses() error {
	if !a.Config.KubeProxyReplacement {
		return nil
	}
	own, err := ownAddresses()
	if err != nil {
		return err
	}
	if err := a.balance.lb.SetOwn(own); err != nil {
		return err
	}
	a.balance.mu.Lock()
	defer a.balance.mu.Unlock()
	a.balance.own = own
	return nil
}

func (b *balance) addresses() []netip.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.own
}

// taken are the addresses that no service may have from outside: those of the node's ENIs, which are its own or its
// pods', and the other nodes'.
func (a *agent) taken(peers []nodehealth.Peer) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, p := range peers {
		out[p.Addr] = "node " + p.Node
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for addr := range a.view.owners {
		out[addr] = "a pod's or an ENI's of node " + a.Node
	}
	if own := a.view.nodeAddress(); own.IsValid() {
		out[own] = "node " + a.Node
	}
	return out
}
