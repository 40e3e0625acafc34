// Package pin keeps maps and links pinned on a BPF file system, whatever others do to the pins.
package pin

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// KeepMap tells whether it pinned the map, because it wasn't or another was.
func KeepMap(m *ebpf.Map, path string) (bool, error) {
	pinned, err := ebpf.LoadPinnedMap(path, nil)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return false, err
	default:
		same, err := SameMap(m, pinned)
		if err := errors.Join(err, pinned.Close()); err != nil || same {
			return false, err
		}
		if err := remove(path); err != nil {
			return false, err
		}
	}
	// A handle that had a pin would only be renamed.
	fresh, err := m.Clone()
	if err != nil {
		return false, err
	}
	return true, errors.Join(fresh.Pin(path), fresh.Close())
}

// SameMap tells whether both handles are of one map.
func SameMap(a, b *ebpf.Map) (bool, error) {
	x, err := a.Info()
	if err != nil {
		return false, err
	}
	y, err := b.Info()
	if err != nil {
		return false, err
	}
	xid, _ := x.ID()
	yid, _ := y.ID()
	return xid == yid, nil
}

// KeepLink tells whether it pinned the link, because it wasn't or another was.
func KeepLink(l link.Link, path string) (bool, error) {
	own, err := l.Info()
	if err != nil {
		return false, err
	}
	pinned, err := link.LoadPinnedLink(path, nil)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return false, fmt.Errorf("open %s: %w", path, err)
	default:
		other, err := pinned.Info()
		if err := errors.Join(err, pinned.Close()); err != nil {
			return false, err
		}
		if other.ID == own.ID {
			return false, nil
		}
		if err := remove(path); err != nil {
			return false, err
		}
	}
	// A handle that never had a pin: one that had would only be renamed.
	fresh, err := link.NewFromID(own.ID)
	if err != nil {
		return false, err
	}
	if err := errors.Join(fresh.Pin(path), fresh.Close()); err != nil {
		return false, fmt.Errorf("pin %s: %w", path, err)
	}
	return true, nil
}

// remove takes a pin away, unless somebody was faster.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
