package datapath

import "fmt"

// Held is what the maps say beside State.
type Held struct {
	Settings Settings
	// Epoch is the number of the agent that may write, Own this one's.
	Epoch, Own uint32
	Layout     uint32
	MTUs       map[uint32]int    // of ENIs, by handle
	Rates      map[uint32]uint64 // bytes a second that endpoints may send, by slot; none: not limited
}

// Held reads them.
func (d *Datapath) Held() (Held, error) {
	c, err := d.readConfig()
	if err != nil {
		return Held{}, err
	}
	out := Held{Settings: c.settings(), Epoch: c.Epoch, Own: d.epoch, Layout: c.Layout, MTUs: map[uint32]int{}, Rates: map[uint32]uint64{}}
	err = walk(d.maps[weftMapWeftEnis], func(handle uint32, v eniValue) bool {
		if v.Flags&eniValid != 0 {
			out.MTUs[handle] = int(v.MTU)
		}
		return true
	})
	if err != nil {
		return out, fmt.Errorf("read %s: %w", weftMapWeftEnis, err)
	}
	err = walk(d.maps[weftMapWeftBandwidth], func(slot uint32, v bucketValue) bool {
		if v.Rate != 0 {
			out.Rates[slot] = v.Rate
		}
		return true
	})
	if err != nil {
		return out, fmt.Errorf("read %s: %w", weftMapWeftBandwidth, err)
	}
	return out, nil
}
