package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/weft-cni/weft/test/rig"
)

// upset is something that happens to the agents while traffic flows.
type upset struct {
	name string
	do   func(ctx context.Context, n *node) error
}

// upsets follow each other in turn: the later version's agent takes over from this one's, and is killed for
// the way back.
func upsets() []upset {
	return []upset{
		{"killed and started", func(ctx context.Context, n *node) error { return n.replace(ctx, (*rig.Agent).Kill, false) }},
		{"stopped and started", func(ctx context.Context, n *node) error { return n.replace(ctx, (*rig.Agent).Stop, false) }},
		{"upgraded to other map layouts", func(ctx context.Context, n *node) error { return n.replace(ctx, (*rig.Agent).Stop, true) }},
		{"killed and taken back to the version before", func(ctx context.Context, n *node) error { return n.replace(ctx, (*rig.Agent).Kill, false) }},
	}
}

// replace ends the agent and starts the next one.
func (n *node) replace(ctx context.Context, end func(*rig.Agent) error, next bool) error {
	old := n.agent
	n.agent = nil
	if err := end(old); err != nil {
		return fmt.Errorf("end of the agent of %s: %w", n.spec.Name, err)
	}
	n.spec.Next = next
	var err error
	n.agent, err = rig.Start(ctx, n.space, n.spec)
	return err
}

// history is what was done to the agents.
type history struct{ lines []string }

func (h *history) add(format string, a ...any) {
	h.lines = append(h.lines, fmt.Sprintf(format, a...))
	fmt.Fprintln(os.Stderr, h.lines[len(h.lines)-1])
}

// disturb upsets both nodes so many times over most of the time, leaves the nodes without agents for a part
// of it, and ends with agents that are replaced every 2 s.
func (n *network) disturb(ctx context.Context, o options, h *history) error {
	began := time.Now()
	share := o.time * 6 / 10 / time.Duration(max(1, o.upsets))
	kinds := upsets()
	counts := map[string]int{}
	for i := range o.upsets {
		u := kinds[i%len(kinds)]
		next := time.Now().Add(share)
		for _, one := range n.nodes {
			if err := u.do(ctx, one); err != nil {
				return fmt.Errorf("%s: %w", u.name, err)
			}
		}
		counts[u.name]++
		wait(ctx, time.Until(next))
	}
	for _, u := range kinds {
		h.add("agents %s: %d times", u.name, counts[u.name])
	}
	away := o.time * 2 / 10
	for _, one := range n.nodes {
		if err := errors.Join(one.agent.Kill(), ctx.Err()); err != nil {
			return err
		}
		one.agent = nil
	}
	wait(ctx, away)
	h.add("no agent for %s", away.Round(time.Second))
	times := 0
	for last := false; !last; times++ {
		last = ctx.Err() != nil || time.Since(began) > o.time
		for _, one := range n.nodes {
			if one.agent != nil {
				if err := one.agent.Kill(); err != nil {
					return err
				}
				one.agent = nil
			}
			var err error
			if last && ctx.Err() == nil {
				one.agent, err = rig.Start(ctx, one.space, one.spec)
			} else {
				one.agent, err = rig.Launch(one.space, one.spec)
			}
			if err != nil {
				return err
			}
		}
		wait(ctx, 2*time.Second)
	}
	h.add("agents killed and started every 2 s: %d times", times)
	return nil
}

// retransmitted sums up the TCP segments that were sent again.
func (n *network) retransmitted() (uint64, error) {
	spaces := []rig.Space{n.vpc}
	for _, one := range n.nodes {
		spaces = append(spaces, one.client.space, one.server.space)
	}
	var sum uint64
	for _, s := range spaces {
		err := s.Do(func() error {
			b, err := os.ReadFile("/proc/thread-self/net/snmp")
			if err != nil {
				return err
			}
			v, err := snmp(string(b), "Tcp", "RetransSegs")
			sum += v
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// snmp finds a counter in the kernel's table of names and values.
func snmp(table, protocol, name string) (uint64, error) {
	var names []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != protocol+":" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, f := range names {
			if f == name && i < len(fields) {
				var v uint64
				_, err := fmt.Sscan(fields[i], &v)
				return v, err
			}
		}
	}
	return 0, fmt.Errorf("the kernel counts no %s %s", protocol, name)
}
