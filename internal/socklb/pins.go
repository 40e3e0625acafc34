package socklb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// KeepPins puts back pins that somebody removed and programs that somebody detached, and returns what it put back: a
// pin by its path, a program by its name. Without the pins the services would end with this process.
func (b *Balancer) KeepPins() (pins, programs []string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, dir := range []string{b.at.maps, b.at.links} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range sortedKeys(b.all) {
		path := filepath.Join(b.at.maps, name)
		put, err := keepMap(b.all[name], path)
		if err != nil {
			return pins, programs, fmt.Errorf("pin map %s: %w", name, err)
		}
		if put {
			pins = append(pins, path)
		}
	}
	for _, name := range sortedKeys(b.links) {
		path := filepath.Join(b.at.links, name)
		alive, err := attachedTo(b.links[name], b.at.id)
		if err != nil {
			return pins, programs, fmt.Errorf("look at program %s: %w", name, err)
		}
		if !alive {
			if err := b.again(name, path); err != nil {
				return pins, programs, fmt.Errorf("attach %s to %s: %w", name, b.at.cgroup, err)
			}
			programs = append(programs, name)
			continue
		}
		put, err := keepLink(b.links[name], path)
		if err != nil {
			return pins, programs, fmt.Errorf("pin program %s: %w", name, err)
		}
		if put {
			pins = append(pins, path)
		}
	}
	return pins, programs, nil
}

// again attaches a program that somebody detached.
func (b *Balancer) again(name, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := b.links[name].Close(); err != nil {
		return err
	}
	return b.attach(b.at.cgroup, b.at.id, b.at.links, name, hooks()[name], b.programs[name])
}

// keepMap tells whether it pinned the map, because it wasn't or another was. A handle that had a pin would only be
// renamed: a fresh one is pinned.
func keepMap(m *ebpf.Map, path string) (bool, error) {
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

func keepLink(l link.Link, path string) (bool, error) {
	own, err := l.Info()
	if err != nil {
		return false, err
	}
	pinned, err := link.LoadPinnedLink(path, nil)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return false, err
	default:
		other, err := pinned.Info()
		if err := errors.Join(err, pinned.Close()); err != nil || other.ID == own.ID {
			return false, err
		}
		if err := os.Remove(path); err != nil {
			return false, err
		}
	}
	fresh, err := link.NewFromID(own.ID)
	if err != nil {
		return false, err
	}
	return true, errors.Join(fresh.Pin(path), fresh.Close())
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
