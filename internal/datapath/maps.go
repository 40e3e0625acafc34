package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/weft-cni/weft/internal/pin"
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

// openMaps takes over the maps that are pinned, or that programs on devices use still, and makes those that
// are missing. All layouts are compared before anything is made.
func (d *Datapath) openMaps(spec *ebpf.CollectionSpec) error {
	d.maps = make(map[string]*ebpf.Map, len(spec.Maps))
	if err := unpinLoneRings(d.object, d.pinDir); err != nil {
		return err
	}
	var missing, own []string
	for name, ms := range spec.Maps {
		if ephemeral(name) {
			own = append(own, name)
			continue
		}
		path := filepath.Join(d.pinDir, d.object.pinName(name))
		m, err := ebpf.LoadPinnedMap(path, nil)
		if errors.Is(err, os.ErrNotExist) {
			missing = append(missing, name)
			continue
		}
		if err != nil {
			return fmt.Errorf("open the map pinned at %s: %w", path, err)
		}
		d.maps[name] = m
		d.keepSize(name, ms, m)
		if err := ms.Compatible(m); err != nil {
			return &LayoutError{Map: name, Path: path, Err: err}
		}
	}
	slices.Sort(missing)
	missing, err := d.recoverMaps(spec, missing)
	if err != nil {
		return err
	}
	if slices.Contains(missing, weftMapWeftCtSlots) {
		sizeSlots(spec) // the tables may have other sizes than configured
	}
	if len(missing) > 0 && len(d.maps) > 0 {
		d.log.Warn("Pinned maps are missing and were made anew", "maps", missing)
	}
	for _, name := range append(missing, own...) {
		m, err := ebpf.NewMap(spec.Maps[name])
		if err != nil {
			return fmt.Errorf("make map %s: %w", name, err)
		}
		d.maps[name] = m
	}
	for name, m := range d.maps {
		if ephemeral(name) {
			continue
		}
		if _, err := pin.KeepMap(m, filepath.Join(d.pinDir, d.object.pinName(name))); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	return nil
}

// recoverMaps finds missing maps in the hands of programs that run without pins, and returns the others.
func (d *Datapath) recoverMaps(spec *ebpf.CollectionSpec, missing []string) ([]string, error) {
	entries, err := os.ReadDir(d.pinDir)
	if err != nil {
		return nil, err
	}
	var pins []string
	for _, e := range entries {
		pins = append(pins, e.Name())
	}
	lost := d.object.lost(missing, pins)
	if len(lost) == 0 {
		return missing, nil
	}
	alive, err := survivors(d.features.TCX)
	if err != nil {
		return nil, fmt.Errorf("look for maps in use: %w", err)
	}
	taken := map[*ebpf.Map]bool{}
	defer func() {
		for _, m := range alive {
			if !taken[m] {
				m.Close()
			}
		}
	}()
	for _, name := range lost {
		for _, candidate := range d.object.namesInUse(name) {
			m := alive[kernelName(candidate)]
			if m == nil || taken[m] {
				continue
			}
			ms := spec.Maps[name].Copy()
			d.keepSize(name, ms, m)
			if ms.Compatible(m) != nil {
				continue // another version's
			}
			spec.Maps[name].MaxEntries = ms.MaxEntries
			d.maps[name], taken[m] = m, true
			missing = slices.DeleteFunc(missing, func(n string) bool { return n == name })
			d.log.Warn("The pin of a map that programs use was missing and is put back", "map", name)
			break
		}
	}
	return missing, nil
}

// ephemeral tells whether the map holds nothing that outlives a packet: each load of the programs has its
// own.
func ephemeral(name string) bool { return strings.Contains(name, "_scratch") }

// Names of the maps of connections.
const (
	mapConntrackTCP = "weft_ct_est"
	mapConntrackAny = "weft_ct_new"
)

// retire removes the pins of maps that only another version's programs use.
func retire(object *Object, spec *ebpf.CollectionSpec, dir string, log *slog.Logger) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var pins []string
	for _, e := range entries {
		pins = append(pins, e.Name())
	}
	var errs []error
	for _, pin := range object.foreign(spec, pins) {
		log.Info("Letting go of a map of another version", "pin", pin)
		if err := os.Remove(filepath.Join(dir, pin)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
