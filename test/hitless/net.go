package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/test/rig"
)

// The VPC is one namespace: router of the subnet, and the world. It sends each address to the ENI that has it
// and drops what comes by another ENI than its source's.
const (
	subnet   = "10.20.0.0/16"
	router   = "10.20.0.1"
	outside  = "198.51.100.80"
	nodePort = 30080
)

// network is two nodes, the first with two ENIs.
type network struct {
	vpc   rig.Space
	nodes []*node
	// idle are nodes with agents and pods, and without traffic.
	idle []*node
	// second is a pod on the first node's secondary ENI.
	second *pod
	wrong  atomic.Uint64 // what servers were sent that was meant for others
	world  *server
	undo   []func() error
	// each ENI has so many addresses for pods, at most 100.
	each int
}

// node is a machine with an agent.
type node struct {
	spec           rig.Spec
	space          rig.Space
	agent          *rig.Agent
	client, server *pod
	mounts         int // of BPF file systems, over each other
}

// pod has a server, too.
type pod struct {
	node   *node
	name   string
	space  rig.Space
	addr   netip.Addr
	server *server
}

func (p *pod) at() netip.AddrPort { return netip.AddrPortFrom(p.addr, port) }

func mac(node, eni int) net.HardwareAddr {
	return net.HardwareAddr{0x0a, 0, 0, 0, byte(node + 1), byte(eni + 1)}
}

func (n *network) space(settings ...string) (rig.Space, error) {
	s, err := rig.NewSpace()
	if err != nil {
		return s, err
	}
	n.undo = append(n.undo, s.Close)
	return s, s.Set(append([]string{"ipv6/conf/all/disable_ipv6=1", "ipv6/conf/default/disable_ipv6=1", "ipv4/tcp_tw_reuse=1",
		"ipv4/ip_local_port_range=32768 60999"}, settings...)...)
}

// build makes everything and starts the agents.
func build(ctx context.Context, dir string, idle, each int, like rig.Spec) (n *network, err error) {
	n = &network{each: each}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	if n.vpc, err = n.space("ipv4/ip_forward=1", "ipv4/conf/all/rp_filter=0", "ipv4/conf/default/rp_filter=1"); err != nil {
		return nil, err
	}
	if err := n.vpc.Do(func() error { return addresses("lo", router, outside) }); err != nil {
		return nil, err
	}
	for i := range 2 + idle {
		enis := 1 + (i+1)%2 // so that one of the idle nodes is like the first, and the other like the second
		spec := like
		spec.Name, spec.Dir, spec.AddWait = fmt.Sprintf("node-%d", i), filepath.Join(dir, fmt.Sprint(i)), 5*time.Second
		if i > 0 {
			spec.Cgroup = "" // clients of services are on the first node
		}
		one, err := n.node(ctx, i, enis, spec)
		if err != nil {
			return nil, err
		}
		if i < 2 {
			n.nodes = append(n.nodes, one)
		} else {
			n.idle = append(n.idle, one)
		}
	}
	if n.world, err = serve(n.vpc, "world", netip.MustParseAddr(outside), &n.wrong); err != nil {
		return nil, err
	}
	n.undo = append(n.undo, n.world.close)
	for _, one := range slices.Concat(n.nodes, n.idle) {
		if one.client, err = one.pod(ctx, "client", &n.wrong); err != nil {
			return nil, err
		}
		if one.server, err = one.pod(ctx, "server", &n.wrong); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// machine is a node without an agent.
func (n *network) machine(i, enis int, spec rig.Spec) (*node, error) {
	out := &node{spec: spec}
	var err error
	if out.space, err = n.space("ipv4/ip_forward=1", "ipv4/conf/all/rp_filter=0", "ipv4/conf/default/rp_filter=0"); err != nil {
		return nil, err
	}
	for e := range enis {
		a := rig.Assignment{MAC: mac(i, e).String(), Address: fmt.Sprintf("10.20.%d.%d", i+1, 10+e), SubnetCIDR: subnet}
		for k := range n.each {
			a.Pods = append(a.Pods, fmt.Sprintf("10.20.%d.%d", i+1, 20+e*100+k))
		}
		if err := n.attach(out, i, e, a); err != nil {
			return nil, fmt.Errorf("ENI %d of node %d: %w", e, i, err)
		}
		if e == 0 {
			out.spec.Assignment = a
		} else {
			out.spec.More = append(out.spec.More, a)
		}
	}
	return out, nil
}

func (n *network) node(ctx context.Context, i, enis int, spec rig.Spec) (*node, error) {
	out, err := n.machine(i, enis, spec)
	if err != nil {
		return nil, err
	}
	n.undo = append(n.undo, out.unmount)
	if err := out.mount(); err != nil {
		return nil, err
	}
	if out.agent, err = rig.Start(ctx, out.space, out.spec); err != nil {
		return nil, err
	}
	n.undo = append(n.undo, func() error {
		if out.agent == nil {
			return nil
		}
		return out.agent.Kill()
	})
	return out, nil
}

// mount gives the node a BPF file system, over those that it has: what agents pin outlives them.
func (n *node) mount() error {
	if err := errors.Join(os.MkdirAll(n.spec.BPFFS(), 0o755), unix.Mount("bpf", n.spec.BPFFS(), "bpf", 0, "")); err != nil {
		return fmt.Errorf("BPF file system: %w", err)
	}
	n.mounts++
	return nil
}

func (n *node) unmount() (err error) {
	for ; n.mounts > 0; n.mounts-- {
		err = errors.Join(err, unix.Unmount(n.spec.BPFFS(), unix.MNT_DETACH))
	}
	return err
}

// attach wires an ENI to the VPC, which knows its addresses.
func (n *network) attach(one *node, i, e int, a rig.Assignment) error {
	far := fmt.Sprintf("n%de%d", i, e)
	name := []string{"eth0", "ens6"}[e]
	err := n.vpc.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = far, 9001
		v := &netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerHardwareAddr: mac(i, e), PeerNamespace: netlink.NsFd(int(one.space.Fd())), PeerMTU: 9001}
		if err := netlink.LinkAdd(v); err != nil {
			return err
		}
		l, err := netlink.LinkByName(far)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
		for _, s := range append([]string{a.Address}, a.Pods...) {
			addr := netip.MustParseAddr(s)
			r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: host(addr), Scope: netlink.SCOPE_LINK}
			neigh := &netlink.Neigh{LinkIndex: l.Attrs().Index, IP: addr.AsSlice(), HardwareAddr: mac(i, e), State: netlink.NUD_PERMANENT, Family: netlink.FAMILY_V4}
			if err := errors.Join(netlink.RouteReplace(r), netlink.NeighSet(neigh)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || e > 0 {
		return err // further ENIs appear bare and down
	}
	return one.space.Do(func() error {
		if err := addresses(name, a.Address); err != nil {
			return err
		}
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: netip.MustParseAddr(router).AsSlice(), Flags: int(netlink.FLAG_ONLINK),
			Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}})
	})
}

