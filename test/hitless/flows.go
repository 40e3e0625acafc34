package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/test/rig"
)

// tally is what became of one kind of traffic.
type tally struct {
	name string

	mu                             sync.Mutex
	done, resets, timeouts, wrongs uint64
	other                          []error
	missed                         []span
	last                           time.Time
	rate                           int // a second, if it is given; written before the first count
}

func (t *tally) count(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	var late net.Error // a connection that isn't made in time is told by a type of its own
	if !t.last.IsZero() && now.Sub(t.last) >= worthNoting {
		t.missed = append(t.missed, span{t.last, now})
	}
	switch {
	case err == nil:
		t.done++
		t.last = now
	case errors.Is(err, errWrong):
		t.wrongs++
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), errors.As(err, &late) && late.Timeout():
		t.timeouts++
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNREFUSED):
		t.resets++
	default:
		t.other = append(t.other, err)
	}
}

// rest says that what comes next isn't late: nobody is asking.
func (t *tally) rest() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = time.Time{}
}

// noted are the times in which nothing came.
func (t *tally) noted() []span {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.missed)
}

func (t *tally) bad() bool {
	return t.resets+t.timeouts+t.wrongs > 0 || len(t.other) > 0 || t.done == 0
}

// flow is whom a client asks.
type flow struct {
	client rig.Space
	to     netip.AddrPort
	name   string // of who should answer
	udp    bool
}

func (p *pod) asks(s *server) flow { return flow{client: p.space, to: s.at(), name: s.name} }

// datagrams asks the same by UDP.
func (f flow) datagrams() flow {
	f.udp = true
	return f
}

func (f flow) network() string {
	if f.udp {
		return "udp"
	}
	return "tcp"
}

func (f flow) dial() (c net.Conn, err error) {
	err = f.client.Do(func() error {
		c, err = net.DialTimeout(f.network(), f.to.String(), patience)
		return err
	})
	return c, err
}

// keep asks on one connection until ctx ends; when it breaks, on another.
func (f flow) keep(ctx context.Context, t *tally, pause time.Duration, payload []byte) error {
	var c net.Conn
	var err error
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for seq := uint64(1); ctx.Err() == nil; seq++ {
		if c == nil {
			if c, err = f.dial(); err != nil {
				t.count(err)
				wait(ctx, 100*time.Millisecond)
				continue
			}
		}
		err = ask(c, f.name, seq, payload)
		t.count(err)
		if err != nil {
			c.Close()
			c = nil
		}
		if pause > 0 {
			wait(ctx, pause)
		}
	}
	return nil
}

// workers make connections side by side, so that one that waits doesn't keep the others.
const workers = 4

// renew makes so many connections a second until ctx ends, with one exchange on each.
func (f flow) renew(ctx context.Context, t *tally, perSecond int) error {
	var g errgroup.Group
	for i := range workers {
		g.Go(func() error {
			runtime.LockOSThread() // never unlocked: its namespace is the client's
			if err := f.client.Enter(); err != nil {
				return err
			}
			every := time.Second * workers / time.Duration(perSecond)
			next := time.Now().Add(every * time.Duration(i) / workers)
			for seq := uint64(1); ctx.Err() == nil; seq++ {
				next = next.Add(every)
				if behind := time.Since(next); behind > time.Second {
					next = next.Add(behind.Truncate(every)) // what wasn't made in time isn't made up for
				} else if behind < 0 {
					wait(ctx, -behind)
				}
				t.count(f.once(seq))
			}
			return nil
		})
	}
	return g.Wait()
}

// once is a connection with one exchange, from the namespace of the calling thread.
func (f flow) once(seq uint64) (err error) {
	c, err := net.DialTimeout(f.network(), f.to.String(), patience)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return ask(c, f.name, seq, nil)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// churn makes pods, asks each from a pod that stays, and removes them. A runtime repeats what the agent isn't
// there for, and so does this.
func (n *network) churn(ctx context.Context, t *tally, pause time.Duration) error {
	for i := 0; ctx.Err() == nil; i++ {
		node := n.nodes[i%len(n.nodes)]
		p, err := node.pod(ctx, fmt.Sprintf("churn-%d", i), &n.wrong)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		t.rest()
		f := n.nodes[0].client.asks(p.server)
		c, err := f.dial()
		t.count(err)
		for seq := uint64(1); err == nil && seq <= 100; seq++ {
			if err = ask(c, p.name, seq, nil); err != nil || seq > 1 {
				t.count(err)
			}
			wait(ctx, pause/100)
		}
		if c != nil {
			c.Close()
		}
		if err := p.remove(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}
