package datapath

import "testing"

// Memory follows the sizes of the tables, and nothing else is large.
func TestMemoryFollowsTheSizes(t *testing.T) {
	needRoot(t)
	measure := func(tcp, other int) (total uint64, byName map[string]MapMemory) {
		t.Helper()
		list, err := Memory(Sizes{ConntrackTCP: tcp, ConntrackAny: other})
		must(t, err)
		byName = map[string]MapMemory{}
		for _, m := range list {
			total += m.Bytes
			byName[m.Name] = m
		}
		return total, byName
	}
	small, _ := measure(1<<15, 1<<15)
	large, names := measure(1<<16, 1<<15)
	if names[mapConntrackTCP].Entries != 1<<16 || names[mapConntrackAny].Entries != 1<<15 {
		t.Errorf("entries are %+v, expected what was asked for", names)
	}
	t.Logf("each established connection takes %d bytes", (large-small)>>15)
	// An entry of 40 and 112 bytes, its place in the ring, and what the kernel adds.
	if per := (large - small) >> 15; per < 200 || per > 350 {
		t.Errorf("each entry takes %d bytes, expected 200 to 350", per)
	}
}
