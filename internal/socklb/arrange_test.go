package socklb

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func ports(of ...int) []netip.AddrPort {
	var out []netip.AddrPort
	for _, n := range of {
		out = append(out, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 80))
	}
	return out
}

func TestArrange(t *testing.T) {
	for name, test := range map[string]struct {
		have, want, slots []netip.AddrPort
		writes            []int
	}{
		"first":             {nil, ports(1, 2), ports(1, 2), []int{0, 1}},
		"nothing":           {ports(1, 2), nil, nil, nil},
		"the same":          {ports(2, 1), ports(1, 2), ports(2, 1), nil},
		"one more":          {ports(1, 2), ports(1, 2, 3), ports(1, 2, 3), []int{2}},
		"the first goes":    {ports(1, 2, 3), ports(2, 3), ports(3, 2), []int{0}},
		"the last goes":     {ports(1, 2, 3), ports(1, 2), ports(1, 2), nil},
		"another for one":   {ports(1, 2, 3), ports(1, 3, 4), ports(1, 4, 3), []int{1}},
		"twice in the maps": {ports(1, 1, 2), ports(1, 2), ports(1, 2), []int{1}},
	} {
		t.Run(name, func(t *testing.T) {
			slots, writes := arrange(test.have, test.want)
			if !slices.Equal(slots, test.slots) || !slices.Equal(writes, test.writes) {
				t.Errorf("slots %v, writes %v; expected %v, %v", slots, writes, test.slots, test.writes)
			}
		})
	}
}

func TestArrangeWritesAsFewAsItCan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		have, want := ports(r.Perm(40)[:r.IntN(20)]...), ports(r.Perm(40)[:r.IntN(20)]...)
		slices.SortFunc(want, netip.AddrPort.Compare)
		slots, writes := arrange(have, want)
		sorted := slices.SortedFunc(slices.Values(slots), netip.AddrPort.Compare)
		if !slices.Equal(sorted, want) {
			t.Fatalf("%v for %v", slots, want)
		}
		must := 0
		for i, s := range slots {
			same := i < len(have) && have[i] == s
			if same == slices.Contains(writes, i) {
				t.Fatalf("slot %d: %v, writes %v, had %v", i, s, writes, have)
			}
			if !slices.Contains(have[:min(len(have), len(want))], s) {
				must++
			}
		}
		if len(writes) != must {
			t.Fatalf("%d writes, expected %d: %v to %v", len(writes), must, have, want)
		}
	}
}
