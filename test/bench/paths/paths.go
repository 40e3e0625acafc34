// Package paths makes the ways that traffic is measured on: pods of two nodes by weft, by the ptp plugin
// with host-local, and two namespaces on one bare veth pair.
//
// The two nodes are joined by one veth pair, which stands for ENIs and VPC: each side is the other's router.
// So what is measured is what a node adds.
package paths

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/test/bench/traffic"
	"github.com/weft-cni/weft/test/rig"
)

// Network is one way of joining pods.
type Network struct {
	// Cross leads from a pod to one on the other node, Local to one on the same node.
	Cross, Local traffic.Path

	nodes, spaces []rig.Space
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
	return s, s.Set("ipv6/conf/all/disable_ipv6=1", "ipv6/conf/default/disable_ipv6=1")
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

// Weft is two nodes with an agent each, with its defaults: programs, routes, rules and masquerade are the
// agent's own work. Without masquerade nothing of it tracks connections, as nothing of the ptp plugin does.
func Weft(ctx context.Context, dir, plugin string, masquerade bool) (_ *Network, err error) {
	n := &Network{}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if err := n.wireNodes(); err != nil {
		return nil, err
	}
	var specs []rig.Spec
	for i, node := range n.nodes {
		s := rig.Spec{Name: fmt.Sprintf("node-%d", i), Dir: filepath.Join(dir, fmt.Sprintf("weft-%d-%v", i, masquerade)), Plugin: plugin, AddWait: 5 * time.Second, NoMasquerade: !masquerade,
			Assignment: rig.Assignment{MAC: nodeMAC(i).String(), Address: nodeIPs[i].String(), SubnetCIDR: subnet}}
		for k := range 4 {
			s.Assignment.Pods = append(s.Assignment.Pods, fmt.Sprintf("10.20.%d.%d", i+1, k+10))
		}
		a, err := rig.Start(ctx, node, s)
		if err != nil {
			return nil, err
		}
		n.undo = append(n.undo, a.Kill)
		specs = append(specs, s)
	}
	return n, n.pods(func(node int, pod rig.Space, id string) (netip.Addr, error) {
		s := specs[node]
		list, err := libcni.ConfListFromFile(s.Conflist())
		if err != nil {
			return netip.Addr{}, err
		}
		if err := s.PutSandbox(id); err != nil {
			return netip.Addr{}, err
		}
		cni := libcni.NewCNIConfigWithCacheDir([]string{s.BinDir()}, filepath.Join(s.Dir, "cache"), nil)
		res, err := cni.AddNetworkList(ctx, list, &libcni.RuntimeConf{ContainerID: id, NetNS: pod.Path(), IfName: "eth0"})
		if err != nil {
			return netip.Addr{}, fmt.Errorf("weft: ADD: %w", err)
		}
		r, err := types100.NewResultFromResult(res)
		if err != nil {
			return netip.Addr{}, err
		}
		return first(r)
	})
}

func first(r *types100.Result) (netip.Addr, error) {
	if len(r.IPs) == 0 {
		return netip.Addr{}, errors.New("ADD gave no address")
	}
	a, ok := netip.AddrFromSlice(r.IPs[0].Address.IP)
	if !ok {
		return netip.Addr{}, fmt.Errorf("ADD gave address %v", r.IPs[0].Address)
	}
	return a.Unmap(), nil
}

// PTP is the same two nodes with the reference plugins from a directory: ptp and host-local, without
// translation.
func PTP(ctx context.Context, dir, plugins string) (_ *Network, err error) {
	n := &Network{}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if err := n.wireNodes(); err != nil {
		return nil, err
	}
	return n, n.pods(func(node int, pod rig.Space, id string) (netip.Addr, error) {
		conf, err := json.Marshal(map[string]any{"cniVersion": "1.0.0", "name": "ptp", "type": "ptp", "ipMasq": false, "mtu": 9001,
			"ipam": map[string]any{"type": "host-local", "dataDir": filepath.Join(dir, fmt.Sprintf("ptp-%d", node)),
				"ranges": []any{[]any{map[string]any{"subnet": fmt.Sprintf("10.20.%d.0/24", node+1)}}},
				"routes": []any{map[string]any{"dst": "0.0.0.0/0"}}}})
		if err != nil {
			return netip.Addr{}, err
		}
		var out []byte
		err = n.nodes[node].Do(func() (err error) {
			cmd := exec.CommandContext(ctx, filepath.Join(plugins, "ptp"))
			cmd.Stdin = bytes.NewReader(conf)
			cmd.Env = append(os.Environ(), "CNI_COMMAND=ADD", "CNI_CONTAINERID="+id, "CNI_NETNS="+pod.Path(), "CNI_IFNAME=eth0", "CNI_PATH="+plugins)
			out, err = cmd.Output()
			return err
		})
		if err != nil {
			return netip.Addr{}, fmt.Errorf("ptp: ADD: %w: %s", err, out)
		}
		var r types100.Result
		if err := json.Unmarshal(out, &r); err != nil {
			return netip.Addr{}, err
		}
		return first(&r)
	})
}

// Veth is two namespaces on one veth pair: the least that two namespaces can do. It has no Local.
func Veth() (_ *Network, err error) {
	n := &Network{}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if err := n.wireNodes(); err != nil {
		return nil, err
	}
	n.Cross = traffic.Path{Client: n.nodes[0], Server: n.nodes[1], Address: nodeIPs[1]}
	return n, nil
}
