// Command hitless sends traffic of every kind between two nodes while their agents are killed, restarted and
// replaced by another version, and counts what that costs: it is to be nothing. Or one pod floods the tables.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/test/rig"
)

type options struct {
	time   time.Duration
	upsets int
	rate   int
	bin    string
	report string
	flood  bool
}

// inside says that the process has a mount namespace of its own, so that nothing it mounts outlives it.
const inside = "WEFT_HITLESS_INSIDE"

func main() {
	if child, err := rig.Child(os.Args); child {
		if err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.DurationVar(&o.time, "time", 5*time.Minute, "how long")
	flag.IntVar(&o.upsets, "upsets", 20, "how many times the agents are replaced")
	flag.IntVar(&o.rate, "rate", 500, "new connections a second, on each of the two paths")
	flag.StringVar(&o.bin, "bin", "bin", "directory of the built programs")
	flag.BoolVar(&o.flood, "flood", false, "flood small tables instead, and look at who was there before")
	flag.StringVar(&o.report, "report", "", "file for a report")
	flag.Parse()
	if os.Getenv(inside) == "" {
		os.Exit(reenter())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "hitless:", err)
		os.Exit(1)
	}
}

// reenter runs this program again in a mount namespace of its own.
func reenter() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(1, exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hitless:", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, o options) (err error) {
	plugin, err := filepath.Abs(filepath.Join(o.bin, "weft-cni"))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "weft-hitless-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var sizes datapath.Sizes
	if o.flood {
		sizes = datapath.Sizes{ConntrackTCP: tableSize, ConntrackAny: tableSize}
	}
	n, err := build(ctx, dir, plugin, sizes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if o.flood {
		return runFlood(ctx, n, o)
	}
	out, err := n.measure(ctx, o)
	if err != nil {
		return err
	}
	if err := out.draw(os.Stdout); err != nil {
		return err
	}
	if o.report != "" {
		if err := out.write(o.report, strings.Join([]string{"make hitless", "TIME=" + o.time.String()}, " ")); err != nil {
			return err
		}
	}
	return out.err()
}

// measure sends traffic until the agents have gone through everything.
func (n *network) measure(ctx context.Context, o options) (*outcome, error) {
	out := &outcome{}
	second, err := n.nodes[0].second(ctx, &n.wrong)
	if err != nil {
		return nil, err
	}
	exposed, err := second.expose()
	if err != nil {
		return nil, err
	}
	a, b := n.nodes[0], n.nodes[1]
	far := flow{a.client.space, b.server.at(), b.server.name}
	near := flow{a.client.space, a.server.at(), a.server.name}
	away := flow{a.client.space, n.world.at(), n.world.name}
	port := flow{n.vpc, exposed, second.name}

	before, err := n.retransmitted()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	// Traffic ends after the last that happens to the agents, and not because of it.
	traffic, end := context.WithCancel(ctx)
	defer end()
	var g errgroup.Group
	start := func(name string, f func(t *tally) error) {
		t := &tally{name: name}
		out.tallies = append(out.tallies, t)
		g.Go(func() error {
			if err := f(t); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	const often = time.Millisecond
	block := make([]byte, 256<<10)
	start("throughput to the other node", func(t *tally) error { return far.keep(traffic, t, often, block) })
	start("throughput on one node", func(t *tally) error { return near.keep(traffic, t, often, block) })
	start("requests to the other node", func(t *tally) error { return far.keep(traffic, t, often, nil) })
	start("requests on one node", func(t *tally) error { return near.keep(traffic, t, often, nil) })
	start("requests to the world, masqueraded", func(t *tally) error { return away.keep(traffic, t, often, nil) })
	start("requests from the world by a node port, to a pod on a secondary ENI", func(t *tally) error { return port.keep(traffic, t, often, nil) })
	start("new connections to the other node", func(t *tally) error { return far.renew(traffic, t, o.rate) })
	start("new connections on one node", func(t *tally) error { return near.renew(traffic, t, o.rate) })
	start("new connections to the world, masqueraded", func(t *tally) error { return away.renew(traffic, t, max(workers, o.rate/10)) })
	start("new connections from the world by a node port", func(t *tally) error { return port.renew(traffic, t, max(workers, o.rate/10)) })
	start("pods that come and go", func(t *tally) error { return n.churn(traffic, t, time.Second) })

	wait(ctx, o.time/5)
	quiet, err := n.retransmitted()
	if err == nil {
		out.quiet, out.quietGap, out.quietRetransmitted = time.Since(began), out.longest(), quiet-before
		began = time.Now()
		err = n.disturb(ctx, o, &out.history)
		out.took = time.Since(began)
	}
	end()
	if err := errors.Join(err, g.Wait(), ctx.Err()); err != nil {
		return nil, err
	}
	out.wrong = n.wrong.Load()
	after, err := n.retransmitted()
	out.retransmitted = after - quiet
	return out, err
}
