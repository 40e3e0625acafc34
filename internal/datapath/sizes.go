package datapath

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
)

// Sizes are the most entries that maps can hold; 0: what the programs were built with. A map that an
// earlier agent left keeps its size until it is made anew.
type Sizes struct {
	ConntrackTCP int // established TCP connections
	ConntrackAny int // everything else, and what is beginning or closing
	Events       int // bytes of the ring of events: a power of two
}

// maxMapEntries is Cilium's bound too.
const maxMapEntries = 1 << 24

// The least that a share of a node's memory comes to, as in Cilium.
const (
	minSharedTCP = 1 << 17
	minSharedAny = 1 << 16
)

// What an entry takes of the kernel's memory, with its place in the ring; a test compares.
const (
	bytesPerTCP = 294
	bytesPerAny = 240
)

// Share gives the tables of connections this part of a node's memory, two places for established ones to
// one for others. What is set already stays.
func (s Sizes) Share(memory uint64, ratio float64) Sizes {
	if ratio <= 0 {
		return s
	}
	anyone := int(float64(memory) * ratio / (2*bytesPerTCP + bytesPerAny))
	if s.ConntrackTCP == 0 {
		s.ConntrackTCP = min(max(2*anyone, minSharedTCP), maxMapEntries)
	}
	if s.ConntrackAny == 0 {
		s.ConntrackAny = min(max(anyone, minSharedAny), maxMapEntries)
	}
	return s
}

func (s Sizes) apply(spec *ebpf.CollectionSpec) error {
	for base, size := range map[string]int{mapConntrackTCP: s.ConntrackTCP, mapConntrackAny: s.ConntrackAny, weftMapWeftEvents: s.Events} {
		if size < 0 || size > maxMapEntries {
			return fmt.Errorf("size of map %s is %d, expected 0 to %d", base, size, maxMapEntries)
		}
		for _, name := range []string{base, base + "_prev"} {
			ms, ok := spec.Maps[name]
			switch {
			case ok && size > 0 && ms.Type == ebpf.RingBuf && (size < os.Getpagesize() || size&(size-1) != 0):
				return fmt.Errorf("size of ring %s is %d bytes, expected a power of two from %d on", name, size, os.Getpagesize())
			case ok && size > 0:
				ms.MaxEntries = uint32(size)
			}
		}
	}
	sizeSlots(spec)
	return nil
}

// sized tells whether the map's size is a setting, or follows from one.
func sized(name string) bool {
	switch strings.TrimSuffix(name, "_prev") {
	case mapConntrackTCP, mapConntrackAny, weftMapWeftCtSlots, weftMapWeftEvents:
		return true
	}
	return false
}

// A KeptSize is a map that an earlier agent made in another size than is configured now. Making it anew would
// lose what it holds, so it stays until the node is rebooted.
type KeptSize struct {
	Map        string
	Setting    string // that sizes it
	Have, Want uint32
}

// KeptSizes lists them.
func (d *Datapath) KeptSizes() []KeptSize { return slices.Clone(d.kept) }

// keepSize has the programs take the map as large as it is.
func (d *Datapath) keepSize(name string, ms *ebpf.MapSpec, m *ebpf.Map) {
	have, want := m.MaxEntries(), ms.MaxEntries
	if !sized(name) || have == want {
		return
	}
	d.log.Info("A map keeps its size", "map", name, "entries", have, "configured", want)
	ms.MaxEntries = have
	setting := map[string]string{mapConntrackTCP: "bpf.ctTcpMax", mapConntrackAny: "bpf.ctAnyMax", weftMapWeftEvents: "bpf.eventRingSize"}[name]
	if setting != "" && !slices.ContainsFunc(d.kept, func(k KeptSize) bool { return k.Map == name }) {
		d.kept = append(d.kept, KeptSize{Map: name, Setting: setting, Have: have, Want: want})
		slices.SortFunc(d.kept, func(a, b KeptSize) int { return strings.Compare(a.Map, b.Map) })
	}
}
