package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// exitCouldNotRun is the exit code by which a tier says that this machine can't run it; its last line of
// output is the reason. 77 is what automake's tests use.
const exitCouldNotRun = 77

type tier struct {
	name    string
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
	took  time.Duration
	why   string
}

// readTiers parses lines of name, time limit and shell command, separated by white space.
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
		if len(f) < 3 {
			return nil, fmt.Errorf("%s:%d: found %q, expected: name limit command", path, n+1, line)
		}
		limit, err := time.ParseDuration(f[1])
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n+1, err)
		}
		out = append(out, tier{name: f[0], limit: limit, command: strings.Join(f[2:], " ")})
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

// execute runs one tier in a process group of its own, so that a limit ends all of it.
func execute(ctx context.Context, t tier, logPath string, w io.Writer) result {
	fmt.Fprintf(w, "\n=== tier %s: %s\n", t.name, t.command)
	started := time.Now()
	r := result{tier: t}
	f, err := os.Create(logPath)
	if err != nil {
		r.state, r.why = failed, err.Error()
		return r
	}
	defer f.Close()
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
	var exit *exec.ExitError
	switch {
	case err == nil:
		r.state = passed
	case ctx.Err() != nil:
		r.state, r.why = failed, fmt.Sprintf("not done after %s, output in %s", t.limit, logPath)
	case errors.As(err, &exit) && exit.ExitCode() == exitCouldNotRun:
		r.state, r.why = couldNotRun, last.line()
	default:
		r.state, r.why = failed, fmt.Sprintf("%v, output in %s", err, logPath)
	}
	return r
}

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if n := len(t.b) - 4096; n > 0 {
		t.b = t.b[n:]
	}
	return len(p), nil
}

// line is the last line that isn't empty.
func (t *tail) line() string {
	last := ""
	s := bufio.NewScanner(bytes.NewReader(t.b))
	for s.Scan() {
		if l := strings.TrimSpace(s.Text()); l != "" {
			last = l
		}
	}
	return last
}
