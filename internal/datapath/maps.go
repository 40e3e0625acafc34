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
func openMaps(spec *ebpf.CollectionSpec, dir string, sizes Sizes, log *slog.Logger) (_ map[string]*ebpf.Map, err error) {
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
		if _, ok := sizes.sized()[name]; ok && m.MaxEntries() != ms.MaxEntries {
			log.Info("A pinned map keeps its size", "map", name, "entries", m.MaxEntries(), "configured", ms.MaxEntries)
			ms.MaxEntries = m.MaxEntries()
		}
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

// Sizes are the most entries that maps can hold; 0: what the programs were built with. A map that an
// earlier agent left keeps its size until it is made anew.
type Sizes struct {
	ConntrackTCP int // established TCP connections
	ConntrackAny int // everything else, and what is beginning or closing
	Events       int // bytes of the ring of events: a power of two
}

// sized names the maps that have a size to set; those that the object lacks are left out.
func (s Sizes) sized() map[string]int {
	return map[string]int{mapConntrackTCP: s.ConntrackTCP, mapConntrackAny: s.ConntrackAny, weftMapWeftCtSlots: 0, weftMapWeftEvents: s.Events}
}

// Names of the maps of connections.
const (
	mapConntrackTCP = "weft_ct_est"
	mapConntrackAny = "weft_ct_new"
)

func (s Sizes) apply(spec *ebpf.CollectionSpec) error {
	for name, size := range s.sized() {
		ms, ok := spec.Maps[name]
		switch {
		case size < 0 || size > maxMapEntries:
			return fmt.Errorf("size of map %s is %d, expected 0 to %d", name, size, maxMapEntries)
		case ok && size > 0 && ms.Type == ebpf.RingBuf && (size < os.Getpagesize() || size&(size-1) != 0):
			return fmt.Errorf("size of ring %s is %d bytes, expected a power of two from %d on", name, size, os.Getpagesize())
		case ok && size > 0:
			ms.MaxEntries = uint32(size)
		}
	}
	sizeSlots(spec)
	return nil
}

// maxMapEntries is Cilium's bound too.
const maxMapEntries = 1 << 24
