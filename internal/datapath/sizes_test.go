package datapath

import (
	"slices"
	"testing"
)

func TestShareOfMemory(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		name   string
		memory uint64
		ratio  float64
		set    Sizes
		want   Sizes
	}{
		{name: "no ratio", memory: 64 * gib, want: Sizes{}},
		{name: "no ratio, sizes", memory: 64 * gib, set: Sizes{ConntrackTCP: 5000}, want: Sizes{ConntrackTCP: 5000}},
		{name: "a small node", memory: gib, ratio: 0.0025, want: Sizes{ConntrackTCP: 1 << 17, ConntrackAny: 1 << 16}},
		{name: "as much as the default", memory: 8 * gib, ratio: 0.0253, want: Sizes{ConntrackTCP: 524940, ConntrackAny: 262470}},
		{name: "a large node", memory: 768 * gib, ratio: 0.5, want: Sizes{ConntrackTCP: 1 << 24, ConntrackAny: 1 << 24}},
		{name: "one is set", memory: 64 * gib, ratio: 0.01, set: Sizes{ConntrackAny: 2048, Events: 4096}, want: Sizes{ConntrackTCP: 1659890, ConntrackAny: 2048, Events: 4096}},
	} {
		got := c.set.Share(c.memory, c.ratio)
		if got != c.want {
			t.Errorf("%s: %+v, expected %+v", c.name, got, c.want)
		}
	}
}

// What the tables take is the share that was asked for.
func TestShareIsWhatTheKernelTakes(t *testing.T) {
	needRoot(t)
	none, err := Memory(Sizes{ConntrackTCP: 1024, ConntrackAny: 1024})
	must(t, err)
	const memory, ratio = 8 << 30, 0.02
	list, err := Memory(Sizes{}.Share(memory, ratio))
	must(t, err)
	sum := func(list []MapMemory) (total float64) {
		for _, m := range list {
			total += float64(m.Bytes)
		}
		return total
	}
	got, want := sum(list)-sum(none), float64(memory)*ratio
	if got < 0.85*want || got > 1.15*want {
		t.Errorf("the tables take %.0f MiB, expected %.0f", got/(1<<20), want/(1<<20))
	}
}

// A table keeps its size, and its entries, until it is made anew; the agent says which.
func TestSizesAreKept(t *testing.T) {
	newSpace(t).enter(t)
	cfg := testConfig(t)
	cfg.Sizes = Sizes{ConntrackTCP: 4096, ConntrackAny: 2048, Events: 1 << 16}
	k := trackerOf(t, openDatapath(t, cfg), loadTrack)
	if kept := k.d.KeptSizes(); len(kept) > 0 {
		t.Errorf("new tables are kept ones: %+v", kept)
	}
	k.establish(connA, connB, 3)
	must(t, k.d.Close())
	cfg.Sizes = Sizes{ConntrackTCP: 8192, ConntrackAny: 2048, Events: 1 << 17}
	d := openDatapath(t, cfg)
	want := []KeptSize{{Map: mapConntrackTCP, Setting: "bpf.ctTcpMax", Have: 4096, Want: 8192}, {Map: weftMapWeftEvents, Setting: "bpf.eventRingSize", Have: 1 << 16, Want: 1 << 17}}
	if got := d.KeptSizes(); !slices.Equal(got, want) {
		t.Errorf("kept are %+v, expected %+v", got, want)
	}
	if n := countKeys(t, d.maps[mapConntrackTCP]); n != 3 {
		t.Errorf("%d connections are left, expected 3", n)
	}
}
