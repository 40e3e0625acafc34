package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/test/rig"
)

// gateway is every plain pod's.
const gateway = "169.254.1.1"

// plain is a node without weft, as the plugin ptp leaves it: a pair of devices and a route for each pod, and the
// kernel that forwards.
func (n *network) plain(i int) (*node, error) {
	out, err := n.machine(i, 1, rig.Spec{Name: fmt.Sprintf("plain-%d", i)})
	if err != nil {
		return nil, err
	}
	for k, to := range []**pod{&out.client, &out.server} {
		if *to, err = n.plainPod(out, k, []string{"client", "server"}[k], &n.wrong); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (n *network) plainPod(one *node, k int, name string, wrong *atomic.Uint64) (*pod, error) {
	p := &pod{node: one, name: name + "." + one.spec.Name, addr: netip.MustParseAddr(one.spec.Assignment.Pods[k])}
	var err error
	if p.space, err = n.space(); err != nil {
		return nil, err
	}
	a4 := p.addr.As4()
	inside := rig.End{Space: p.space, Name: "eth0", MAC: net.HardwareAddr{2, 1, a4[0], a4[1], a4[2], a4[3]}, Address: p.addr, Next: netip.MustParseAddr(gateway)}
	outside := rig.End{Space: one.space, Name: "ptp" + fmt.Sprint(k), MAC: net.HardwareAddr{2, 2, a4[0], a4[1], a4[2], a4[3]}, Address: inside.Next}
	if err := rig.Wire(inside, outside); err != nil {
		return nil, err
	}
	err = one.space.Do(func() error {
		l, err := netlink.LinkByName(outside.Name)
		if err != nil {
			return fmt.Errorf("device %s: %w", outside.Name, err)
		}
		at := l.Attrs().Index
		return errors.Join(
			netlink.RouteReplace(&netlink.Route{LinkIndex: at, Dst: host(p.addr), Scope: netlink.SCOPE_LINK}),
			netlink.NeighSet(&netlink.Neigh{LinkIndex: at, IP: p.addr.AsSlice(), HardwareAddr: inside.MAC, State: netlink.NUD_PERMANENT, Family: netlink.FAMILY_V4}))
	})
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", p.name, err)
	}
	if p.server, err = serve(p.space, p.name, p.addr, wrong); err != nil {
		return nil, err
	}
	n.undo = append(n.undo, p.server.close)
	return p, nil
}
