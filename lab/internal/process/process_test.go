package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weft-cni/weft/lab/internal/cgroup"
)

func group(t *testing.T) cgroup.Group {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: needs root to make control groups")
	}
	g, err := cgroup.Create(fmt.Sprintf("weft-proctest%d-x", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := g.Remove(ctx); err != nil {
			t.Error(err)
		}
	})
	return g
}

func TestServiceThatCrashesIsGivenUpWithItsLog(t *testing.T) {
	s := &Service{Command: Command{
		Name: "broken", Path: "/bin/sh", Args: []string{"sh", "-c", "echo no such flag; exit 3"},
		Cgroup: group(t), Log: filepath.Join(t.TempDir(), "log", "broken.log"),
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := s.Run(ctx)
	var crash *CrashError
	if !errors.As(err, &crash) {
		t.Fatalf("Run = %v, want a CrashError", err)
	}
	if crash.Crashes != crashLimit || !strings.Contains(crash.Error(), "no such flag") || !strings.Contains(crash.Last, "3") {
		t.Errorf("crash = %+v", crash)
	}
	if st := s.State(); st.Running || st.Restarts != crashLimit {
		t.Errorf("state = %+v", st)
	}
}

func TestServiceEndsWithItsContext(t *testing.T) {
	g := group(t)
	up := make(chan int, 1)
	s := &Service{
		Command: Command{Name: "sleep", Path: "/bin/sleep", Args: []string{"sleep", "600"}, Cgroup: g, Log: filepath.Join(t.TempDir(), "s.log")},
		Alive:   func(pid int) { up <- pid },
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-up
	if alive, err := g.Populated(); err != nil || !alive {
		t.Errorf("populated = %v, %v: the command was not born in its group", alive, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(strings.Repeat("x\n", 100000)+"a\nb\nc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := Tail(path, 2); got != "b\nc" {
		t.Errorf("Tail = %q", got)
	}
	if got := Tail(path+".no", 2); !strings.Contains(got, "no such file") {
		t.Errorf("Tail of nothing = %q", got)
	}
}
