package cgroup

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestCgroup2Mount(t *testing.T) {
	for _, tt := range []struct {
		line, want string
		ok         bool
	}{
		{"35 24 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw", "/sys/fs/cgroup", true},
		{"35 24 0:30 / /sys/fs/cgroup/unified rw shared:5 - cgroup2 none rw", "/sys/fs/cgroup/unified", true},
		{"35 24 0:30 /sub /mnt rw - cgroup2 none rw", "", false},
		{"35 24 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", "", false},
		{"35 24 0:30 / /a\\040b rw - cgroup2 none rw", "/a b", true},
		{"nonsense", "", false},
		{"35 24 - cgroup2", "", false},
	} {
		got, ok := cgroup2Mount(tt.line)
		if got != tt.want || ok != tt.ok {
			t.Errorf("cgroup2Mount(%q) = %q, %v; want %q, %v", tt.line, got, ok, tt.want, tt.ok)
		}
	}
}

func TestRemoveKillsTheWholeTree(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: needs root to make control groups")
	}
	name := fmt.Sprintf("weft-cgtest%d-x", os.Getpid())
	g, err := Create(name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	t.Cleanup(func() { _ = g.Remove(ctx) })
	inner := Group{Path: filepath.Join(g.Path, "a", "b")}
	if err := os.MkdirAll(inner.Path, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := inner.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }()
	if alive, err := g.Populated(); err != nil || !alive {
		t.Fatalf("populated = %v, %v; want true", alive, err)
	}
	if list, err := List(name); err != nil || len(list) != 1 {
		t.Fatalf("List = %v, %v; want one group", list, err)
	}
	if err := g.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	<-done
	if _, err := os.Stat(g.Path); !os.IsNotExist(err) {
		t.Errorf("group is still there: %v", err)
	}
	if err := g.Remove(ctx); err != nil {
		t.Errorf("second Remove: %v", err)
	}
}
