package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/weft-cni/weft/internal/socklb"
)

// A ControlGroup is one whose processes' sockets an agent may connect: a node's pods would be in it.
type ControlGroup struct {
	Dir  string
	file *os.File
}

// NewControlGroup makes one at the root of the machine's. The name must be the process's own.
func NewControlGroup(name string) (*ControlGroup, error) {
	root, err := socklb.FindCgroup("/sys/fs/cgroup")
	if err != nil {
		return nil, err
	}
	g := &ControlGroup{Dir: filepath.Join(root, fmt.Sprintf("weft-%s-%d", name, os.Getpid()))}
	if err := os.Mkdir(g.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a control group (needs root): %w", err)
	}
	if g.file, err = os.Open(g.Dir); err != nil {
		return nil, errors.Join(err, os.Remove(g.Dir))
	}
	return g, nil
}

// Join has a process begin in the group.
func (g *ControlGroup) Join(attr *syscall.SysProcAttr) {
	attr.UseCgroupFD, attr.CgroupFD = true, int(g.file.Fd())
}

// Close removes the group, whose processes have ended or are about to.
func (g *ControlGroup) Close() error {
	err := Await(context.Background(), 20*time.Second, "the control group's processes have ended", func() error { return os.Remove(g.Dir) })
	return errors.Join(g.file.Close(), err)
}
