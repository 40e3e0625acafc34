// Command scale runs the operator with many simulated nodes: a real etcd and API server, the operator's own
// code from its start to its end, and an EC2 in memory that takes its time and is throttled as AWS's is. Or it
// runs an agent with many services.
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

	"github.com/weft-cni/weft/test/rig"
)

type options struct {
	nodes     int
	share     float64
	latency   time.Duration
	bin, work string
	timeout   time.Duration
	// services is how many an agent is to have, each with so many endpoints; 0: the operator is run instead.
	services, endpoints int
	changes             int
}

// inside tells the program that it is in namespaces of its own.
const inside = "WEFT_SCALE_INSIDE"

func main() {
	if child, err := rig.Child(os.Args); child {
		if err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.IntVar(&o.nodes, "nodes", 1000, "simulated nodes")
	flag.Float64Var(&o.share, "share", 0.5, "share of AWS's published request rates that the operator takes; 0 removes its limiter")
	flag.DurationVar(&o.latency, "latency", 150*time.Millisecond, "how long each EC2 call takes")
	flag.StringVar(&o.bin, "bin", "bin", "directory of the built programs")
	flag.DurationVar(&o.timeout, "timeout", 20*time.Minute, "give up after this time")
	flag.IntVar(&o.services, "services", 0, "run an agent with so many services, instead of the operator")
	flag.IntVar(&o.endpoints, "endpoints", 5, "of each service")
	flag.IntVar(&o.changes, "changes", 30, "changes of one endpoint that are timed")
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

// reenter runs this program again in namespaces of its own: its servers' ports are nobody else's, and its mounts end with it.
func reenter() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "scale: make namespaces (needs root):", err)
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
	if o.services > 0 {
		return runServices(ctx, o, strings.TrimSpace(string(b)))
	}
	return run(ctx, o, strings.TrimSpace(string(b)))
}
