package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// exitCouldNotRun is the exit code by which a tier says that this machine can't run it; its last line of
// output is the reason. 77 is what automake's tests use.
const exitCouldNotRun = 77

// interrupted is why a tier failed that didn't end because somebody ended the whole.
const interrupted = "interrupted"

type tier struct {
	name    string
	lane    string
	limit   time.Duration
	command string
}

type state string

const (
	passed      state = "passed"
	failed      state = "FAILED"
	couldNotRun state = "COULD NOT RUN"
)

type result struct {
	tier  tier
	state state
	began time.Duration // after all of it began
	took  time.Duration
	cpu   time.Duration // of its processes, but for those that it left running
	why   string
	log   string // path of its output
}

// readTiers parses lines of name, lane, time limit and shell command, separated by white space.
func readTiers(path string) ([]tier, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []tier
	for n, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 4 {
			return nil, fmt.Errorf("%s:%d: found %q, expected: name lane limit command", path, n+1, line)
		}
		limit, err := time.ParseDuration(f[2])
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n+1, err)
		}
		out = append(out, tier{name: f[0], lane: f[1], limit: limit, command: strings.Join(f[3:], " ")})
	}
	return out, nil
}

// readAllowed parses lines of "tier: reason"; a missing file allows nothing.
func readAllowed(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for n, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, why, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(why) == "" {
			return nil, fmt.Errorf("%s:%d: found %q, expected: tier: reason", path, n+1, line)
		}
		out[name] = strings.TrimSpace(why)
	}
	return out, nil
}

// runLanes runs each lane's tiers one after the other, the lanes side by side, and returns the results in the order
// of the tiers.
func runLanes(ctx context.Context, tiers []tier, logs string, w io.Writer) []result {
	began := time.Now()
	lanes := map[string][]int{}
	for i, t := range tiers {
		lanes[t.lane] = append(lanes[t.lane], i)
	}
	out := newLines(w)
	results := make([]result, len(tiers))
	var group sync.WaitGroup
	for _, lane := range lanes {
		group.Go(func() {
			for _, i := range lane {
				t, start := tiers[i], time.Since(began)
				results[i] = result{tier: t, state: failed, why: interrupted}
				if ctx.Err() == nil {
					results[i] = execute(ctx, t, filepath.Join(logs, t.name+".log"), out.of(t.name))
				}
				results[i].began = start
			}
		})
	}
	group.Wait()
	return results
}

// execute runs one tier in a process group of its own, so that a limit ends all of it.
func execute(ctx context.Context, t tier, logPath string, w io.Writer) result {
	fmt.Fprintf(w, "=== tier %s: %s\n", t.name, t.command)
	started := time.Now()
	r := result{tier: t, log: logPath}
	f, err := os.Create(logPath)
	if err != nil {
		r.state, r.why = failed, err.Error()
		return r
	}
	defer f.Close()
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, t.limit)
	defer cancel()
	var last tail
	cmd := exec.CommandContext(ctx, "bash", "-c", t.command)
	cmd.Stdout = io.MultiWriter(w, f, &last)
	cmd.Stderr = cmd.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	err = cmd.Run()
	r.took = time.Since(started)
	if s := cmd.ProcessState; s != nil {
		r.cpu = s.UserTime() + s.SystemTime()
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		r.state = passed
	case whole.Err() != nil:
		r.state, r.why = failed, interrupted
	case ctx.Err() != nil:
		r.state, r.why = failed, fmt.Sprintf("not done after %s, output in %s", t.limit, logPath)
	case errors.As(err, &exit) && exit.ExitCode() == exitCouldNotRun:
		r.state, r.why = couldNotRun, last.line()
	default:
		r.state, r.why = failed, fmt.Sprintf("%v, output in %s", err, logPath)
	}
	if !last.whole() {
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "=== tier %s: %s after %.0f s %s\n", t.name, r.state, r.took.Seconds(), r.why)
	return r
}
