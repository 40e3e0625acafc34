package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/test/rig"
)

// churned is what a run ends with.
type churned struct {
	tallies  []*tally
	history  history
	took     time.Duration
	replaced int
	backends int
	upsets   map[string]int
	idle     []string
	slowest  map[string][]time.Duration // by traffic, the longest first
}

// How many of the longest are kept.
const slow = 200

// spans collects how long exchanges took.
type spans struct {
	mu   sync.Mutex
	all  int
	long []time.Duration
}

func (s *spans) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all++
	if len(s.long) < slow || d > s.long[len(s.long)-1] {
		i, _ := slices.BinarySearchFunc(s.long, d, func(a, b time.Duration) int { return int(b - a) })
		s.long = slices.Insert(s.long, i, d)
		s.long = s.long[:min(len(s.long), slow)]
	}
}

// runChurn replaces the backends of a service again and again under traffic, while the agents are killed, restarted
// and upgraded.
func runChurn(ctx context.Context, n *network, o options) (out *churned, err error) {
	out = &churned{backends: o.backends, upsets: map[string]int{}, slowest: map[string][]time.Duration{}}
	d := &deployment{n: n, specs: []rig.Spec{n.nodes[0].spec}, grace: o.grace}
	for i := range o.backends {
		if err := d.add(ctx, n.nodes[i%len(n.nodes)]); err != nil {
			return nil, err
		}
	}
	client := n.nodes[0].client
	err = rig.Await(ctx, time.Minute, "the service answers", func() error {
		return client.space.Do(func() error { _, err := once(1, &spans{}); return err })
	})
	if err != nil {
		return nil, errors.Join(err, d.close(ctx))
	}
	during, end := context.WithCancel(ctx)
	defer end()
	traffic := out.traffic(during, client, o)
	rolling, cancel := context.WithTimeout(ctx, o.time)
	defer cancel()
	began := time.Now()
	err = out.roll(ctx, rolling, n, d, o)
	out.took = time.Since(began)
	end()
	err = errors.Join(err, traffic())
	return out, errors.Join(err, out.finish(ctx, d))
}

func (out *churned) finish(ctx context.Context, d *deployment) error {
	err := d.close(ctx)
	out.idle = d.idle()
	return err
}

// roll replaces backends one by one until the time is over, and upsets the agents meanwhile.
func (out *churned) roll(ctx, rolling context.Context, n *network, d *deployment, o options) error {
	var ends, g errgroup.Group
	g.Go(func() error {
		for rolling.Err() == nil {
			next := time.Now().Add(o.pace)
			if err := d.replace(ctx, &ends); err != nil {
				return err
			}
			out.replaced++
			wait(rolling, time.Until(next))
		}
		return nil
	})
	g.Go(func() error {
		// The later version of the programs is one for tests: the agent can't read its tables, so no pod begins
		// under it. It isn't what the run ends with.
		for i, list := 0, upsets(); rolling.Err() == nil || n.nodes[0].spec.Next; i++ {
			u := list[i%len(list)]
			if wait(rolling, o.between); rolling.Err() != nil && !n.nodes[0].spec.Next {
				return nil
			}
			for _, one := range n.nodes {
				if err := one.replace(ctx, u, &out.history); err != nil {
					return fmt.Errorf("%s: %w", u.name, err)
				}
			}
			out.upsets[u.name]++
		}
		return nil
	})
	err := g.Wait()
	return errors.Join(err, ends.Wait(), ctx.Err())
}

