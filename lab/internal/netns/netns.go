// Package netns makes, finds and enters named network namespaces, compatible with `ip netns`.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Dir holds a bind mount for each named namespace, as `ip netns` has it.
const Dir = "/run/netns"

// ErrExist says that a namespace of that name is there already.
var ErrExist = errors.New("network namespace exists")

// ErrNotExist says that there is no namespace of that name.
var ErrNotExist = errors.New("no such network namespace")

// ErrName says that a name can't be a namespace's.
var ErrName = errors.New("a network namespace's name is one path element")

// Path is where the namespace is mounted.
func Path(name string) string { return filepath.Join(Dir, name) }

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("network namespace %q: %w", name, ErrName)
	}
	return nil
}

// Create makes a namespace with nothing in it but a loopback device that is down.
func Create(name string) error {
	return CreateWith(name, func() error { return nil })
}

// CreateWith is Create with a setup that runs inside before the namespace gets its name: nobody sees one
// that is half made.
func CreateWith(name string, setup func() error) error {
	if err := checkName(name); err != nil {
		return err
	}
	if Exists(name) {
		return fmt.Errorf("network namespace %s: %w", name, ErrExist)
	}
	if err := shareDir(); err != nil {
		return err
	}
	// A crash between these two steps leaves an empty file; the next Create mounts over it.
	f, err := os.OpenFile(Path(name), os.O_RDONLY|os.O_CREATE, 0o444)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	err = onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("network namespace %s: unshare: %w", name, err)
		}
		if err := setup(); err != nil {
			return fmt.Errorf("network namespace %s: setup: %w", name, err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", Path(name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("network namespace %s: mount: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, Delete(name))
	}
	return nil
}

// shareDir makes Dir a shared mount, so that a namespace deleted here is gone from every mount namespace
// that inherited the directory; otherwise each of them would keep it alive.
func shareDir() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", Dir, "", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return wrapPath("share", Dir, err)
	}
	// EINVAL: not a mount point yet.
	if err := unix.Mount(Dir, Dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return wrapPath("bind", Dir, err)
	}
	return wrapPath("share", Dir, unix.Mount("", Dir, "", unix.MS_SHARED|unix.MS_REC, ""))
}

func wrapPath(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// Delete removes the name; one that isn't there is no error. The namespace itself lives until the last
// process, socket and mount that uses it is gone, and the kernel then takes it apart in the background:
// a veth whose peer is outside should be deleted by that peer first.
func Delete(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	// More than one mount can sit on a name, if Dir was bound over itself between two creations.
	for {
		err := unix.Unmount(Path(name), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return wrapPath("unmount", Path(name), err)
		}
	}
	if err := os.Remove(Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Exists reports whether the name is a live namespace, not a file that a crash left.
func Exists(name string) bool {
	var st unix.Statfs_t
	return checkName(name) == nil && unix.Statfs(Path(name), &st) == nil && st.Type == unix.NSFS_MAGIC
}

// Inode tells one namespace from the next of the same name; it's the number in /proc/PID/ns/net.
func Inode(name string) (uint64, error) {
	f, err := Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, wrapPath("stat", Path(name), err)
	}
	return st.Ino, nil
}

// List names everything in Dir that begins with prefix, files that a crash left included: Delete takes both.
func List(prefix string) ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Open opens a namespace for setns; the caller closes the file.
func Open(name string) (*os.File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if !Exists(name) {
		return nil, fmt.Errorf("network namespace %s: %w", name, ErrNotExist)
	}
	return os.Open(Path(name))
}

// Do runs fn inside the namespace, on a thread of its own that goes back afterwards or, if it can't, ends.
// What fn starts on other goroutines isn't inside; sockets that it opens stay in the namespace.
func Do(name string, fn func() error) error {
	ns, err := Open(name)
	if err != nil {
		return err
	}
	defer ns.Close()
	return onOwnThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("network namespace %s: enter: %w", name, err)
		}
		return fn()
	})
}

// onOwnThread runs fn, which may change the thread's network namespace, on a goroutine locked to its thread.
func onOwnThread(fn func() error) error {
	var g errgroup.Group
	g.Go(func() error {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			return err
		}
		defer home.Close()
		// A goroutine that ends while locked takes its thread with it: no other goroutine ever runs on
		// one that is left in the wrong namespace.
		defer func() {
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}()
		return fn()
	})
	return g.Wait()
}

// Netlink opens a netlink handle inside the namespace for the families (all that the library knows if
// none is given); the caller closes it.
func Netlink(name string, families ...int) (*netlink.Handle, error) {
	ns, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(vnetns.NsHandle(ns.Fd()), families...)
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: netlink: %w", name, err)
	}
	return h, nil
}
