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

// tcxAttacher has a pinned link for each hook and device (kernel 6.6). It also holds the links open: as long
// as this process lives, a pin that somebody removes takes no program off its device.
type tcxAttacher struct {
	dir  string
	held map[attachment]link.Link
}

func newTCXAttacher(dir string) *tcxAttacher {
	return &tcxAttacher{dir: dir, held: map[attachment]link.Link{}}
}

func (t *tcxAttacher) path(a attachment) string { return filepath.Join(t.dir, linkName(a)) }

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

func tcxPlace(hook Hook) ebpf.AttachType {
	if hook.ingress() {
		return ebpf.AttachTCXIngress
	}
	return ebpf.AttachTCXEgress
}

func (t *tcxAttacher) attach(hook Hook, ifindex int, prog *ebpf.Program) error {
	a := attachment{hook, ifindex}
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	l, err := t.find(a)
	if err != nil {
		return fmt.Errorf("%s at interface index %d: %w", hook, ifindex, err)
	}
	if l != nil {
		err := update(l, prog)
		if err == nil {
			return t.keep(a, l)
		}
		if !errors.Is(err, unix.ENOLINK) {
			return errors.Join(fmt.Errorf("update %s at interface index %d: %w", hook, ifindex, err), l.Close())
		}
		if err := t.forget(a, l); err != nil {
			return err
		}
	}
	l, err = link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: prog, Attach: tcxPlace(hook)})
	if errors.Is(err, unix.ENODEV) {
		return &DeviceError{Ifindex: ifindex, Err: err}
	}
	if err != nil {
		return fmt.Errorf("attach %s to interface index %d: %w", hook, ifindex, err)
	}
	return t.keep(a, l)
}

// find returns the link of a living device: the one that is held, the pinned one, or one that lives without
// a pin, as after another BPF file system was mounted over the pins.
func (t *tcxAttacher) find(a attachment) (link.Link, error) {
	if l, ok := t.held[a]; ok {
		alive, err := aliveAt(l, a.ifindex)
		if err != nil || alive {
			return l, err
		}
		if err := t.forget(a, l); err != nil {
			return nil, err
		}
	}
	l, err := link.LoadPinnedLink(t.path(a), nil)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return t.query(a)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", t.path(a), err)
	}
	alive, err := aliveAt(l, a.ifindex)
	switch {
	case err != nil:
		return nil, errors.Join(err, l.Close())
	case alive:
		return l, nil
	}
	// Another device may have the index by now.
	if err := t.forget(a, l); err != nil {
		return nil, err
	}
	return t.query(a)
}

// query looks for our programs on the device. If there are several, the others are taken off.
func (t *tcxAttacher) query(a attachment) (link.Link, error) {
	ids, err := ourLinks(a)
	if err != nil {
		return nil, err
	}
	var found link.Link
	for _, id := range ids {
		l, err := link.NewFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if found == nil {
			found = l
			continue
		}
		if err := errors.Join(l.Detach(), l.Close()); err != nil && !errors.Is(err, unix.ENOLINK) {
			return nil, err
		}
	}
	return found, nil
}

// ourLinks are those on the device whose program has the hook's name and uses our maps.
func ourLinks(a attachment) ([]link.ID, error) {
	programs, err := link.QueryPrograms(link.QueryOptions{Target: a.ifindex, Attach: tcxPlace(a.hook)})
	if errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list its programs: %w", err)
	}
	var out []link.ID
	for _, p := range programs.Programs {
		id, ok := p.LinkID()
		if !ok {
			continue
		}
		ours, err := isOurs(p.ID, a.hook)
		if err != nil {
			return nil, err
		}
		if ours {
			out = append(out, id)
		}
	}
	return out, nil
}

func aliveAt(l link.Link, ifindex int) (bool, error) {
	info, err := l.Info()
	if err != nil {
		return false, err
	}
	tcx := info.TCX()
	return tcx != nil && int(tcx.Ifindex) == ifindex, nil
}

func update(l link.Link, prog *ebpf.Program) error {
	info, err := l.Info()
	if err != nil {
		return err
	}
	if id, ok := programID(prog); ok && info.Program == id {
		return nil
	}
	return l.Update(prog)
}

func programID(prog *ebpf.Program) (ebpf.ProgramID, bool) {
	info, err := prog.Info()
	if err != nil {
		return 0, false
	}
	return info.ID()
}

// keep holds the link and sees to its pin.
func (t *tcxAttacher) keep(a attachment, l link.Link) error {
	if old := t.held[a]; old != nil && old != l {
		if err := old.Close(); err != nil {
			return err
		}
	}
	t.held[a] = l
	info, err := l.Info()
	if err != nil {
		return err
	}
	if pinned, err := link.LoadPinnedLink(t.path(a), nil); err == nil {
		have, err := pinned.Info()
		if err := errors.Join(err, pinned.Close()); err != nil {
			return err
		}
		if have.ID == info.ID {
			return nil
		}
		if err := os.Remove(t.path(a)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("open %s: %w", t.path(a), err)
	}
	// A handle that never had a pin: one that had would only be renamed.
	fresh, err := link.NewFromID(info.ID)
	if err != nil {
		return err
	}
	if err := errors.Join(fresh.Pin(t.path(a)), fresh.Close()); err != nil {
		return fmt.Errorf("pin %s: %w", t.path(a), err)
	}
	return nil
}

// forget lets go of a link that has no device any more.
func (t *tcxAttacher) forget(a attachment, l link.Link) error {
	if t.held[a] == l {
		delete(t.held, a)
	}
	err := os.Remove(t.path(a))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, l.Close())
}

func (t *tcxAttacher) detach(hook Hook, ifindex int) error {
	a := attachment{hook, ifindex}
	l, err := t.find(a)
	if err != nil {
		return fmt.Errorf("%s at interface index %d: %w", hook, ifindex, err)
	}
	if l == nil {
		return nil
	}
	// Somebody else may hold the link open, so removing the pin is not enough.
	if err := l.Detach(); err != nil && !errors.Is(err, unix.ENOLINK) {
		return errors.Join(fmt.Errorf("detach %s from interface index %d: %w", hook, ifindex, err), l.Close())
	}
	return t.forget(a, l)
}

func (t *tcxAttacher) attached() ([]attachment, error) {
	seen := map[attachment]bool{}
	entries, err := os.ReadDir(t.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if a, ok := parseLinkName(e.Name()); ok {
			seen[a] = true
		}
	}
	list, err := devices()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	for _, d := range list {
		for _, h := range Hooks() {
			seen[attachment{h, d.Attrs().Index}] = true
		}
	}
	for a := range t.held {
		seen[a] = true
	}
	var out []attachment
	for a := range seen {
		l, err := t.find(a)
		if err != nil {
			return nil, fmt.Errorf("%s at interface index %d: %w", a.hook, a.ifindex, err)
		}
		if l == nil {
			continue
		}
		if t.held[a] != l {
			if err := l.Close(); err != nil {
				return nil, err
			}
		}
		out = append(out, a)
	}
	return out, nil
}

func (t *tcxAttacher) close() error {
	var errs []error
	for a, l := range t.held {
		errs = append(errs, l.Close())
		delete(t.held, a)
	}
	return errors.Join(errs...)
}
