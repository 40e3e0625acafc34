package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// tcxAttacher keeps a pinned link for each hook and device (kernel 6.6).
type tcxAttacher struct {
	dir string
}

func (t *tcxAttacher) path(hook Hook, ifindex int) string {
	return filepath.Join(t.dir, linkName(attachment{hook, ifindex}))
}

func linkName(a attachment) string { return a.hook.String() + "-" + strconv.Itoa(a.ifindex) }

func parseLinkName(name string) (attachment, bool) {
	hookName, number, ok := strings.Cut(name, "-")
	if !ok {
		return attachment{}, false
	}
	ifindex, err := strconv.Atoi(number)
	if err != nil || ifindex < 1 || strconv.Itoa(ifindex) != number {
		return attachment{}, false
	}
	for _, h := range Hooks() {
		if h.String() == hookName {
			return attachment{h, ifindex}, true
		}
	}
	return attachment{}, false
}

func (t *tcxAttacher) attach(hook Hook, ifindex int, prog *ebpf.Program) error {
	path := t.path(hook, ifindex)
	updated, err := t.update(path, ifindex, prog)
	if err != nil {
		return fmt.Errorf("update %s: %w", path, err)
	}
	if updated {
		return nil
	}
	where := ebpf.AttachTCXEgress
	if hook.ingress() {
		where = ebpf.AttachTCXIngress
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: prog, Attach: where})
	if errors.Is(err, unix.ENODEV) {
		return &DeviceError{Ifindex: ifindex, Err: err}
	}
	if err != nil {
		return fmt.Errorf("attach %s to interface index %d: %w", hook, ifindex, err)
	}
	defer l.Close()
	if err := l.Pin(path); err != nil {
		return fmt.Errorf("pin %s: %w", path, err)
	}
	return nil
}

// update swaps the program of the pinned link. A link whose device is gone is removed, because another
// device may have its index by now.
func (t *tcxAttacher) update(path string, ifindex int, prog *ebpf.Program) (bool, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return false, err
	}
	if tcx := info.TCX(); tcx == nil || int(tcx.Ifindex) != ifindex {
		return false, os.Remove(path)
	}
	id, ok := programID(prog)
	if ok && info.Program == id {
		return true, nil
	}
	err = l.Update(prog)
	if errors.Is(err, unix.ENOLINK) {
		return false, os.Remove(path)
	}
	return err == nil, err
}

func programID(prog *ebpf.Program) (ebpf.ProgramID, bool) {
	info, err := prog.Info()
	if err != nil {
		return 0, false
	}
	return info.ID()
}

func (t *tcxAttacher) detach(hook Hook, ifindex int) error {
	path := t.path(hook, ifindex)
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer l.Close()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// Somebody may hold the link open still, so removing the pin is not enough.
	if err := l.Detach(); err != nil && !errors.Is(err, unix.ENOLINK) {
		return fmt.Errorf("detach %s from interface index %d: %w", hook, ifindex, err)
	}
	return nil
}

func (t *tcxAttacher) attached() ([]attachment, error) {
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return nil, err
	}
	var out []attachment
	for _, e := range entries {
		a, ok := parseLinkName(e.Name())
		if !ok {
			continue
		}
		alive, err := t.reap(t.path(a.hook, a.ifindex), a.ifindex)
		if err != nil {
			return nil, err
		}
		if alive {
			out = append(out, a)
		}
	}
	return out, nil
}

// reap removes a pin whose link lost its device, and tells whether the link is alive.
func (t *tcxAttacher) reap(path string, ifindex int) (bool, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open %s: %w", path, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	if tcx := info.TCX(); tcx == nil || int(tcx.Ifindex) != ifindex {
		return false, os.Remove(path)
	}
	return true, nil
}