// traffic starts all that flows; the function returned waits for its end.
func (out *churned) traffic(ctx context.Context, client *pod, o options) func() error {
	var g errgroup.Group
	times := map[string]*spans{}
	start := func(name string, rate int, f func(*tally, *spans) error) {
		t, s := &tally{name: name, rate: rate}, &spans{}
		out.tallies, times[name] = append(out.tallies, t), s
		g.Go(func() error {
			if err := f(t, s); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	start("new connections to the service", o.rate, func(t *tally, s *spans) error { return renewService(ctx, client.space, t, s, o.rate) })
	start("requests on connections that are kept", 0, func(t *tally, s *spans) error {
		return side(ctx, client.space, keepers, func() { keepService(ctx, t, s) })
	})
	start("datagrams to the service, by sockets that stay", 0, func(t *tally, s *spans) error {
		return side(ctx, client.space, talkers, func() { talkService(ctx, t, s) })
	})
	return func() error {
		err := g.Wait()
		for name, s := range times {
			out.slowest[name] = s.long
		}
		return err
	}
}

// rest is between two exchanges of a client that keeps its connection or socket.
const rest = 10 * time.Millisecond

// How many clients keep their connection or socket.
const (
	keepers = 20
	talkers = 4
)

// side runs so many clients in a namespace.
func side(ctx context.Context, s rig.Space, many int, f func()) error {
	var g errgroup.Group
	for range many {
		g.Go(func() error {
			runtime.LockOSThread() // never unlocked: its namespace is the client's
			if err := s.Enter(); err != nil {
				return err
			}
			f()
			return nil
		})
	}
	return g.Wait()
}

// renewService makes so many connections a second, with one exchange on each. Many wait side by side.
func renewService(ctx context.Context, s rig.Space, t *tally, took *spans, perSecond int) error {
	var mu sync.Mutex
	seq, next := uint64(0), time.Now()
	every := time.Second / time.Duration(perSecond)
	return side(ctx, s, 2*workers, func() {
		for ctx.Err() == nil {
			mu.Lock()
			seq++
			own, at := seq, next
			next = next.Add(every)
			if behind := time.Since(next); behind > time.Second {
				next = next.Add(behind.Truncate(every)) // what wasn't made in time isn't made up for
			}
			mu.Unlock()
			wait(ctx, time.Until(at))
			if ctx.Err() != nil {
				return
			}
			_, err := once(own, took)
			t.count(err)
		}
	})
}

// once is a connection to the service with one exchange, from the namespace of the calling thread.
func once(seq uint64, took *spans) (who string, err error) {
	began := time.Now()
	c, err := net.DialTimeout("tcp", serviceAt.String(), patience)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if who, _, err = exchange(c, seq); err == nil {
		took.add(time.Since(began))
	}
	return who, err
}

// exchange asks whoever is there; last says that the connection should end.
func exchange(c net.Conn, seq uint64) (who string, last bool, err error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", false, err
	}
	if _, err := c.Write(header{name: rolled, seq: seq}.encode()); err != nil {
		return "", false, err
	}
	b := make([]byte, headerSize)
	if _, err := io.ReadFull(c, b); err != nil {
		return "", false, err
	}
	got := decode(b)
	if got.seq != seq {
		return "", false, fmt.Errorf("%w: asked for %d, found %d", errWrong, seq, got.seq)
	}
	return got.name, got.length != 0, nil
}

// keepService asks on one connection, and on another when it is asked to.
func keepService(ctx context.Context, t *tally, took *spans) {
	var c net.Conn
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for seq := uint64(1); ctx.Err() == nil; seq++ {
		var err error
		if c == nil {
			if c, err = net.DialTimeout("tcp", serviceAt.String(), patience); err != nil {
				t.count(err)
				wait(ctx, 100*time.Millisecond)
				continue
			}
		}
		began := time.Now()
		_, last, err := exchange(c, seq)
		t.count(err)
		if err == nil {
			took.add(time.Since(began))
		}
		if err != nil || last {
			c.Close()
			c = nil
		}
		wait(ctx, rest)
	}
}

// talkService sends datagrams from one socket, each to the service's address.
func talkService(ctx context.Context, t *tally, took *spans) {
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.count(err)
		return
	}
	defer c.Close()
	for seq := uint64(1); ctx.Err() == nil; seq++ {
		began := time.Now()
		err := datagram(c, seq)
		t.count(err)
		if err == nil {
			took.add(time.Since(began))
		}
		wait(ctx, rest)
	}
}

// datagram waits for the answer to what it sends. It must come from the service.
func datagram(c *net.UDPConn, seq uint64) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.WriteToUDPAddrPort(header{name: rolled, seq: seq}.encode(), serviceAt); err != nil {
		return err
	}
	b := make([]byte, headerSize)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return err
		}
		switch got := decode(b); {
		case n != headerSize:
		case got.seq < seq: // late: its question was counted as a time-out
		case from != serviceAt || got.seq != seq:
			return fmt.Errorf("%w: asked %s for %d, found %s and %d", errWrong, serviceAt, seq, from, got.seq)
		default:
			return nil
		}
	}
}

