// Package paths makes the ways that traffic is measured on: pods of two nodes by weft, by the ptp and bridge
// plugins with host-local, and two namespaces on one bare veth pair; with the rules that kube-proxy would
// write on the nodes, or none.
//
// The two nodes are joined by one veth pair, which stands for ENIs and VPC: each side is the other's router.
// So what is measured is what a node adds.
package paths

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/test/bench/traffic"
	"github.com/weft-cni/weft/test/rig"
)

// Network is one way of joining pods.
type Network struct {
	// Cross leads from a pod to one on the other node, Local to one on the same node, Service and ServiceLocal to
	// these by a service's address.
	Cross, Local, Service, ServiceLocal traffic.Path

	nodes, spaces []rig.Space
	specs         []rig.Spec // of weft's agents
	group         *rig.ControlGroup
	undo          []func() error
}

// Flush forgets the connections that the nodes track, so that no run meets those of the one before.
func (n *Network) Flush() error {
	for _, s := range n.nodes {
		err := s.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
		if err != nil {
			return fmt.Errorf("flush connections: %w", err)
		}
	}
	return nil
}

// Close removes everything.
func (n *Network) Close() error {
	var errs []error
	for _, f := range slices.Backward(n.undo) {
		errs = append(errs, f())
	}
	for _, s := range n.spaces {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func (n *Network) space() (rig.Space, error) {
	s, err := rig.NewSpace()
	if err != nil {
		return s, err
	}
	n.spaces = append(n.spaces, s)
	// As on a node without IPv6, so that nothing is sent that nobody asked for.
	// And nothing stays in TIME_WAIT, or connections would run out of ports.
	return s, s.Set("ipv6/conf/all/disable_ipv6=1", "ipv6/conf/default/disable_ipv6=1", "ipv4/tcp_max_tw_buckets=0")
}

var (
	subnet  = "10.20.0.0/16"
	router  = netip.MustParseAddr("10.20.0.1")
	nodeIPs = []netip.Addr{netip.MustParseAddr("10.20.0.10"), netip.MustParseAddr("10.20.0.20")}
)

func nodeMAC(i int) net.HardwareAddr { return net.HardwareAddr{0x0a, 0, 0, 0, 0, byte(i + 1)} }

// wireNodes makes two nodes that route.
func (n *Network) wireNodes() error {
	var ends []rig.End
	for i := range 2 {
		s, err := n.space()
		if err != nil {
			return err
		}
		n.nodes = append(n.nodes, s)
		if err := s.Set("ipv4/ip_forward=1", "ipv4/conf/all/rp_filter=0", "ipv4/conf/default/rp_filter=0"); err != nil {
			return err
		}
		ends = append(ends, rig.End{Space: s, Name: "eth0", MAC: nodeMAC(i), Address: nodeIPs[i], Next: router})
	}
	return rig.Wire(ends[0], ends[1])
}

// give is how a pod on a node gets its network.
type give func(node int, pod rig.Space, id string) (netip.Addr, error)

// Plan says what a network is made of.
type Plan struct {
	// Kind is Weft, PTP, Bridge or Veth.
	Kind Kind
	// Program is another build of the benchmark, whose agents these are.
	Program string
	// Change alters the agents' configuration.
	Change func(*config.Config)
	// Rules are on the nodes beside.
	Rules Rules
	// Services is how many weft connects the pods' sockets to; the one in the middle is served by the pod on the
	// other node.
	Services int
	// World makes the second node a host outside the VPC, to which the pod's address is nothing.
	World bool
}

// Kind is by whom pods get their network.
type Kind string

// Weft has an agent on each node, with its defaults: programs, routes, rules and masquerade are the agent's
// own work. PTP and Bridge are the reference plugins, with host-local and without translation. Veth is two
// namespaces on one veth pair, the least that two namespaces can do; it has a Cross only.
const (
	Weft   Kind = "weft"
	PTP    Kind = "ptp"
	Bridge Kind = "bridge"
	Veth   Kind = "veth"
)

// IsPlugin tells whether it takes one of the reference plugins.
func (k Kind) IsPlugin() bool { return k == PTP || k == Bridge }

// Tools are the programs that networks are made with, and a directory for what they write.
type Tools struct{ Plugin, Plugins, Work string }

// Build makes a network.
func Build(ctx context.Context, t Tools, p Plan) (_ *Network, err error) {
	n := &Network{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("network of %s: %w", p.Kind, err), n.Close())
		}
	}()
	if err := n.wireNodes(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(t.Work, string(p.Kind)+"-")
	if err != nil {
		return nil, err
	}
	var g give
	switch p.Kind {
	case Weft:
		if g, err = n.weft(ctx, t, p, dir); err != nil {
			return nil, err
		}
	case PTP, Bridge:
		g = n.plugin(ctx, t, p, dir)
	case Veth:
		n.Cross = traffic.Path{Client: n.nodes[0], Server: n.nodes[1], Address: nodeIPs[1]}
		return n, nil
	default:
		return nil, fmt.Errorf("kind is %q, expected weft, ptp, bridge or veth", p.Kind)
	}
	if p.World {
		if err := n.world(g); err != nil {
			return nil, err
		}
	} else if err := n.pods(g); err != nil {
		return nil, err
	}
	for _, node := range n.nodes {
		if err := node.Do(func() error { return p.Rules.load(ctx, n.served()) }); err != nil {
			return nil, err
		}
	}
	switch {
	case p.Services > 0:
		if err := n.serve(ctx, p.Services); err != nil {
			return nil, err
		}
		fallthrough
	case p.Rules.Services > 0:
		services := max(p.Services, p.Rules.Services)
		n.Service, n.ServiceLocal = n.Cross, n.Local
		n.Service.Group, n.ServiceLocal.Group = n.group, n.group
		n.Service.Service, n.ServiceLocal.Service = serviceAddress(services/2), serviceAddress(services)
	}
	return n, nil
}

// outside is an address that no VPC has.
var outside = netip.MustParseAddr("198.51.100.80")

// world makes the client, and the second node a host outside.
func (n *Network) world(g give) error {
	client, err := n.space()
	if err != nil {
		return err
	}
	if _, err := g(0, client, "bench-0"); err != nil {
		return err
	}
	n.Cross = traffic.Path{Client: client, Server: n.nodes[1], Address: outside}
	return n.nodes[1].Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: outside.AsSlice(), Mask: net.CIDRMask(32, 32)}})
	})
}

// pods makes the client and the two servers.
func (n *Network) pods(g give) error {
	var spaces []rig.Space
	var addrs []netip.Addr
	for i, node := range []int{0, 0, 1} {
		s, err := n.space()
		if err != nil {
			return err
		}
		a, err := g(node, s, fmt.Sprintf("bench-%d", i))
		if err != nil {
			return err
		}
		spaces, addrs = append(spaces, s), append(addrs, a)
	}
	n.Local = traffic.Path{Client: spaces[0], Server: spaces[1], Address: addrs[1]}
	n.Cross = traffic.Path{Client: spaces[0], Server: spaces[2], Address: addrs[2]}
	return nil
}
