package paths

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

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
	if p.Services > 0 {
		group, err := rig.NewControlGroup("bench-" + filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		n.group = group
		n.undo = append(n.undo, group.Close)
	}
	for i, node := range nodes {
		s := rig.Spec{Name: fmt.Sprintf("node-%d", i), Dir: filepath.Join(dir, fmt.Sprint(i)), Plugin: t.Plugin, AddWait: 5 * time.Second, Config: &conf, Program: p.Program,
			Assignment: rig.Assignment{MAC: nodeMAC(i).String(), Address: nodeIPs[i].String(), SubnetCIDR: subnet}}
		if i == 0 && n.group != nil {
			s.Cgroup = n.group.Dir // the clients' node
		}
		for k := range 4 {
			s.Assignment.Pods = append(s.Assignment.Pods, fmt.Sprintf("10.20.%d.%d", i+1, k+10))
		}
		a, err := rig.Start(ctx, node, s)
		if err != nil {
			return nil, err
		}
		n.undo = append(n.undo, a.Kill)
		n.specs = append(n.specs, s)
	}
	return func(node int, pod rig.Space, id string) (netip.Addr, error) {
		return n.specs[node].Add(ctx, pod, id)
	}, nil
}
