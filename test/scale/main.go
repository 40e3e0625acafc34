// Command scale runs the operator with many simulated nodes: a real etcd and API server, the operator's own
// code from its start to its end, and an EC2 in memory that takes its time and is throttled as AWS's is.
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
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

type options struct {
	nodes     int
	share     float64
	latency   time.Duration
	bin, work string
	timeout   time.Duration
}

// inside tells the program that it is in namespaces of its own.
const inside = "WEFT_SCALE_INSIDE"

func main() {
	var o options
	flag.IntVar(&o.nodes, "nodes", 1000, "simulated nodes")
	flag.Float64Var(&o.share, "share", 0.5, "share of AWS's published request rates that the operator takes; 0 removes its limiter")
	flag.DurationVar(&o.latency, "latency", 150*time.Millisecond, "how long each EC2 call takes")
	flag.StringVar(&o.bin, "bin", "bin", "directory of the built programs")
	flag.DurationVar(&o.timeout, "timeout", 20*time.Minute, "give up after this time")
	flag.Parse()
	if os.Getenv(inside) == "" {
		os.Exit(reenter())
	}
	// This goroutine stays on the main thread: children that die with their parent die with this one.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	if err := isolated(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// reenter runs this program again in a network namespace of its own: its servers' ports are nobody else's.
func reenter() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "scale: make a network namespace (needs root):", err)
		return 1
	}
	return 0
}

func isolated(ctx context.Context, o options) (err error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	b, err := exec.CommandContext(ctx, filepath.Join(o.bin, "lab"), "assets").Output()
	if err != nil {
		return fmt.Errorf("lab assets, for etcd and the API server: %w", err)
	}
	if o.work, err = os.MkdirTemp("", "weft-scale-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.work)) }()
	return run(ctx, o, strings.TrimSpace(string(b)))
}
