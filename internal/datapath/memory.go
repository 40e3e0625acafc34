package datapath

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
)

// MapMemory is what the kernel keeps for a map that is made, whether it is used or not. 0: it grows with
// what is put into it.
type MapMemory struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Entries uint32 `json:"entries"`
	Bytes   uint64 `json:"bytes"`
}

// Memory makes the datapath's maps in these sizes, asks the kernel what they take, and lets them go.
func Memory(sizes Sizes) ([]MapMemory, error) {
	spec, err := loadWeft()
	if err != nil {
		return nil, err
	}
	if err := sizes.apply(spec); err != nil {
		return nil, err
	}
	var out []MapMemory
	for name, ms := range spec.Maps {
		m, err := memoryOf(ms)
		if err != nil {
			return nil, fmt.Errorf("map %s: %w", name, err)
		}
		m.Name = name
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b MapMemory) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

func memoryOf(spec *ebpf.MapSpec) (MapMemory, error) {
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return MapMemory{}, err
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return MapMemory{}, err
	}
	bytes, _ := info.Memlock() // none: it grows with what is put into it
	return MapMemory{Type: spec.Type.String(), Entries: m.MaxEntries(), Bytes: bytes}, nil
}
