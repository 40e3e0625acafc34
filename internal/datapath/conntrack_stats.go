package datapath

import "fmt"

// ConntrackStats is how full the connection tables are, and what happened since they were made.
type ConntrackStats struct {
	Established    int `json:"established"`    // entries, with aliases
	Beginning      int `json:"beginning"`      // in the same table, their handshake isn't over
	EstablishedMax int `json:"establishedMax"` // bpf.ctTcpMax
	OtherMax       int `json:"otherMax"`       // bpf.ctAnyMax

	Created   uint64 `json:"created"`
	Failed    uint64 `json:"failed"`    // no entry could be made
	Promoted  uint64 `json:"promoted"`  // to the table of established connections
	Refused   uint64 `json:"refused"`   // attempts to, while it was full
	Closed    uint64 `json:"closed"`    // removed at the last ACK
	Expired   uint64 `json:"expired"`   // removed by the timer
	Replaced  uint64 `json:"replaced"`  // removed for a new one with the same tuple
	Unwatched uint64 `json:"unwatched"` // nobody will look when they expire, as a ring was full

	Rings   []RingStats `json:"rings"`
	Ticks   uint64      `json:"ticks"`   // of the timer
	Looked  uint64      `json:"looked"`  // at slots, by the timer
	Jiffies uint32      `json:"jiffies"` // of the last tick
	Second  uint32      `json:"second"`  // in jiffies
}

// RingStats is how many keys wait to be looked at.
type RingStats struct {
	Name string `json:"name"`
	Used uint64 `json:"used"`
	Size uint64 `json:"size"`
}

// Pressure is how full the table of established connections is, from 0 to 1. The other table evicts what
// was used least recently: being full is its normal state.
func (s ConntrackStats) Pressure() float64 {
	if s.EstablishedMax == 0 {
		return 0
	}
	return float64(s.Established+s.Beginning) / float64(s.EstablishedMax)
}

// ConntrackStats reads the counters of the connection tables.
func (d *Datapath) ConntrackStats() (ConntrackStats, error) {
	s := ConntrackStats{
		EstablishedMax: int(d.maps[mapConntrackTCP].MaxEntries()),
		OtherMax:       int(d.maps[mapConntrackAny].MaxEntries()),
		Second:         d.hz,
	}
	c, err := statsOf(d.maps[weftMapWeftCtStats])
	if err != nil {
		return s, err
	}
	var beginning [2]int64
	for i := range beginning {
		if err := d.maps[weftMapWeftCtBeginning].Lookup(uint32(i), &beginning[i]); err != nil {
			return s, fmt.Errorf("read %s: %w", weftMapWeftCtBeginning, err)
		}
	}
	s.Beginning = max(0, int(beginning[beginningCount]-beginning[beginningRemoved]))
	s.Established = int(c.Inserted-c.Removed) - s.Beginning
	s.Created, s.Failed, s.Promoted, s.Refused, s.Closed = c.Created, c.Failed, c.Promoted, c.Full, c.Closed
	s.Expired, s.Replaced, s.Unwatched = c.Expired, c.Replaced, c.Unwatched
	for i, name := range ringNames() {
		var r ctRing
		if err := d.maps[weftMapWeftCtRings].Lookup(uint32(i), &r); err != nil {
			return s, fmt.Errorf("read %s: %w", weftMapWeftCtRings, err)
		}
		s.Rings = append(s.Rings, RingStats{Name: name, Used: r.Head - r.Tail, Size: uint64(r.Size)})
	}
	var t ctTimer
	if err := d.maps[weftMapWeftCtTimers].Lookup(uint32(0), &t); err != nil {
		return s, fmt.Errorf("read %s: %w", weftMapWeftCtTimers, err)
	}
	s.Ticks, s.Looked, s.Jiffies = t.Ticks, t.Looked, t.Last
	return s, nil
}

// countRemoved accounts for what user space removed from the table of established connections, and how many of
// them were beginning.
func (d *Datapath) countRemoved(n, beginning int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var gone int64
	if err := d.maps[weftMapWeftCtBeginning].Lookup(uint32(beginningRemoved), &gone); err != nil {
		return fmt.Errorf("read %s: %w", weftMapWeftCtBeginning, err)
	}
	if err := d.maps[weftMapWeftCtBeginning].Put(uint32(beginningRemoved), gone+int64(beginning)); err != nil {
		return fmt.Errorf("write %s: %w", weftMapWeftCtBeginning, err)
	}
	var cpus []ctStats
	m := d.maps[weftMapWeftCtStats]
	if err := m.Lookup(uint32(1), &cpus); err != nil {
		return fmt.Errorf("read %s: %w", weftMapWeftCtStats, err)
	}
	cpus[0].Removed += uint64(n)
	if err := m.Put(uint32(1), cpus); err != nil {
		return fmt.Errorf("write %s: %w", weftMapWeftCtStats, err)
	}
	return nil
}
