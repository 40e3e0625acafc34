package datapath

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
)

// KeepPins puts back the pins of maps that somebody removed, or hid by another file system, and names them.
// Links get theirs back when their device is set again.
func (d *Datapath) KeepPins() ([]string, error) {
	end, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	if err := ensureBPFFS(d.bpffs, d.pinDir); err != nil {
		return nil, err
	}
	var restored []string
	for _, name := range slices.Sorted(maps.Keys(d.maps)) {
		if ephemeral(name) {
			continue
		}
		path := filepath.Join(d.pinDir, d.object.pinName(name))
		put, err := keepPin(d.maps[name], path)
		if err != nil {
			return restored, fmt.Errorf("pin map %s: %w", name, err)
		}
		if put {
			restored = append(restored, path)
		}
	}
	return restored, nil
}

func keepPin(m *ebpf.Map, path string) (bool, error) {
	pinned, err := ebpf.LoadPinnedMap(path, nil)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return false, err
	default:
		same, err := sameMap(m, pinned)
		if err := errors.Join(err, pinned.Close()); err != nil || same {
			return false, err
		}
		if err := os.Remove(path); err != nil {
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

func sameMap(a, b *ebpf.Map) (bool, error) {
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
