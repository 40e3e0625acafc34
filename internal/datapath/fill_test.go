package datapath

import (
	"errors"
	"net/netip"
	"testing"
)

// What a scrape shows of maps, and what a walk over every entry finds.
func TestFills(t *testing.T) {
	s := newSpace(t)
	s.enter(t)
	d := openDatapath(t, testConfig(t))
	must(t, d.locked(func() error { return d.writeEndpoint(endpointFor(3, "10.0.0.11", 1)) }))
	must(t, d.SetPrefixes(map[netip.Prefix]PrefixInfo{netip.MustParsePrefix("10.1.0.0/16"): {Native: true}}))
	now, err := d.jiffies()
	must(t, err)
	const flows = 3 * viewBatch
	for i := range flows {
		key, _ := newCTKey(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1000), netip.MustParseAddrPort("10.1.0.5:53"), 17)
		e := ctEntry{Expires: now + 1000*d.hz}
		switch {
		case i%3 == 1:
			e.Expires = now - d.hz
		case i%3 == 2:
			e.Flags = ctAlias
		}
		must(t, d.maps[mapConntrackAny].Put(key, e))
	}
	fills, err := d.Fills()
	must(t, err)
	byName := map[string]Fill{}
	for _, f := range fills {
		byName[f.Map] = f
	}
	if f := byName[weftMapWeftEndpoints]; f.Entries != 1 || f.Max != 4096 {
		t.Errorf("endpoints: found %+v", f)
	}
	if f, ok := byName[mapConntrackTCP]; !ok || f.Entries != 0 || f.Max != 4096 {
		t.Errorf("established connections: found %+v", f)
	}
	pauses := 0
	walked, err := d.WalkFills(func() error { pauses++; return nil })
	must(t, err)
	for _, f := range walked {
		byName[f.Map] = f
	}
	f := byName[mapConntrackAny]
	// The table evicts a little before it is full.
	if f.Entries < flows*9/10 || f.Entries > flows || f.Max != 4096 {
		t.Errorf("other connections: found %+v, expected %d", f, flows)
	}
	if sum := f.States["datagram"] + f.States["expired"] + f.States["alias"]; sum != f.Entries || f.States["expired"] == 0 || f.States["alias"] == 0 || f.States["datagram"] == 0 {
		t.Errorf("states are %v, expected a third of %d each", f.States, f.Entries)
	}
	if byName[weftMapWeftIpcache].Entries != 1 || pauses < 3 {
		t.Errorf("prefixes: found %+v, after %d pauses", byName[weftMapWeftIpcache], pauses)
	}
	stop := errors.New("stop")
	if _, err := d.WalkFills(func() error { return stop }); !errors.Is(err, stop) {
		t.Errorf("found %v, expected that the walk ends when it is told to", err)
	}
}
