package loadbalancer

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func someBackends(r *rand.Rand, n int) []netip.AddrPort {
	seen := map[netip.AddrPort]bool{}
	for len(seen) < n {
		seen[netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), byte(r.IntN(256)), byte(r.IntN(256))}), uint16(8080+r.IntN(3)))] = true
	}
	out := make([]netip.AddrPort, 0, n)
	for a := range seen {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

func TestMaglevSizesArePrimes(t *testing.T) {
	for _, size := range MaglevSizes() {
		if !big.NewInt(int64(size)).ProbablyPrime(20) {
			t.Errorf("%d is no prime", size)
		}
	}
}

// Each backend has nearly the same part of the table.
func TestMaglevBalance(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{1021, 16381} {
		for _, n := range []int{1, 2, 3, 10, size / 100} {
			counts := make([]int, n)
			for _, b := range Maglev(someBackends(r, n), size) {
				counts[b]++
			}
			// By construction the fewest and the most differ by one where turns are even.
			if least, most := slices.Min(counts), slices.Max(counts); most-least > 1 {
				t.Errorf("%d backends in %d entries: %d to %d entries each, expected a difference of one at most", n, size, least, most)
			}
		}
	}
}

// A backend that goes takes few others' clients along.
func TestMaglevDisruption(t *testing.T) {
	const size = 16381
	r := rand.New(rand.NewPCG(2, 2))
	for _, n := range []int{2, 5, 20, 100} {
		all := someBackends(r, n)
		gone := r.IntN(n)
		left := slices.Delete(slices.Clone(all), gone, gone+1)
		before, after := Maglev(all, size), Maglev(left, size)
		moved := 0
		for i := range before {
			if b := all[before[i]]; b != all[gone] && b != left[after[i]] {
				moved++
			}
		}
		if part := float64(moved) / size; part > 0.08 {
			t.Errorf("%d backends, one goes: %.1f%% of the others' entries moved, expected few", n, part*100)
		} else {
			t.Logf("%d backends, one goes: %.1f%% of the others' entries moved", n, part*100)
		}
	}
}

// Every node has the same table, in whatever order it knows the backends.
func TestMaglevDependsOnNothingElse(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 20 {
		sorted := someBackends(r, 1+r.IntN(30))
		mixed := slices.Clone(sorted)
		r.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		a, b := Maglev(sorted, 509), Maglev(mixed, 509)
		for i := range a {
			if sorted[a[i]] != mixed[b[i]] {
				t.Fatalf("entry %d is %v and %v in another order", i, sorted[a[i]], mixed[b[i]])
			}
		}
	}
}

// More backends than entries: some have none, and it ends.
func TestMaglevOverfull(t *testing.T) {
	if got := Maglev(someBackends(rand.New(rand.NewPCG(4, 4)), 600), 251); len(got) != 251 || len(slices.Compact(slices.Sorted(slices.Values(got)))) != 251 {
		t.Errorf("%d entries, expected 251 different ones", len(got))
	}
	if got := Maglev(nil, 251); got != nil {
		t.Errorf("%v of no backends", got)
	}
}

func BenchmarkMaglev(b *testing.B) {
	backends := someBackends(rand.New(rand.NewPCG(5, 5)), 100)
	for _, size := range []int{16381, 131071} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			for b.Loop() {
				Maglev(backends, size)
			}
		})
	}
}
