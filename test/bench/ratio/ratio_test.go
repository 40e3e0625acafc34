package ratio

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

func TestOf(t *testing.T) {
	for _, c := range []struct {
		name  string
		pairs []Pair
		want  Ratio
	}{
		{"one", []Pair{{2, 4}}, Ratio{Min: 0.5, Median: 0.5, Max: 0.5}},
		{"odd", []Pair{{1, 1}, {3, 1}, {2, 1}}, Ratio{Min: 1, Median: 2, Max: 3}},
		{"even", []Pair{{1, 1}, {4, 1}, {2, 1}, {3, 1}}, Ratio{Min: 1, Median: 2.5, Max: 4}},
		{"the median of ratios, not the ratio of medians", []Pair{{10, 10}, {1, 2}, {100, 50}}, Ratio{Min: 0.5, Median: 1, Max: 2}},
	} {
		got, err := Of(c.pairs)
		if err != nil || got.Min != c.want.Min || got.Median != c.want.Median || got.Max != c.want.Max {
			t.Errorf("%s: found %v, %v, expected %v", c.name, got, err, c.want)
		}
	}
}

func TestOfRefuses(t *testing.T) {
	if _, err := Of(nil); !errors.Is(err, ErrNothing) {
		t.Errorf("no pairs: %v", err)
	}
	for _, p := range []Pair{{0, 1}, {1, 0}, {-1, -1}, {math.NaN(), 1}, {math.Inf(1), 1}} {
		if r, err := Of([]Pair{{1, 1}, p}); err == nil {
			t.Errorf("%v: found %v, expected an error", p, r)
		}
	}
}

func TestMedianOfNothing(t *testing.T) {
	if m := Median(nil); !math.IsNaN(m) {
		t.Errorf("found %g", m)
	}
}

// The ranks stand in every table of the sign test.
func TestInterval(t *testing.T) {
	for n, c := range map[int]struct {
		low, high  float64 // the values are 1 to n
		confidence float64
	}{
		1: {1, 1, 0}, 2: {1, 2, 0.5}, 5: {1, 5, 0.9375}, 6: {1, 6, 0.96875}, 9: {2, 8, 0.9609375}, 15: {4, 12, 0.96484375}, 20: {6, 15, 0.95861053},
	} {
		var values []float64
		for i := range n {
			values = append(values, float64(n-i))
		}
		low, high, confidence := Interval(values)
		if low != c.low || high != c.high || math.Abs(confidence-c.confidence) > 1e-6 {
			t.Errorf("of %d: found %g to %g with %g, expected %g to %g with %g", n, low, high, confidence, c.low, c.high, c.confidence)
		}
	}
	if low, _, confidence := Interval(nil); !math.IsNaN(low) || confidence != 0 {
		t.Errorf("of none: found %g with %g", low, confidence)
	}
}

// Of many samples of a lopsided distribution the interval holds the median as often as it says.
func TestIntervalHoldsTheMedian(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const samples = 4000
	held := 0
	for range samples {
		var values []float64
		for range 15 {
			values = append(values, r.ExpFloat64())
		}
		if low, high, _ := Interval(values); low <= math.Ln2 && math.Ln2 <= high {
			held++
		}
	}
	if share := float64(held) / samples; share < 0.95 || share > 0.98 {
		t.Errorf("%.3f of the intervals hold the median, expected about 0.965", share)
	}
}
