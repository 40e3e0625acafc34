// Command bpfcover runs the datapath's tests with programs that tell which lines of their C sources run, writes
// down the lines that none ran, and fails if they are too many.
//
// Exit codes: 0 enough lines ran, 1 the tests failed or too few ran, 77 it couldn't be run.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/weft-cni/weft/internal/datapath/bpfcover"
)

const (
	exitFailed      = 1
	exitCouldNotRun = 77

	testPackage = "internal/datapath"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bpfcover", flag.ContinueOnError)
	flags.SetOutput(stderr)
	out := flags.String("o", "build/bpf-coverage.txt", "file for the figures and the lines that didn't run")
	least := flags.Float64("least", 90, "percent of the lines that must run")
	only := flags.String("run", "", "only the tests that match; the figures are then of little use")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(stdout, "could not run: needs root to load programs")
		return exitCouldNotRun
	}
	p, err := measure(ctx, *only, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "bpfcover:", err)
		return exitFailed
	}
	p = p.Select(own)
	if err := write(*out, p.Report(newSources().text)); err != nil {
		fmt.Fprintln(stderr, "bpfcover:", err)
		return exitFailed
	}
	return judge(p.Count(), *least, *out, stdout)
}

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func judge(c bpfcover.Count, least float64, where string, stdout io.Writer) int {
	fmt.Fprintf(stdout, "%d of %d C lines ran, %.1f %%; the others are in %s\n", c.Ran, c.Lines, c.Percent(), where)
	if c.Percent() < least || c.Lines == 0 {
		fmt.Fprintf(stdout, "expected at least %.1f %%: add tests to %s for those lines, or take away what can't run\n", least, testPackage)
		return exitFailed
	}
	return 0
}

// measure runs the tests and reads what ran.
func measure(ctx context.Context, only string, stderr io.Writer) (bpfcover.Profile, error) {
	work, err := os.MkdirTemp("", "weft-bpfcover-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	profile := filepath.Join(work, "profile")
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout=15m", "-run="+only, "./"+testPackage, "-args", "-bpfcover="+profile, "-random-packets=1m")
	cmd.Stdout, cmd.Stderr = stderr, stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("the tests of %s: %w", testPackage, err)
	}
	file, err := os.Open(profile)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return bpfcover.ReadProfile(file)
}

// own keeps the project's sources, named from its root; the compiler names them from the folder of the tests.
func own(file string) (string, bool) {
	path := filepath.Clean(filepath.Join(testPackage, file))
	return path, strings.HasPrefix(path, "bpf"+string(filepath.Separator))
}

// sources are the files' lines, read once.
type sources struct{ files map[string][]string }

func newSources() sources { return sources{files: map[string][]string{}} }

func (s sources) text(l bpfcover.Line) string {
	lines, ok := s.files[l.File]
	if !ok {
		if data, err := os.ReadFile(l.File); err == nil {
			lines = strings.Split(string(data), "\n")
		}
		s.files[l.File] = lines
	}
	if l.Number < 1 || l.Number > len(lines) {
		return "(the source has changed)"
	}
	return strings.TrimSpace(lines[l.Number-1])
}