// addresses brings a device up with addresses.
func addresses(device string, list ...string) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("device %s: %w", device, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("device %s: %w", device, err)
	}
	for _, a := range list {
		if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: host(netip.MustParseAddr(a))}); err != nil {
			return fmt.Errorf("device %s: address %s: %w", device, a, err)
		}
	}
	return nil
}

func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}

// pod makes a pod with a server. Like a runtime it asks again while the agent can't serve.
func (n *node) pod(ctx context.Context, name string, wrong *atomic.Uint64) (p *pod, err error) {
	if p, err = n.bare(ctx, name); err != nil {
		return nil, err
	}
	if p.server, err = serve(p.space, p.name, p.addr, wrong); err != nil {
		return nil, errors.Join(err, p.space.Close())
	}
	return p, nil
}

func (p *pod) remove(ctx context.Context) error {
	err := rig.Await(ctx, 3*time.Minute, "end of pod "+p.name, func() error { return p.node.spec.Del(ctx, p.space, p.name) })
	return errors.Join(err, p.server.close(), p.space.Close())
}

// bare makes a pod without a server.
func (n *node) bare(ctx context.Context, name string) (p *pod, err error) {
	p = &pod{node: n, name: name + "." + n.spec.Name}
	if p.space, err = rig.NewSpace(); err != nil {
		return nil, err
	}
	if err := p.space.Set("ipv6/conf/all/disable_ipv6=1", "ipv6/conf/default/disable_ipv6=1", "ipv4/tcp_tw_reuse=1", "ipv4/ip_local_port_range=32768 60999"); err != nil {
		return nil, errors.Join(err, p.space.Close())
	}
	err = rig.Await(ctx, 3*time.Minute, "pod "+p.name, func() (err error) {
		p.addr, err = n.spec.Add(ctx, p.space, p.name)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, p.space.Close())
	}
	return p, nil
}

// give gives back what a pod without a server has.
func (p *pod) give(ctx context.Context) error {
	err := rig.Await(ctx, 3*time.Minute, "end of pod "+p.name, func() error { return p.node.spec.Del(ctx, p.space, p.name) })
	return errors.Join(err, p.space.Close())
}

// second makes pods on the node until one has an address of the second ENI, and gives the others back.
func (n *node) second(ctx context.Context, wrong *atomic.Uint64) (found *pod, err error) {
	var others []*pod
	for i := 0; found == nil; i++ {
		p, err := n.pod(ctx, fmt.Sprintf("second-%d", i), wrong)
		if err != nil {
			return nil, err
		}
		if slices.Contains(n.spec.More[0].Pods, p.addr.String()) {
			found = p
		} else {
			others = append(others, p)
		}
	}
	for _, p := range others {
		err = errors.Join(err, p.remove(ctx))
	}
	return found, err
}

// translation is what kube-proxy writes for a node port whose traffic stays on the node.
const translation = `table ip hitless {
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr %s tcp dport %d dnat to %s
	}
}
`

// expose makes the pod reachable by a port of its node.
func (p *pod) expose() (netip.AddrPort, error) {
	at := netip.AddrPortFrom(netip.MustParseAddr(p.node.spec.Assignment.Address), nodePort)
	return at, p.node.space.Do(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(fmt.Sprintf(translation, at.Addr(), at.Port(), p.at()))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("node port: %w: %s", err, out)
		}
		return nil
	})
}

func (n *network) close() error {
	var errs []error
	for _, f := range slices.Backward(n.undo) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}
