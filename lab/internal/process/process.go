// Package process starts programs inside a network namespace and a control group, and keeps them running.
package process

import (
	"bytes"
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

	"github.com/weft-cni/weft/lab/internal/cgroup"
	"github.com/weft-cni/weft/lab/internal/netns"
)

// Command is a program and where it runs.
type Command struct {
	// Name is how logs and errors call it.
	Name string
	// Path is the file; Args begins with argv[0].
	Path string
	Args []string
	Env  []string
	// Netns is the name of a network namespace; empty is the caller's own.
	Netns  string
	Cgroup cgroup.Group
	// Cloneflags are further namespaces that it gets new.
	Cloneflags uintptr
	// Log is appended to.
	Log string
}

// Start starts the command. It is born in its control group, so that killing the group can't miss it.
func Start(c Command) (*exec.Cmd, error) {
	if err := os.MkdirAll(filepath.Dir(c.Log), 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	defer log.Close()
	group, err := c.Cgroup.Open()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	defer group.Close()
	cmd := &exec.Cmd{
		Path: c.Path, Args: c.Args, Env: c.Env, Dir: "/",
		Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:      true,
			UseCgroupFD: true,
			CgroupFD:    int(group.Fd()),
			Cloneflags:  c.Cloneflags,
		},
	}
	start := cmd.Start
	if c.Netns != "" {
		// The child is forked by the thread that is in the namespace.
		start = func() error { return netns.Do(c.Netns, cmd.Start) }
	}
	if err := start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	return cmd, nil
}

// A program that ends this often without having stayed up for a while is broken.
const (
	crashLimit = 3
	stayedUp   = 20 * time.Second
	pause      = 200 * time.Millisecond
)

// CrashError says that a program can't be kept running.
type CrashError struct {
	Name    string
	Crashes int
	Last    string
	// Tail is the end of its log.
	Tail string
}

func (e *CrashError) Error() string {
	return fmt.Sprintf("%s ended %d times (last: %s); the end of its log:\n%s", e.Name, e.Crashes, e.Last, e.Tail)
}

// Service keeps a command running.
type Service struct {
	Command Command
	// Alive is called with each start's pid; it may be nil.
	Alive func(pid int)

	mu       sync.Mutex
	restarts int
	running  bool
}

// State is a service as seen from outside.
type State struct {
	Name     string `json:"name"`
	Running  bool   `json:"running"`
	Restarts int    `json:"restarts"`
}

// State returns how the service is.
func (s *Service) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return State{Name: s.Command.Name, Running: s.running, Restarts: s.restarts}
}

// Run starts the command, starts it again whenever it ends, and kills it when ctx ends. It returns a
// CrashError when the command keeps crashing.
func (s *Service) Run(ctx context.Context) error {
	crashes := 0
	for {
		began := time.Now()
		cmd, err := Start(s.Command)
		if err != nil {
			return err
		}
		if s.Alive != nil {
			s.Alive(cmd.Process.Pid)
		}
		s.set(true, false)
		err = wait(ctx, cmd)
		s.set(false, ctx.Err() == nil)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > stayedUp {
			crashes = 0
		}
		crashes++
		if crashes >= crashLimit {
			return &CrashError{Name: s.Command.Name, Crashes: crashes, Last: ended(err), Tail: Tail(s.Command.Log, 15)}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (s *Service) set(running, restarted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = running
	if restarted {
		s.restarts++
	}
}

func wait(ctx context.Context, cmd *exec.Cmd) error {
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	return cmd.Wait()
}

func ended(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// Tail returns the last lines of a file, or why it can't be read.
func Tail(path string, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 64 << 10
	if size, err := f.Seek(0, io.SeekEnd); err == nil && size > most {
		_, err = f.Seek(-most, io.SeekEnd)
		if err != nil {
			return err.Error()
		}
	} else if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(f)
	if err != nil && !errors.Is(err, io.EOF) {
		return err.Error()
	}
	all := strings.Split(string(bytes.TrimRight(b, "\n")), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
