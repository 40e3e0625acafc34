// Command conformance holds weft to specifications that others wrote, with the built programs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/weft-cni/weft/test/conformance/cni"
	"github.com/weft-cni/weft/test/conformance/report"
	"github.com/weft-cni/weft/test/rig"
)

// suite is one specification. Its error is that it could not be run.
type suite struct {
	name, about string
	run         func(ctx context.Context, bin string, r *report.Report) error
}

func suites() []suite {
	return []suite{{"cni", "the CNI specification 1.1 and the versions before it: every verb, with libcni and cnitool", cni.Run}}
}

// errNoSuite is a name that isn't a suite's.
var errNoSuite = errors.New("no such suite")

func main() {
	if child, err := rig.Child(os.Args); child {
		if err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			os.Exit(1)
		}
		return
	}
	name := flag.String("suite", "all", "the suite to run, or all")
	bin := flag.String("bin", "bin", "directory of the built programs")
	timeout := flag.Duration("timeout", 10*time.Minute, "give up after this time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	os.Exit(run(ctx, *name, *bin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, name, bin string, out, errs io.Writer) int {
	chosen, err := choose(name, suites())
	if err != nil {
		fmt.Fprintln(errs, "conformance:", err)
		return 2
	}
	if bin, err = filepath.Abs(bin); err != nil {
		fmt.Fprintln(errs, "conformance:", err)
		return 1
	}
	code := 0
	for _, s := range chosen {
		fmt.Fprintf(out, "== %s: %s\n", s.name, s.about)
		r := report.New(out)
		if err := s.run(ctx, bin, r); err != nil {
			fmt.Fprintf(errs, "conformance: suite %s could not be run: %v\n", s.name, err)
			code = 1
		}
		fmt.Fprintf(out, "== %s: %s\n", s.name, r.Summary())
		if r.Failed() {
			code = 1
		}
	}
	return code
}

func choose(name string, all []suite) ([]suite, error) {
	if name == "all" {
		return all, nil
	}
	i := slices.IndexFunc(all, func(s suite) bool { return s.name == name })
	if i < 0 {
		var names []string
		for _, s := range all {
			names = append(names, s.name)
		}
		return nil, fmt.Errorf("%w: found %q, expected %s or all", errNoSuite, name, strings.Join(names, ", "))
	}
	return all[i : i+1], nil
}
