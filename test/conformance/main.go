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
	"github.com/weft-cni/weft/test/conformance/services"
	"github.com/weft-cni/weft/test/rig"
)

// options are what the command line says beside the suite's name.
type options struct {
	bin, out, only, lab string
	workers             int
}

// suite is one specification. Its error is that it could not be run.
type suite struct {
	name, about string
	// long is how long it takes, if that is long: it is run only if it is named.
	long  string
	limit time.Duration
	run   func(ctx context.Context, o options, r *report.Report) error
}

func suites() []suite {
	upstream := func(beside bool) func(context.Context, options, *report.Report) error {
		return func(ctx context.Context, o options, r *report.Report) error {
			return services.Run(ctx, services.Options{
				Bin: o.bin, Out: o.out, Only: o.only, Lab: o.lab, Workers: o.workers, Beside: beside}, r)
		}
	}
	return []suite{
		{name: "cni", about: "the CNI specification 1.1 and the versions before it: every verb, with libcni and cnitool", limit: 10 * time.Minute,
			run: func(ctx context.Context, o options, r *report.Report) error { return cni.Run(ctx, o.bin, r) }},
		{name: "services", about: "Kubernetes' own end-to-end tests of services, on a lab without kube-proxy",
			long: "about 30 minutes", limit: 80 * time.Minute, run: upstream(false)},
		{name: "services-beside", about: "the same beside kube-proxy", long: "about 30 minutes", limit: 80 * time.Minute, run: upstream(true)},
	}
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
	name := flag.String("suite", "", "the suite to run, or all; those that take long are run only if named")
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "directory of the built programs")
	flag.StringVar(&o.out, "out", "build/conformance.d", "directory for logs and reports of suites that write some")
	flag.StringVar(&o.only, "only", ".", "services: only specs whose names match this regular expression")
	flag.StringVar(&o.lab, "lab", "", "services: use this lab, with weft on it, instead of making one")
	flag.IntVar(&o.workers, "workers", 6, "services: specs that run at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, *name, o, os.Stdout, os.Stderr))
}

func run(ctx context.Context, name string, o options, out, errs io.Writer) int {
	chosen, err := choose(name, suites())
	if err != nil {
		fmt.Fprintln(errs, "conformance:", err)
		return 2
	}
	for _, dir := range []*string{&o.bin, &o.out} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			fmt.Fprintln(errs, "conformance:", err)
			return 1
		}
	}
	code := 0
	for _, s := range chosen {
		if !runOne(ctx, s, o, out, errs) {
			code = 1
		}
	}
	if name == "" {
		for _, s := range suites() {
			if s.long != "" {
				fmt.Fprintf(out, "not run, because it takes long (%s): SUITE=%s, %s\n", s.long, s.name, s.about)
			}
		}
	}
	return code
}

func runOne(ctx context.Context, s suite, o options, out, errs io.Writer) bool {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	fmt.Fprintf(out, "== %s: %s\n", s.name, s.about)
	r := report.New(out)
	err := s.run(ctx, o, r)
	if err != nil {
		fmt.Fprintf(errs, "conformance: suite %s could not be run: %v\n", s.name, err)
	}
	fmt.Fprintf(out, "== %s: %s\n", s.name, r.Summary())
	return err == nil && !r.Failed()
}

func choose(name string, all []suite) ([]suite, error) {
	switch name {
	case "all":
		return all, nil
	case "":
		return slices.DeleteFunc(slices.Clone(all), func(s suite) bool { return s.long != "" }), nil
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
