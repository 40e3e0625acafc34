package socklb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

const cgroupEnv = "WEFT_SOCKLB_TEST_CGROUP"

// TestMain runs the tests in namespaces and a control group of their own: no socket of the machine meets the
// programs.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getuid() != 0 || os.Getenv(cgroupEnv) != "" {
		return nstest.Main(m)
	}
	leave, err := joinCgroup()
	if err != nil {
		fmt.Fprintln(os.Stderr, "control group of the tests:", err)
		return 1
	}
	code := nstest.Main(m)
	if err := leave(); err != nil {
		fmt.Fprintln(os.Stderr, "control group of the tests:", err)
		return 1
	}
	return code
}

// joinCgroup moves this process into a new control group, which the processes that it starts inherit.
func joinCgroup() (leave func() error, err error) {
	root, err := FindCgroup("/sys/fs/cgroup")
	if err != nil {
		// A host without any: as a guest that has just booted.
		root = "/sys/fs/cgroup"
		if err := errors.Join(os.MkdirAll(root, 0o755), unix.Mount("cgroup2", root, "cgroup2", 0, "")); err != nil {
			return nil, err
		}
	}
	before, err := ownCgroup()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, "weft-socklb-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	join := func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err := join(dir); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	if err := os.Setenv(cgroupEnv, dir); err != nil {
		return nil, err
	}
	return func() error { return errors.Join(join(filepath.Join(root, before)), os.Remove(dir)) }, nil
}

// ownCgroup is this process's, below the root of version 2.
func ownCgroup() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path, nil
		}
	}
	return "", errors.New("/proc/self/cgroup has no line of version 2")
}

// testConfig has pins and a control group of its own.
func testConfig(t *testing.T) Config {
	t.Helper()
	nstest.NeedRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("bpffs", dir, "bpf", 0, ""); err != nil {
		t.Fatal("mount a BPF file system:", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return Config{PinDir: filepath.Join(dir, "v1"), Cgroup: os.Getenv(cgroupEnv)}
}
