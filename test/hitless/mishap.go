package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/test/rig"
)

// mishap is what shouldn't happen to a node, and does.
type mishap struct {
	name string
	do   func(n *node, ctx context.Context, h *history) error
}

func mishaps() []mishap {
	return []mishap{
		{"a second agent started beside the first, which was then killed", (*node).twoAgents},
		{"all pins removed under a running agent", (*node).unpin},
		{"the maps' pins removed while no agent was there", (*node).unpinAlone},
		{"an empty BPF file system mounted over the pins, and the agent replaced", (*node).remount},
	}
}

// suffer has every mishap happen to every node.
func (n *network) suffer(ctx context.Context, every time.Duration, h *history) (int, error) {
	for _, m := range mishaps() {
		for _, one := range n.nodes {
			next := time.Now().Add(every)
			h.mark(one.spec.Name, "suffers", time.Now())
			if err := m.do(one, ctx, h); err != nil {
				return 0, fmt.Errorf("%s: %w", m.name, err)
			}
			wait(ctx, time.Until(next))
		}
		h.add("%s: on each node", m.name)
	}
	return len(mishaps()), ctx.Err()
}

// twoAgents lets a second one try for a while.
func (n *node) twoAgents(ctx context.Context, h *history) error {
	second, err := rig.Launch(n.space, n.spec)
	if err != nil {
		return err
	}
	wait(ctx, 3*time.Second)
	// The first one serves still: a pod can be made.
	if err := n.steps(ctx, h); err != nil {
		return errors.Join(err, second.Kill())
	}
	if err := n.agent.Kill(); err != nil {
		return errors.Join(err, second.Kill())
	}
	n.agent = second
	return second.Ready(ctx)
}

func (n *node) pins() ([]string, error) {
	return filepath.Glob(filepath.Join(n.spec.BPFFS(), "weft", "*", "*"))
}

// unpin removes the pins and waits for the agent to put them back.
func (n *node) unpin(ctx context.Context, _ *history) error {
	before, err := n.pins()
	if err != nil {
		return err
	}
	if len(before) == 0 {
		return errors.New("nothing is pinned")
	}
	if err := os.RemoveAll(filepath.Join(n.spec.BPFFS(), "weft")); err != nil {
		return err
	}
	return rig.Await(ctx, 2*time.Minute, "the pins are back", func() error {
		// Pods come and go meanwhile, and their pins with them.
		now, err := n.pins()
		if err == nil && len(now) < len(before)*3/4 {
			err = fmt.Errorf("%d pins, expected about %d", len(now), len(before))
		}
		return err
	})
}

// unpinAlone leaves the links' pins: with no agent there, they are all that holds the programs, and these
// all that holds the maps.
func (n *node) unpinAlone(ctx context.Context, h *history) error {
	return n.between(ctx, h, func() error { return os.RemoveAll(filepath.Join(n.spec.BPFFS(), "weft", "maps")) })
}

// remount hides all pins for good.
func (n *node) remount(ctx context.Context, h *history) error {
	return n.between(ctx, h, n.mount)
}

// between kills the agent, does something and starts the next one.
func (n *node) between(ctx context.Context, h *history, do func() error) error {
	return n.replace(ctx, upset{end: func(a *rig.Agent) error { return errors.Join(a.Kill(), do()) }}, h)
}

// unplug detaches the first node's secondary ENI, gives its interface index to another device, attaches the ENI again
// and expects that a connection over it goes on. It returns how long that one was cut.
func (n *network) unplug(ctx context.Context) (time.Duration, error) {
	const long = 2 * time.Minute
	one, far := n.nodes[0], n.nodes[1].server
	c, err := n.second.asks(far.server).dial()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := askWithin(c, long, far.name, 1, nil); err != nil {
		return 0, err
	}
	began := time.Now()
	old, err := one.index("ens6")
	if err != nil {
		return 0, err
	}
	err = n.vpc.Do(func() error {
		l, err := netlink.LinkByName("n0e1")
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	if err != nil {
		return 0, fmt.Errorf("detach the ENI: %w", err)
	}
	err = one.space.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Index = "other", old
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "other-peer"})
	})
	if err != nil {
		return 0, fmt.Errorf("another device with index %d: %w", old, err)
	}
	wait(ctx, time.Second)
	if err := n.attach(one, 0, 1, one.spec.More[0]); err != nil {
		return 0, fmt.Errorf("attach the ENI again: %w", err)
	}
	if err := askWithin(c, long, far.name, 2, nil); err != nil {
		return 0, fmt.Errorf("a connection over an ENI that was detached and attached again: %w", err)
	}
	took := time.Since(began)
	now, err := one.index("ens6")
	if err == nil && now == old {
		err = fmt.Errorf("the ENI has index %d again, expected another", now)
	}
	return took, err
}

func (n *node) index(device string) (out int, err error) {
	err = n.space.Do(func() error {
		l, err := netlink.LinkByName(device)
		if err == nil {
			out = l.Attrs().Index
		}
		return err
	})
	return out, err
}
