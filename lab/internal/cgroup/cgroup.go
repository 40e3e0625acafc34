// Package cgroup keeps the lab's processes in control groups of cgroup version 2, by whose names alone
// they can be killed and counted.
package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Root finds where cgroup version 2 is mounted: /sys/fs/cgroup, or beside version 1's controllers.
func Root() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("find cgroup2: %w", err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if point, ok := cgroup2Mount(s.Text()); ok {
			return point, nil
		}
	}
	if err := s.Err(); err != nil {
		return "", fmt.Errorf("find cgroup2: %w", err)
	}
	return "", errors.New("find cgroup2: it is mounted nowhere; mount it with: mount -t cgroup2 none /sys/fs/cgroup/unified")
}

// cgroup2Mount returns the mount point if a line of mountinfo is of the whole cgroup2 hierarchy.
func cgroup2Mount(line string) (string, bool) {
	before, after, ok := strings.Cut(line, " - ")
	if !ok {
		return "", false
	}
	kind, _, _ := strings.Cut(after, " ")
	fields := strings.Fields(before)
	if kind != "cgroup2" || len(fields) < 5 || fields[3] != "/" {
		return "", false
	}
	return strings.ReplaceAll(fields[4], `\040`, " "), true
}

// Group is one control group.
type Group struct{ Path string }

// Create makes a control group below the root.
func Create(name string) (Group, error) {
	root, err := Root()
	if err != nil {
		return Group{}, err
	}
	g := Group{Path: filepath.Join(root, name)}
	if err := os.MkdirAll(g.Path, 0o755); err != nil {
		return Group{}, fmt.Errorf("cgroup %s: %w", name, err)
	}
	return g, nil
}

// Open gives a descriptor with which a process is born inside the group.
func (g Group) Open() (*os.File, error) {
	fd, err := unix.Open(g.Path, unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("cgroup %s: %w", g.Path, err)
	}
	return os.NewFile(uintptr(fd), g.Path), nil
}

// Join moves a process into the group.
func (g Group) Join(pid int) error {
	if err := os.WriteFile(filepath.Join(g.Path, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		return fmt.Errorf("cgroup %s: join: %w", g.Path, err)
	}
	return nil
}

// List returns the groups below the root whose names begin with prefix.
func List(prefix string) ([]Group, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(root, prefix+"*"))
	if err != nil {
		return nil, fmt.Errorf("list cgroups: %w", err)
	}
	var groups []Group
	for _, p := range paths {
		if st, err := os.Stat(p); err == nil && st.IsDir() {
			groups = append(groups, Group{Path: p})
		}
	}
	return groups, nil
}

// Kill ends every process of the group and of those below it, at once.
func (g Group) Kill() error {
	err := os.WriteFile(filepath.Join(g.Path, "cgroup.kill"), []byte("1"), 0)
	if err != nil && !gone(err) {
		return fmt.Errorf("cgroup %s: kill: %w", g.Path, err)
	}
	return nil
}

// Populated says whether a process lives in the group or below it.
func (g Group) Populated() (bool, error) {
	b, err := os.ReadFile(filepath.Join(g.Path, "cgroup.events"))
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cgroup %s: %w", g.Path, err)
	}
	return strings.Contains(string(b), "populated 1"), nil
}

// Remove kills what lives in the group, waits until it is dead and removes the whole tree.
func (g Group) Remove(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		// Again each time: a process that was being born misses the first one.
		if err := g.Kill(); err != nil {
			return err
		}
		err := removeTree(g.Path)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cgroup %s: remove: %w (%w)", g.Path, err, ctx.Err())
		case <-tick.C:
		}
	}
}

// removeTree removes directories only, deepest first: a cgroup's files go with it.
func removeTree(path string) error {
	entries, err := os.ReadDir(path)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var failed error
	for _, e := range entries {
		if e.IsDir() {
			failed = errors.Join(failed, removeTree(filepath.Join(path, e.Name())))
		}
	}
	if failed != nil {
		return failed
	}
	if err := unix.Rmdir(path); err != nil && !gone(err) {
		return &fs.PathError{Op: "rmdir", Path: path, Err: err}
	}
	return nil
}

func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}
