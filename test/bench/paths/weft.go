package paths

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/test/rig"
)

// weft starts the agents.
func (n *Network) weft(ctx context.Context, t Tools, p Plan, dir string) (give, error) {
	conf := config.Default()
	if p.Change != nil {
		p.Change(&conf)
	}
	nodes := n.nodes
	if p.World {
		nodes = nodes[:1]
	}
	var specs []rig.Spec
	for i, node := range nodes {
		s := rig.Spec{Name: fmt.Sprintf("node-%d", i), Dir: filepath.Join(dir, fmt.Sprint(i)), Plugin: t.Plugin, AddWait: 5 * time.Second, Config: &conf, Program: p.Program,
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
	return func(node int, pod rig.Space, id string) (netip.Addr, error) {
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
			return netip.Addr{}, fmt.Errorf("ADD: %w", err)
		}
		r, err := types100.NewResultFromResult(res)
		if err != nil {
			return netip.Addr{}, err
		}
		return first(r)
	}, nil
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
