package datapath

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/inspect"
	"github.com/weft-cni/weft/internal/pin"
)

// Maps are the datapath's maps as they are, by name.
func (d *Datapath) Maps() ([]inspect.Map, error) {
	var out []inspect.Map
	for _, name := range slices.Sorted(maps.Keys(d.maps)) {
		m, err := d.describe(name)
		if err != nil {
			return nil, fmt.Errorf("map %s: %w", name, err)
		}
		out = append(out, m)
	}
	return out, nil
}

func (d *Datapath) describe(name string) (inspect.Map, error) {
	m := d.maps[name]
	info, err := m.Info()
	if err != nil {
		return inspect.Map{}, err
	}
	id, _ := info.ID()
	out := inspect.Map{
		Name: name, ID: uint32(id), Type: strings.ToLower(m.Type().String()), KeyBytes: m.KeySize(), ValueBytes: m.ValueSize(),
		PerCPU: m.Type() == ebpf.PerCPUArray, Unit: "entries", MaxEntries: uint64(m.MaxEntries()), Evicts: m.Type() == ebpf.LRUHash,
		Layout: d.object.layoutOf(name), UsedBy: d.usedBy[name],
	}
	if about, err := inspect.FindMap(name); err == nil {
		out.About, out.WrittenBy = about.About, about.WrittenBy
	}
	out.MemoryBytes, _ = info.Memlock()
	if m.Type() == ebpf.RingBuf {
		out.Unit = "bytes"
	}
	if !ephemeral(name) {
		out.Pin = filepath.Join(d.pinDir, d.object.pinName(name))
		pinned, err := isPinned(m, out.Pin)
		if err != nil {
			return out, err
		}
		out.PinMissing = !pinned
	}
	out.Entries, out.Fixed, err = d.entries(name)
	return out, err
}

// isPinned tells whether the pin at path is this map's.
func isPinned(m *ebpf.Map, path string) (bool, error) {
	pinned, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	same, err := pin.SameMap(m, pinned)
	return same, errors.Join(err, pinned.Close())
}

// entries is how many of a map's entries are in use. Where the programs count them nothing is walked.
func (d *Datapath) entries(name string) (n uint64, fixed bool, err error) {
	switch name {
	case mapConntrackTCP:
		s, err := statsOf(d.maps[weftMapWeftCtStats])
		return s.Inserted - s.Removed, false, err
	case weftMapWeftCtSlots:
		err := walk(d.maps[weftMapWeftCtRings], func(_ uint32, r ctRing) bool { n += r.Head - r.Tail; return true })
		return n, false, err
	}
	v, ok := views()[name]
	if !ok {
		return 0, false, errors.New("this version can't read it")
	}
	return v.count(d.maps[name])
}

// DumpMap calls fn with the decoded entries of a map that are in use until it returns false.
func (d *Datapath) DumpMap(name string, names Names, fn func(key, value inspect.Fields) bool) error {
	v, ok := views()[name]
	m := d.maps[name]
	if !ok || m == nil {
		return fmt.Errorf("map %s: this version can't read it", name)
	}
	now, err := d.jiffies()
	if err != nil {
		return err
	}
	x := decoding{Names: names, jiffies: now, hz: d.hz}
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return fmt.Errorf("read the clock: %w", err)
	}
	x.now = time.Duration(ts.Nano())
	if err := v.each(d, m, x, fn); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// users are the programs that use each map, by name.
func users(spec *ebpf.CollectionSpec) map[string][]string {
	out := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
		for _, ins := range spec.Programs[name].Instructions {
			if ref := ins.Reference(); ins.IsLoadFromMap() && !slices.Contains(out[ref], name) {
				out[ref] = append(out[ref], name)
			}
		}
	}
	return out
}
