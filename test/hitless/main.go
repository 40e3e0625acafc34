// Command hitless sends traffic of every kind between two nodes while their agents are killed, restarted and
// replaced by another version, and counts what that costs: it is to be nothing. Or one pod floods the tables, or the
// backends of a service are replaced meanwhile.
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

	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/test/rig"
)

type options struct {
	time   time.Duration
	rounds int
	rate   int
	bin    string
	report string
	flood  bool
	// churn replaces a service's backends, one each pace, which end after their grace; agents are upset that far between.
	churn                bool
	backends             int
	grace, pace, between time.Duration
}

// inside says that the process has a mount namespace of its own, so that nothing it mounts outlives it.
const inside = "WEFT_HITLESS_INSIDE"

func main() {
	if child, err := children(os.Args); child {
		if err != nil {
			fmt.Fprintln(os.Stderr, "hitless:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.DurationVar(&o.time, "time", 5*time.Minute, "how long")
	flag.IntVar(&o.rounds, "rounds", 20, "how many times the agents are killed, stopped, upgraded and taken back")
	flag.IntVar(&o.rate, "rate", 500, "new connections a second, on each of the two paths")
	flag.StringVar(&o.bin, "bin", "bin", "directory of the built programs")
	flag.BoolVar(&o.flood, "flood", false, "flood small tables instead, and look at who was there before")
	flag.BoolVar(&o.churn, "churn", false, "replace the backends of a service under traffic instead")
	flag.IntVar(&o.backends, "backends", 50, "with -churn: how many the service has")
	flag.DurationVar(&o.grace, "grace", 20*time.Second, "with -churn: for how long a backend that ends takes connections")
	flag.DurationVar(&o.pace, "pace", time.Second, "with -churn: how often one is replaced")
	flag.DurationVar(&o.between, "between", 8*time.Second, "with -churn: pause between what happens to the agents")
	flag.StringVar(&o.report, "report", "", "file for a report")
	flag.Parse()
	if os.Getenv(inside) == "" {
		os.Exit(reenter(o))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "hitless:", err)
		os.Exit(1)
	}
}

// children are what this program runs as beside itself.
func children(args []string) (bool, error) {
	switch {
	case len(args) == 2 && args[1] == pulseArg:
		return true, pulseChild(os.Stdin, os.Stdout)
	case len(args) == 3 && args[1] == burnArg:
		return true, burnChild(args[2])
	}
	return rig.Child(args)
}

// groupEnv names the control group that the process is in, with all sockets that it makes.
const groupEnv = "WEFT_HITLESS_CGROUP"

// reenter runs this program again in a mount namespace of its own and, for services, a control group of its own.
func reenter(o options) int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	end := func() error { return nil }
	if o.churn {
		group, err := rig.NewControlGroup("hitless")
		if err != nil {
			fmt.Fprintln(os.Stderr, "hitless:", err)
			return 1
		}
		group.Join(cmd.SysProcAttr)
		cmd.Env = append(cmd.Env, groupEnv+"="+group.Dir)
		end = group.Close
	}
	err := cmd.Run()
	if gerr := end(); gerr != nil {
		fmt.Fprintln(os.Stderr, "hitless:", gerr)
	}
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
	like, idle, addresses := rig.Spec{Plugin: plugin}, 2, 40
	if o.flood {
		idle, like.Metrics, like.Sizes = 0, metricsAt, datapath.Sizes{ConntrackTCP: tableSize, ConntrackAny: tableSize}
	}
	if o.churn {
		idle, addresses, like.Cgroup = 0, 100, os.Getenv(groupEnv)
	}
	n, err := build(ctx, dir, idle, addresses, like)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if o.flood {
		return runFlood(ctx, n, o)
	}
	if o.churn {
		out, err := runChurn(ctx, n, o)
		if err != nil {
			return err
		}
		return churnReport(out, o)
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
