package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tunables are settings that kubelet insists on. They are the machine's, so a node sees files of its own
// in their place: kubelet is content and the machine keeps its values.
var tunables = []struct{ path, value string }{
	{"vm/overcommit_memory", "1"},
	{"vm/panic_on_oom", "0"},
	{"kernel/panic", "10"},
	{"kernel/panic_on_oops", "1"},
	{"kernel/keys/root_maxkeys", "1000000"},
	{"kernel/keys/root_maxbytes", "25000000"},
}

// step is one mount below the node's root.
type step struct {
	source, target, kind string
	flags                uintptr
	data                 string
	readOnly             bool
	// optional: a source that the machine doesn't have is left out.
	optional bool
}

// mounts lists the node's file systems in order. Overlayfs needs an upper layer that isn't overlayfs
// itself: /var is a directory of the machine's disk.
func mounts(spec Spec) []step {
	bind := func(source, target string) step {
		return step{source: source, target: target, flags: unix.MS_BIND}
	}
	readOnly := func(source, target string, optional bool) step {
		return step{source: source, target: target, flags: unix.MS_BIND | unix.MS_REC, readOnly: true, optional: optional}
	}
	list := []step{readOnly("/usr", "/usr", false)}
	for _, d := range diskDirs {
		list = append(list, bind(filepath.Join(spec.Disk, d), "/"+d))
	}
	list = append(list, readOnly(spec.Bin, BinDir, false))
	for _, f := range []string{"passwd", "group", "nsswitch.conf", "protocols", "services", "ld.so.cache", "alternatives"} {
		list = append(list, readOnly("/etc/"+f, "/etc/"+f, true))
	}
	list = append(list,
		step{"tmpfs", "/run", "tmpfs", 0, "mode=755", false, false},
		step{"tmpfs", "/tmp", "tmpfs", 0, "mode=1777", false, false},
		step{"tmpfs", "/dev", "tmpfs", unix.MS_NOSUID, "mode=755", false, false},
	)
	for _, d := range []string{"null", "zero", "full", "random", "urandom", "tty", "kmsg", "fuse", "net/tun"} {
		list = append(list, step{source: "/dev/" + d, target: "/dev/" + d, flags: unix.MS_BIND, optional: true})
	}
	return append(list,
		step{"devpts", "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=0620,gid=5", false, false},
		step{"tmpfs", "/dev/shm", "tmpfs", 0, "mode=1777", false, false},
		step{"mqueue", "/dev/mqueue", "mqueue", 0, "", false, false},
		step{"proc", "/proc", "proc", 0, "", false, false},
		step{"sysfs", "/sys", "sysfs", 0, "", false, false},
		// Version 2 alone, as Amazon Linux 2023 has it; what is mounted is the node's own subtree.
		step{"cgroup2", "/sys/fs/cgroup", "cgroup2", 0, "", false, false},
		step{"bpf", "/sys/fs/bpf", "bpf", 0, "", false, false},
		step{"debugfs", "/sys/kernel/debug", "debugfs", 0, "", false, true},
		step{"tracefs", "/sys/kernel/tracing", "tracefs", 0, "", false, true},
	)
}

var diskDirs = []string{"var", "opt", "home", "root", "mnt", "etc"}

func makeRoot(spec Spec) error {
	// Nothing that is mounted from here on is seen by the machine.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := os.MkdirAll(spec.Root, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", spec.Root, "tmpfs", 0, "mode=755,size=64m"); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	for _, d := range append([]string{"var/log", "var/lib"}, diskDirs...) {
		if err := os.MkdirAll(filepath.Join(spec.Disk, d), 0o755); err != nil {
			return err
		}
	}
	for _, s := range mounts(spec) {
		if err := mount(spec.Root, s); err != nil {
			return err
		}
	}
	for _, l := range []struct{ target, name string }{
		{"usr/bin", "/bin"}, {"usr/sbin", "/sbin"}, {"usr/lib", "/lib"}, {"usr/lib64", "/lib64"},
		{"/run", "/var/run"}, {"pts/ptmx", "/dev/ptmx"}, {"/proc/self/fd", "/dev/fd"},
	} {
		if err := os.Symlink(l.target, filepath.Join(spec.Root, l.name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := maskTunables(spec.Root); err != nil {
		return err
	}
	for name, content := range map[string]string{
		"hostname":   spec.Hostname + "\n",
		"machine-id": spec.MachineID + "\n",
		"hosts":      "127.0.0.1 localhost\n::1 localhost\n",
	} {
		if err := os.WriteFile(filepath.Join(spec.Root, "etc", name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return pivot(spec.Root)
}

func mount(root string, s step) error {
	target := filepath.Join(root, s.target)
	isFile := false
	if s.flags&unix.MS_BIND != 0 {
		st, err := os.Stat(s.source)
		if errors.Is(err, fs.ErrNotExist) && s.optional {
			return nil
		}
		if err != nil {
			return err
		}
		isFile = !st.IsDir()
	}
	if err := mountPoint(target, isFile); err != nil {
		return err
	}
	if err := unix.Mount(s.source, target, s.kind, s.flags, s.data); err != nil {
		if s.optional {
			return nil
		}
		return fmt.Errorf("mount %s at %s: %w", s.source, s.target, err)
	}
	if s.readOnly {
		if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("mount %s read-only: %w", s.target, err)
		}
	}
	return nil
}

func mountPoint(target string, isFile bool) error {
	if !isFile {
		err := os.MkdirAll(target, 0o755)
		// debugfs and tracefs have mount points in sysfs or none.
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

func maskTunables(root string) error {
	dir := filepath.Join(root, "run", "weft-lab-sysctl")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, t := range tunables {
		f := filepath.Join(dir, strings.ReplaceAll(t.path, "/", "."))
		if err := os.WriteFile(f, []byte(t.value+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(f, filepath.Join(root, "proc/sys", t.path), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mask /proc/sys/%s: %w", t.path, err)
		}
	}
	return nil
}

func pivot(root string) error {
	old := filepath.Join(root, ".old")
	if err := os.MkdirAll(old, 0o755); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, old); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/.old", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the machine's root: %w", err)
	}
	if err := os.Remove("/.old"); err != nil {
		return err
	}
	// Bidirectional mounts of pods need a shared tree; they stay inside the node.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts: %w", err)
	}
	return nil
}

// enterSystemGroup moves pid 1 out of the node's root group: groups of pods are its siblings, and a group
// with processes of its own can't hand controllers down.
func enterSystemGroup() error {
	const root = "/sys/fs/cgroup"
	if err := os.MkdirAll(root+"/system", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(root+"/system/cgroup.procs", []byte("1"), 0); err != nil {
		return fmt.Errorf("join the system group: %w", err)
	}
	b, err := os.ReadFile(root + "/cgroup.controllers")
	if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(b)) {
		switch c {
		case "cpu", "cpuset", "memory", "pids", "io":
			if err := os.WriteFile(root+"/cgroup.subtree_control", []byte("+"+c), 0); err != nil {
				return fmt.Errorf("enable controller %s: %w", c, err)
			}
		}
	}
	return nil
}
