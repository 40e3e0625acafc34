package socklb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// attach has the pinned link to the control group with this number run prog, or makes one.
func (b *Balancer) attach(cgroup string, id uint64, dir, name string, at ebpf.AttachType, prog *ebpf.Program) error {
	if prog == nil {
		return errors.New("the program is missing from the object")
	}
	path := filepath.Join(dir, name)
	l, err := link.LoadPinnedLink(path, nil)
	switch {
	case err == nil:
		alive, err := attachedTo(l, id)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		if alive {
			b.links[name] = l
			return l.Update(prog)
		}
		// Another root than today's: its sockets aren't this node's.
		if err := errors.Join(os.Remove(path), l.Close()); err != nil {
			return err
		}
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("open %s: %w", path, err)
	}
	l, err = link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: at, Program: prog})
	if err != nil {
		return err
	}
	b.links[name] = l
	return l.Pin(path)
}

func attachedTo(l link.Link, id uint64) (bool, error) {
	info, err := l.Info()
	if err != nil {
		return false, err
	}
	c := info.Cgroup()
	return c != nil && uint64(c.CgroupId) == id, nil
}

// cgroupID is the number by which the kernel knows a control group: its directory's inode.
func cgroupID(dir string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	return st.Ino, nil
}

// FindCgroup is the root of the control groups of version 2 below the first of the directories that has it:
// itself, or the folder "unified" of hosts that have both versions.
func FindCgroup(dirs ...string) (string, error) {
	for _, dir := range dirs {
		for _, d := range []string{dir, filepath.Join(dir, "unified")} {
			var fs unix.Statfs_t
			if err := unix.Statfs(d, &fs); err == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
				return d, nil
			}
		}
	}
	return "", fmt.Errorf("no control groups of version 2 at %v; expected the node's own to be mounted there", dirs)
}
