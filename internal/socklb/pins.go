package socklb

import (
	"errors"
	"fmt"
	stdmaps "maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/weft-cni/weft/internal/pin"
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
	for _, name := range slices.Sorted(stdmaps.Keys(b.all)) {
		path := filepath.Join(b.at.maps, name)
		put, err := pin.KeepMap(b.all[name], path)
		if err != nil {
			return pins, programs, fmt.Errorf("pin map %s: %w", name, err)
		}
		if put {
			pins = append(pins, path)
		}
	}
	for _, name := range slices.Sorted(stdmaps.Keys(b.links)) {
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
		put, err := pin.KeepLink(b.links[name], path)
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
