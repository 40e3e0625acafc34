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
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/pin"
)

// A linkKind is a kind of link that holds programs on devices.
type linkKind struct {
	// prefix of the pins' names, so that a version that doesn't know the kind leaves them alone.
	prefix string
	hooks  []Hook
	// fits tells on which devices there can be such links.
	fits   func(netlink.Link) bool
	place  func(Hook) ebpf.AttachType
	create func(ifindex int, prog *ebpf.Program, at ebpf.AttachType) (link.Link, error)
	// ifindex is the link's device; false: it is another kind of link.
	ifindex func(*link.Info) (uint32, bool)
}

// A linkAttacher has a pinned link for each hook and device. It also holds the links open: as long as this
// process lives, a pin that somebody removes takes no program off its device.
type linkAttacher struct {
	linkKind
	dir  string
	held map[attachment]link.Link
}

func newLinkAttacher(kind linkKind, dir string) *linkAttacher {
	return &linkAttacher{linkKind: kind, dir: dir, held: map[attachment]link.Link{}}
}

func (t *linkAttacher) path(a attachment) string {
	return filepath.Join(t.dir, t.prefix+linkName(a))
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

func (t *linkAttacher) attach(hook Hook, ifindex int, prog *ebpf.Program) error {
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
	l, err = t.create(ifindex, prog, t.place(hook))
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
func (t *linkAttacher) find(a attachment) (link.Link, error) {
	if l, ok := t.held[a]; ok {
		alive, err := t.aliveAt(l, a.ifindex)
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
	alive, err := t.aliveAt(l, a.ifindex)
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
func (t *linkAttacher) query(a attachment) (link.Link, error) {
	ids, err := t.ours(a)
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

// ours are those on the device whose program has the hook's name and uses our maps.
func (t *linkAttacher) ours(a attachment) ([]link.ID, error) {
	programs, err := link.QueryPrograms(link.QueryOptions{Target: a.ifindex, Attach: t.place(a.hook)})
	// ENXIO: the device is one on which there are no such links.
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
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

func (t *linkAttacher) aliveAt(l link.Link, ifindex int) (bool, error) {
	info, err := l.Info()
	if err != nil {
		return false, err
	}
	at, ok := t.ifindex(info)
	return ok && int(at) == ifindex, nil
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
func (t *linkAttacher) keep(a attachment, l link.Link) error {
	if old := t.held[a]; old != nil && old != l {
		if err := old.Close(); err != nil {
			return err
		}
	}
	t.held[a] = l
	_, err := pin.KeepLink(l, t.path(a))
	return err
}

// forget lets go of a link that has no device any more.
func (t *linkAttacher) forget(a attachment, l link.Link) error {
	if t.held[a] == l {
		delete(t.held, a)
	}
	err := os.Remove(t.path(a))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, l.Close())
}

func (t *linkAttacher) detach(hook Hook, ifindex int) error {
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

func (t *linkAttacher) attached() ([]attachment, error) {
	seen := map[attachment]bool{}
	entries, err := os.ReadDir(t.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), t.prefix)
		if a, known := parseLinkName(name); ok && known {
			seen[a] = true
		}
	}
	list, err := devices()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	for _, d := range list {
		if !t.fits(d) {
			continue
		}
		for _, h := range t.hooks {
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

func (t *linkAttacher) close() error {
	var errs []error
	for a, l := range t.held {
		errs = append(errs, l.Close())
		delete(t.held, a)
	}
	return errors.Join(errs...)
}
