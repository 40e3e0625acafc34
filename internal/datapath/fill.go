package datapath

import (
	"errors"
	"fmt"
)

// A Fill is how full a map is.
type Fill struct {
	Map          string
	Entries, Max uint64
	// States are how many connections are in each state, of a table of connections that was walked.
	States map[string]uint64
}

// Fills are those of the maps whose entries are counted as they come and go, and of small ones, which are read. It
// takes a millisecond or two, however many connections there are.
func (d *Datapath) Fills() ([]Fill, error) {
	var out []Fill
	for _, name := range []string{mapConntrackTCP, weftMapWeftCtSlots, weftMapWeftEvents, weftMapWeftAddresses, weftMapWeftBandwidth, weftMapWeftEndpoints,
		weftMapWeftEnis, weftMapWeftFragments} {
		f, err := d.fill(name)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func (d *Datapath) fill(name string) (Fill, error) {
	n, _, err := d.entries(name)
	if err != nil {
		return Fill{}, fmt.Errorf("map %s: %w", name, err)
	}
	return Fill{Map: name, Entries: n, Max: uint64(d.maps[name].MaxEntries())}, nil
}

// WalkFills are those of the large maps whose entries nobody counts, and the states of connections in both tables. It
// reads every entry, between calls of pause, which may end it with an error.
func (d *Datapath) WalkFills(pause func() error) ([]Fill, error) {
	prefixes, err := d.fill(weftMapWeftIpcache)
	if err := errors.Join(err, pause()); err != nil {
		return nil, err
	}
	out := []Fill{prefixes}
	now, err := d.jiffies()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{mapConntrackTCP, mapConntrackAny} {
		f := Fill{Map: name, Max: uint64(d.maps[name].MaxEntries()), States: map[string]uint64{}}
		var ended error
		err := walk(d.maps[name], func(k ctKey, e ctEntry) bool {
			f.Entries++
			f.States[entryState(k.Protocol, e, now)]++
			if f.Entries%viewBatch == 0 {
				ended = pause()
			}
			return ended == nil
		})
		if err := errors.Join(err, ended); err != nil {
			return nil, fmt.Errorf("map %s: %w", name, err)
		}
		out = append(out, f)
	}
	return out, nil
}

// entryState is ConnState, with aliases as a state of their own.
func entryState(protocol uint8, e ctEntry, now uint32) string {
	switch {
	case e.Flags&ctAlias != 0:
		return "alias"
	case int32(e.Expires-now) <= 0:
		return string(ConnExpired)
	}
	return string(connState(protocol, e))
}
