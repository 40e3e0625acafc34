package datapath

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/weft-cni/weft/internal/pin"
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
		put, err := pin.KeepMap(d.maps[name], path)
		if err != nil {
			return restored, fmt.Errorf("pin map %s: %w", name, err)
		}
		if put {
			restored = append(restored, path)
		}
	}
	return restored, nil
}
