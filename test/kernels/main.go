// Command kernels shows that every datapath program passes the verifiers of the kernels that weft supports,
// and runs the datapath's tests on them: in QEMU, without acceleration, on Debian's kernels.
//
// Exit codes: 0 all passed, 1 something failed, 77 a kernel couldn't be run (and nothing failed).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/test/kernels/report"
	"github.com/weft-cni/weft/test/kernels/suites"
	"github.com/weft-cni/weft/test/kernels/variants"
)

const (
	exitFailed      = 1
	exitCouldNotRun = 77
)

// errCouldNotRun is neither a pass nor a failure: something that the test needs isn't to be had.
var errCouldNotRun = errors.New("could not run")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

type options struct {
	only    []string
	tests   string
	bench   string // measures, instead of tests
	write   string
	verbose bool
	update  bool
	timeout time.Duration
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	flags := flag.NewFlagSet("kernels", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("only", "", "kernels to run, separated by commas: "+strings.Join(kernelNames(), ", ")+", host")
	flags.StringVar(&o.write, "write", "", "file to write the table to, as docs/kernels.md")
	flags.StringVar(&o.tests, "tests", smoke(), "which tests of internal/datapath, internal/nodenet and test/rig to run; all of them take half an hour in QEMU")
	flags.StringVar(&o.bench, "bench", "", "measure instead: those of test/bench whose name matches; emulated, they prove nothing of a real machine")
	flags.BoolVar(&o.verbose, "v", false, "show the consoles")
	flags.BoolVar(&o.update, "update", false, "look for newer packages, though some are in the cache")
	flags.DurationVar(&o.timeout, "timeout", 15*time.Minute, "for each kernel")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	o.only = append(kernelNames(), "host")
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	return test(ctx, o, stdout, stderr)
}

// An outcome is what one kernel gave.
type outcome struct {
	report.Result
	err error
}

func test(ctx context.Context, o options, stdout, stderr io.Writer) int {
	cache, err := cacheDir()
	if err != nil {
		fmt.Fprintln(stderr, "kernels:", err)
		return exitFailed
	}
	work, err := os.MkdirTemp("", "weft-kernels-")
	if err != nil {
		fmt.Fprintln(stderr, "kernels:", err)
		return exitFailed
	}
	defer os.RemoveAll(work)
	if o.bench != "" && (o.write != "" || slices.Contains(o.only, "host")) {
		fmt.Fprintln(stderr, "kernels: -bench measures in virtual machines and writes no table of kernels: give it -only with their names and leave out -write")
		return 2
	}
	if err := buildPayload(ctx, work, o.bench != ""); err != nil {
		fmt.Fprintln(stderr, "kernels:", err)
		return exitFailed
	}

	// Once: two installations at a time are in each other's way. What fails is told by each kernel.
	if slices.ContainsFunc(o.only, func(name string) bool { return name != "host" }) {
		_, _ = ensureQEMU(ctx)
	}
	outcomes := make([]outcome, len(o.only))
	var all errgroup.Group
	for i, name := range o.only {
		all.Go(func() error {
			console := io.Discard
			if o.verbose {
				console = stderr
			}
			fmt.Fprintf(stderr, "kernel %s …\n", name)
			outcomes[i].Result, outcomes[i].err = one(ctx, o, name, cache, work, console)
			return nil
		})
	}
	_ = all.Wait() // each keeps its own error
	var results []report.Result
	failed, missing := false, false
	for i, name := range o.only {
		r, err := outcomes[i].Result, outcomes[i].err
		switch {
		case errors.Is(err, errCouldNotRun):
			fmt.Fprintf(stdout, "kernel %s: %v\n", name, err)
			missing = true
			continue
		case err != nil:
			fmt.Fprintf(stdout, "kernel %s: failed: %v\n", name, err)
			failed = true
			continue
		}
		if o.bench != "" {
			fmt.Fprintf(stdout, "kernel %s, %s\n%s", name, r.Kernel, r.Measured)
			if r.Error != "" {
				fmt.Fprintf(stdout, "kernel %s: failed: %s\n", name, r.Error)
				failed = true
			}
			continue
		}
		results = append(results, r)
		for _, p := range r.Problems() {
			fmt.Fprintf(stdout, "kernel %s: failed: %s\n", name, p)
			failed = true
		}
	}
	if o.bench == "" {
		fmt.Fprint(stdout, report.Table(results))
	}
	// The machine's own kernel is shown, not recorded: it differs from machine to machine.
	results = slices.DeleteFunc(results, func(r report.Result) bool { return r.Name == "host" })
	if err := record(o.write, report.Table(results), stdout, !failed && !missing && len(results) == len(kernels())); err != nil {
		fmt.Fprintln(stderr, "kernels:", err)
		failed = true
	}
	switch {
	case failed:
		return exitFailed
	case missing:
		return exitCouldNotRun
	}
	return 0
}

// smoke is what differs most from kernel to kernel, and little enough for a machine without acceleration:
// every kind of traffic, every program by hand, translation, timers and the ring of events.
func smoke() string {
	whole := "^(" + strings.Join([]string{
		"TestSmoke", "TestNetkit", "TestPodsKeepTheirDevices", "TestDevicesByTheKernel", "TestPaths", "TestNAT", "TestFromPod", "TestToPod", "TestFromNetdev", "TestToNetdev",
		"TestExpiryWithTheLoaderGone", "TestBandwidthIsMeasured", "TestVLANDeviceInThePod", "TestTrafficGoesOnWithoutTheAgent", "TestADropIsToldWithAllThatIsKnown",
		"TestDepartureTimes", "TestPacing", "TestFQIsSetAndTakenBack",
	}, "|") + ")$"
	// Of these what pods on netkit's devices make of them, where there are any.
	netkit := "^(" + strings.Join([]string{"TestForgedPacketsAreDroppedAndCounted", "TestPathMTU", "TestServicesByTheStack"}, "|") + ")$/^netkit$"
	return whole + "|" + netkit
}

// one runs one kernel.
func one(ctx context.Context, o options, name, cache, work string, console io.Writer) (report.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	if name == "host" {
		return host(ctx, work, o.tests, console)
	}
	i := slices.IndexFunc(kernels(), func(k kernel) bool { return k.name == name })
	if i < 0 {
		return report.Result{}, fmt.Errorf("there is no kernel %q, expected one of %s, host", name, strings.Join(kernelNames(), ", "))
	}
	image, err := fetch(ctx, kernels()[i], cache, o.update)
	if err != nil {
		return report.Result{}, fmt.Errorf("%w: %w", errCouldNotRun, err)
	}
	initrd, err := initramfs(ctx, image, work, name, o)
	if err != nil {
		return report.Result{}, err
	}
	r, err := boot(ctx, image.vmlinuz, initrd, o.bench != "", console)
	r.Name = name
	if want := kernels()[i].devices; err == nil && r.Error == "" && !slices.Equal(r.Devices, want) {
		r.Error = fmt.Sprintf("pods can have %v, expected %v", r.Devices, want)
	}
	return r, err
}

// host asks the kernel that runs this.
func host(ctx context.Context, work, tests string, console io.Writer) (report.Result, error) {
	if os.Getuid() != 0 {
		return report.Result{}, fmt.Errorf("%w: needs root to load programs", errCouldNotRun)
	}
	r := report.Result{Name: "host"}
	f, tried := variants.Load()
	r.Kernel, r.TCX, r.Variants = f.Kernel, f.TCX, tried
	var err error
	if r.Devices, err = variants.Devices(); err != nil {
		r.Error = err.Error()
		return r, nil
	}
	r.Tests.Ended = true
	for _, suite := range suites.All() {
		var output strings.Builder
		cmd := exec.CommandContext(ctx, filepath.Join(work, suite.Binary), suite.Arguments(tests)...)
		cmd.Env = append(os.Environ(), "WEFT_CNI="+filepath.Join(work, pluginName))
		cmd.Stdout = io.MultiWriter(&output, console)
		cmd.Stderr = cmd.Stdout
		err = cmd.Run()
		got, _ := report.ReadTests(strings.NewReader(output.String()))
		got.Ended = err == nil
		r.Tests = r.Tests.And(got)
	}
	return r, nil
}

// record compares with the table of an earlier run and writes the new one if it is whole.
func record(path, table string, stdout io.Writer, whole bool) error {
	const standard = "docs/kernels.md"
	earlier, err := os.ReadFile(standard)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, change := range report.Compare(string(earlier), table) {
		fmt.Fprintln(stdout, "grown:", change)
	}
	if path == "" {
		return nil
	}
	if !whole {
		return fmt.Errorf("%s was not written: not every kernel ran and passed", path)
	}
	return os.WriteFile(path, []byte(preface+table), 0o644)
}

const preface = `# Kernels

Written by ` + "`go run ./test/kernels --write docs/kernels.md`" + `. For each program: instructions that the verifier
walked / instructions of the program. Every object is shown to every kernel: what is shipped, and a later version with
another layout of its maps that takes over this one's. Tests are those of ` + "`internal/datapath`" + ` that differ most
between kernels, with traffic of every protocol in both families, and agents that give pods each kind of device, run on 6.1 and 6.12 in QEMU without acceleration, on
Debian's cloud kernels; ` + "`-tests .`" + ` runs all. Before 6.6 there is no tcx and programs are attached by clsact.

`

func cacheDir() (string, error) {
	if dir := os.Getenv("WEFT_CACHE"); dir != "" {
		return filepath.Join(dir, "kernels"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".cache", "weft", "kernels"), nil
}
