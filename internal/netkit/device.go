// Package netkit makes pods' devices of the kernel's kind netkit, and finds out whether it can.
package netkit

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
)

// Type is what the kernel calls such devices.
const Type = "netkit"

// A Pair is a device of a pod and its peer on the node.
type Pair struct {
	Name    string // on the node
	PodName string
	// Index is that of both sides, each in its namespace: what is sent into the pod meets the programs with the
	// pod's side as its device.
	Index int
	MTU   int
	// L2: with MACs, as Ethernet. Else there are none, and nobody asks who has an address.
	L2              bool
	HostMAC, PodMAC net.HardwareAddr
	// Pod is the pod's network namespace.
	Pod *os.File
}

// Add makes the pair. Nothing passes it before programs are attached.
func Add(h *netlink.Handle, p Pair) error {
	d := &netlink.Netkit{
		LinkAttrs: netlink.LinkAttrs{Name: p.Name, Index: p.Index, MTU: p.MTU, TxQLen: -1},
		Mode:      netlink.NETKIT_MODE_L3,
		Policy:    netlink.NETKIT_POLICY_BLACKHOLE, PeerPolicy: netlink.NETKIT_POLICY_BLACKHOLE,
		// Marks tell to_pod how a packet came; it takes them off. What a pod marks ends at its namespace.
		Scrub: netlink.NETKIT_SCRUB_NONE, PeerScrub: netlink.NETKIT_SCRUB_DEFAULT,
	}
	// The peer is born inside: no device of the pod's name ever shows up on the node.
	peer := netlink.LinkAttrs{Name: p.PodName, Index: p.Index, MTU: p.MTU, Namespace: netlink.NsFd(int(p.Pod.Fd()))}
	if p.L2 {
		d.Mode = netlink.NETKIT_MODE_L2
		d.HardwareAddr, peer.HardwareAddr = p.HostMAC, p.PodMAC
	}
	d.SetPeerAttrs(&peer)
	if err := h.LinkAdd(d); err != nil {
		return fmt.Errorf("make netkit device %s (index %d) with peer %s: %w", p.Name, p.Index, p.PodName, err)
	}
	return nil
}
