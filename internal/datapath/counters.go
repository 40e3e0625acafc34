package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Counters returns what was counted, without the zeros, by hook, direction and reason.
func (d *Datapath) Counters() ([]Counter, error) {
	m := d.maps[weftMapWeftCounters]
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count CPUs: %w", err)
	}
	const entries = hookMax * directionMax * reasonMax
	keys := make([]uint32, entries)
	values := make([]counterValue, entries*cpus)
	var cursor ebpf.MapBatchCursor
	n, err := m.BatchLookup(&cursor, keys, values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, fmt.Errorf("read %s: %w", weftMapWeftCounters, err)
	}
	if n != entries {
		return nil, fmt.Errorf("read %s: got %d entries, expected %d", weftMapWeftCounters, n, entries)
	}
	var out []Counter
	for i, key := range keys {
		var sum counterValue
		for _, v := range values[i*cpus : (i+1)*cpus] {
			sum.Packets += v.Packets
			sum.Bytes += v.Bytes
		}
		if sum.Packets == 0 {
			continue
		}
		h, dir, r := counterOf(key)
		out = append(out, Counter{Hook: h, Direction: dir, Reason: r, Packets: sum.Packets, Bytes: sum.Bytes})
	}
	return out, nil
}