// err says what must not have happened.
func (out *churned) err() error {
	o := outcome{tallies: out.tallies, phases: []phase{{from: time.Time{}, to: time.Time{}.Add(out.took)}}}
	err := o.err()
	if out.replaced == 0 || len(out.upsets) == 0 {
		err = errors.Join(err, fmt.Errorf("%d backends were replaced and agents upset in %d ways, expected more than none", out.replaced, len(out.upsets)))
	}
	if len(out.idle) > 0 {
		err = errors.Join(err, fmt.Errorf("%d backends never answered anybody, %s first: the service didn't follow", len(out.idle), out.idle[0]))
	}
	return err
}

func (out *churned) draw(w io.Writer) error {
	var b strings.Builder
	verdict := "**Passed**: no connection refused, reset or timed out."
	if out.err() != nil {
		verdict = "**Failed.**"
	}
	fmt.Fprintf(&b, "%s\n\n%d backends, %d of them replaced in %s, one after the other: a new one ready, the old one ending, then gone. Meanwhile, on both nodes:\n\n", verdict, out.backends, out.replaced, out.took.Round(time.Second))
	for _, u := range upsets() {
		fmt.Fprintf(&b, "- agents %s: %d times\n", u.name, out.upsets[u.name])
	}
	b.WriteString("\n| traffic | exchanges | a second | refused or reset | time-outs | wrong answers | longest | 200th longest |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, t := range out.tallies {
		long := out.slowest[t.name]
		longest, later := "", ""
		if len(long) > 0 {
			longest, later = short(long[0]), short(long[len(long)-1])
		}
		fmt.Fprintf(&b, "| %s | %d | %.0f | %d | %d | %d | %s | %s |\n", t.name, t.done, float64(t.done)/out.took.Seconds(), t.resets, t.timeouts, t.wrongs, longest, later)
	}
	b.WriteString("\nEvery backend that was ever in the service has answered somebody: " + map[bool]string{true: "yes", false: "no"}[len(out.idle) == 0] + ".\n")
	_, err := io.WriteString(w, b.String())
	return err
}

const aboutChurn = `A Deployment's rolling update, again and again: pods on two nodes behind a ClusterIP, whose sockets' programs are the agent's. A
backend that ends behaves as well-behaved ones do: it goes on taking connections for its grace, asks kept ones to end with its next
answer, and goes when they have. Clients are in a pod of the first node, without kube-proxy. While the other version of the map
layouts runs, which is one for tests, no pod begins, so no backend is replaced.

`

// churnReport is what a command does with a run's end.
func churnReport(out *churned, o options) error {
	if err := out.draw(os.Stdout); err != nil {
		return err
	}
	if o.report != "" {
		var b strings.Builder
		heading(&b, "A service whose backends are replaced while agents come and go", "make churn TIME="+o.time.String())
		b.WriteString(aboutChurn)
		if err := out.draw(&b); err != nil {
			return err
		}
		if err := keepReport(o.report, b.String()); err != nil {
			return err
		}
	}
	return out.err()
}
