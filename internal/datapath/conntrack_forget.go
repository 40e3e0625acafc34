package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// ForgetOthers removes the connections that a new endpoint's addresses had before it, and returns how many
// there were: with another node's pod, or while nobody had them. They name no endpoint of this node, so
// nothing tells the programs that they are old, and a peer that goes on sending would keep them alive.
func (d *Datapath) ForgetOthers(e Endpoint) (int, error) {
	own := newEndpointValue(e)
	return d.deleteConnections(func(key ctKey, entry ctEntry) bool {
		for side, addr := range key.Addr {
			if (addr == own.Addr || addr == own.Addr6) && addr != (wireAddr{}) {
				s := entry.Side[side]
				return s.Slot != uint16(e.Slot) || s.Generation != e.Generation
			}
		}
		return false
	})
}

// deleteConnections removes what doomed says, and returns how many flows that were.
func (d *Datapath) deleteConnections(doomed func(ctKey, ctEntry) bool) (int, error) {
	keys := map[string][]ctKey{}
	removed, beginning := 0, 0
	_, err := d.eachEntry(func(table string, key ctKey, e ctEntry) bool {
		if doomed(key, e) {
			keys[table] = append(keys[table], key)
			if e.Flags&ctAlias == 0 {
				removed++
			}
			if table == mapConntrackTCP && e.Flags&ctBeginning != 0 {
				beginning++
			}
		}
		return true
	})
	if err != nil {
		return 0, err
	}
	for table, keys := range keys {
		n, err := deleteKeys(d.maps[table], keys)
		if table == mapConntrackTCP {
			err = errors.Join(err, d.countRemoved(n, beginning))
		}
		if err != nil {
			return 0, fmt.Errorf("delete connections from %s: %w", table, err)
		}
	}
	return removed, nil
}

// deleteKeys returns how many there were. A key that was gone already ends a batch.
func deleteKeys(m *ebpf.Map, keys []ctKey) (int, error) {
	deleted := 0
	for len(keys) > 0 {
		n, err := m.BatchDelete(keys, nil)
		deleted += n
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			n, err = n+1, nil
		}
		if err != nil {
			return deleted, err
		}
		keys = keys[min(n, len(keys)):]
	}
	return deleted, nil
}
