package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// phase is a part of the run.
type phase struct {
	name     string
	from, to time.Time
	segments segments
	times    int // that something was done to each node
}

func (p phase) length() time.Duration { return p.to.Sub(p.from) }

// traffic starts everything that flows, which ends with ctx.
func (n *network) traffic(ctx context.Context, o options, second *pod, exposed flow) (tallies []*tally, g *errgroup.Group) {
	a, b := n.nodes[0], n.nodes[1]
	far, near, away := a.client.asks(b.server.server), a.client.asks(a.server.server), a.client.asks(n.world)
	g = &errgroup.Group{}
	start := func(name string, f func(t *tally) error) *tally {
		t := &tally{name: name}
		tallies = append(tallies, t)
		g.Go(func() error {
			if err := f(t); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
		return t
	}
	const often = time.Millisecond
	keep := func(name string, f flow, payload []byte) {
		start(name, func(t *tally) error { return f.keep(ctx, t, often, payload) })
	}
	renew := func(name string, f flow, rate int) {
		start(name, func(t *tally) error { return f.renew(ctx, t, rate) }).rate = rate
	}
	block := make([]byte, 256<<10)
	keep("throughput to the other node", far, block)
	keep("throughput on one node", near, block)
	keep("requests to the other node", far, nil)
	keep("requests on one node", near, nil)
	keep("requests to the world, masqueraded", away, nil)
	keep("requests from the world by a node port, to a pod on a secondary ENI", exposed, nil)
	keep("requests from a pod on a secondary ENI to the other node", second.asks(b.server.server), nil)
	keep("datagrams to the other node", far.datagrams(), nil)
	keep("datagrams on one node", near.datagrams(), nil)
	keep("datagrams to the world, masqueraded", away.datagrams(), nil)
	renew("new connections to the other node", far, o.rate)
	renew("new connections on one node", near, o.rate)
	renew("new connections to the world, masqueraded", away, max(workers, o.rate/10))
	renew("new connections from the world by a node port", exposed, max(workers, o.rate/10))
	start("pods that come and go", func(t *tally) error { return n.churn(ctx, t, time.Second) })
	return tallies, g
}

// measure sends traffic through five times: a quiet one, two in which the agents go through everything, and
// two that take the same from the machine and nothing from these nodes.
func (n *network) measure(ctx context.Context, o options) (*outcome, error) {
	out := &outcome{}
	var err error
	if n.second, err = n.nodes[0].second(ctx, &n.wrong); err != nil {
		return nil, err
	}
	exposed, err := n.second.expose()
	if err != nil {
		return nil, err
	}
	pulse, err := feel(ctx)
	if err != nil {
		return nil, err
	}
	// Traffic ends after the last that happens to the agents, and not because of it.
	during, end := context.WithCancel(ctx)
	tallies, g := n.traffic(during, o, n.second, flow{client: n.vpc, to: exposed, name: n.second.name})
	out.tallies = tallies
	err = n.phases(ctx, o, out)
	end()
	err = errors.Join(err, g.Wait(), ctx.Err())
	late, perr := pulse.end()
	if err := errors.Join(err, perr); err != nil {
		return nil, err
	}
	cut, err := n.unplug(ctx)
	if err != nil {
		return nil, err
	}
	out.history.add("an ENI detached for a second, its interface index taken by another device, attached again: a connection over it went on after %s", short(cut))
	out.gaps = gaps(tallies, late)
	out.wrong = n.wrong.Load()
	return out, nil
}

// phases go through the parts of the run.
func (n *network) phases(ctx context.Context, o options, out *outcome) error {
	short := o.time / 5
	other := &history{}
	for _, part := range []struct {
		name string
		do   func() (int, error)
	}{
		{quiet, func() (int, error) { wait(ctx, short); return 0, ctx.Err() }},
		{replaced, func() (int, error) {
			err := n.disturb(ctx, o, &out.history)
			return out.history.ended / len(n.nodes), err
		}},
		{suffered, func() (int, error) { return n.suffer(ctx, o.every(), &out.history) }},
		{burning, func() (int, error) {
			return repeat(ctx, len(n.nodes), short, o.every(), func() error { return burn(ctx, out.history.each()) })
		}},
		{elsewhere, func() (int, error) {
			i := 0
			return repeat(ctx, 1, short, o.every(), func() (err error) {
				u := upsets()[i%len(upsets())]
				i++
				for _, one := range n.idle {
					err = errors.Join(err, one.replace(ctx, u, other))
				}
				return err
			})
		}},
	} {
		before, err := n.segments()
		if err != nil {
			return err
		}
		p := phase{name: part.name, from: time.Now()}
		if p.times, err = part.do(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		p.to = time.Now()
		after, err := n.segments()
		if err != nil {
			return err
		}
		p.segments = after.minus(before)
		out.phases = append(out.phases, p)
	}
	return nil
}

// Names of the phases.
const (
	quiet     = "nothing"
	replaced  = "agents of both nodes replaced"
	suffered  = "mishaps of both nodes, see above"
	burning   = "processes that burn as much CPU instead"
	elsewhere = "agents of two other nodes replaced instead"
)
