package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
)

// A LayoutError says that a pinned map was made by a version with another layout.
type LayoutError struct {
	Map  string
	Path string
	Err  error
}

func (e *LayoutError) Error() string {
	return fmt.Sprintf("map %s pinned at %s has another layout than this version's: %v; it belongs to another version of weft: run that one, or drain the node and reboot it", e.Map, e.Path, e.Err)
}

func (e *LayoutError) Unwrap() error { return e.Err }

// openMaps takes over the maps pinned in dir and makes those that are missing. All pinned layouts are
// compared before anything is made.
func openMaps(spec *ebpf.CollectionSpec, dir string, log *slog.Logger) (_ map[string]*ebpf.Map, err error) {
	maps := make(map[string]*ebpf.Map, len(spec.Maps))
	defer func() {
		if err != nil {
			closeMaps(maps)
		}
	}()
	var missing []string
	for name, ms := range spec.Maps {
		path := filepath.Join(dir, pinName(name))
		m, err := ebpf.LoadPinnedMap(path, nil)
		if errors.Is(err, os.ErrNotExist) {
			missing = append(missing, name)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open the map pinned at %s: %w", path, err)
		}
		maps[name] = m
		if err := ms.Compatible(m); err != nil {
			return nil, &LayoutError{Map: name, Path: path, Err: err}
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 && len(maps) > 0 {
		log.Warn("Pinned maps are missing and were made anew", "maps", missing)
	}
	for _, name := range missing {
		m, err := ebpf.NewMap(spec.Maps[name])
		if err != nil {
			return nil, fmt.Errorf("make map %s: %w", name, err)
		}
		maps[name] = m
		if err := m.Pin(filepath.Join(dir, pinName(name))); err != nil {
			return nil, fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	return maps, nil
}

// pinName is the map's name with its layout's number, where it isn't the first one.
func pinName(name string) string {
	if n := layoutOf(name); n > 1 {
		return fmt.Sprintf("%s_%d", name, n)
	}
	return name
}

func layoutOf(name string) int {
	switch name {
	case weftMapWeftEnis, weftMapWeftConfig:
		return 2
	}
	return 1
}

func closeMaps(maps map[string]*ebpf.Map) {
	for _, m := range maps {
		m.Close()
	}
}
