package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/weft-cni/weft/internal/agent"
	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/test/rig"
)

// upset is something that happens to the agents while traffic flows.
type upset struct {
	name string
	end  func(*rig.Agent) error
	next bool
}

// upsets follow each other in turn: the later version's agent takes over from this one's, and is killed for
// the way back.
func upsets() []upset {
	return []upset{
		{"killed and started", (*rig.Agent).Kill, false},
		{"stopped and started", (*rig.Agent).Stop, false},
		{"upgraded to other map layouts", (*rig.Agent).Stop, true},
		{"killed and taken back to the version before", (*rig.Agent).Kill, false},
	}
}

// history is what was done to the agents, and when.
type history struct {
	lines []string

	mu      sync.Mutex
	moments []moment
	// used is the processor time of agents that were replaced.
	used  time.Duration
	ended int
}

// moment is when something happened to an agent, or in it.
type moment struct {
	at         time.Time
	node, what string
}

func (h *history) add(format string, a ...any) {
	h.lines = append(h.lines, fmt.Sprintf(format, a...))
	fmt.Fprintln(os.Stderr, h.lines[len(h.lines)-1])
}

func (h *history) mark(node, what string, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moments = append(h.moments, moment{at, node, what})
}

func (h *history) spent(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.used += d
	h.ended++
}

// each is what an agent uses from its start to its replacement.
func (h *history) each() time.Duration { return h.used / time.Duration(max(1, h.ended)) }

// replace ends the agent and starts the next one.
func (n *node) replace(ctx context.Context, u upset, h *history) error {
	old := n.agent
	n.agent = nil
	h.mark(n.spec.Name, "ends", time.Now())
	if err := u.end(old); err != nil {
		return fmt.Errorf("end of the agent of %s: %w", n.spec.Name, err)
	}
	h.spent(old.Used())
	n.spec.Next = u.next
	h.mark(n.spec.Name, "starts", time.Now())
	var err error
	if n.agent, err = rig.Start(ctx, n.space, n.spec); err != nil {
		return err
	}
	return n.steps(ctx, h)
}

// steps notes when the new agent was through with which part of its start.
func (n *node) steps(ctx context.Context, h *history) error {
	var b bytes.Buffer
	if err := agentapi.NewClient(n.spec.APISocket()).Get(ctx, "/v1/status", &b); err != nil {
		return fmt.Errorf("agent of %s: %w", n.spec.Name, err)
	}
	var got agent.Health
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		return fmt.Errorf("status of the agent of %s: %w", n.spec.Name, err)
	}
	for _, s := range got.Steps {
		if s.State == "done" {
			h.mark(n.spec.Name, s.Name, s.Since)
		}
	}
	return nil
}

// rounds upsets the nodes in every way, so many times over, one upset each so often.
func rounds(ctx context.Context, nodes []*node, times int, every time.Duration, h *history) (map[string]int, error) {
	counts := map[string]int{}
	for range times {
		for _, u := range upsets() {
			next := time.Now().Add(every)
			for _, one := range nodes {
				if err := one.replace(ctx, u, h); err != nil {
					return counts, fmt.Errorf("%s: %w", u.name, err)
				}
			}
			counts[u.name]++
			wait(ctx, time.Until(next))
		}
	}
	return counts, nil
}

// every is how often agents are replaced, with a share of the time left for what else is done to them.
func (o options) every() time.Duration {
	return o.time * 7 / 10 / time.Duration(max(1, o.rounds*len(upsets())))
}

// disturb upsets both nodes over most of the time, leaves the nodes without agents for a part of it, and
// ends with agents that are replaced every 2 s.
func (n *network) disturb(ctx context.Context, o options, h *history) error {
	began := time.Now()
	counts, err := rounds(ctx, n.nodes, o.rounds, o.every(), h)
	if err != nil {
		return err
	}
	for _, u := range upsets() {
		h.add("agents %s: %d times", u.name, counts[u.name])
	}
	away := o.time * 15 / 100
	for _, one := range n.nodes {
		if err := errors.Join(one.agent.Kill(), ctx.Err()); err != nil {
			return err
		}
		one.agent = nil
		h.mark(one.spec.Name, "is away", time.Now())
	}
	wait(ctx, away)
	h.add("no agent for %s", away.Round(time.Second))
	times := 0
	for last := false; !last; times++ {
		// On a busy machine the rounds may have taken all of the time.
		last = ctx.Err() != nil || time.Since(began) > o.time && times >= o.rounds/2
		for _, one := range n.nodes {
			if one.agent != nil {
				if err := one.agent.Kill(); err != nil {
					return err
				}
				one.agent = nil
			}
			h.mark(one.spec.Name, "starts", time.Now())
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

// repeat does the thing once for each node so often, for as long as is given.
func repeat(ctx context.Context, nodes int, during, every time.Duration, do func() error) (times int, err error) {
	for end := time.Now().Add(during); time.Now().Before(end) && ctx.Err() == nil; times++ {
		next := time.Now().Add(every)
		for range nodes {
			if err := do(); err != nil {
				return times, err
			}
		}
		wait(ctx, time.Until(next))
	}
	return times, nil
}
