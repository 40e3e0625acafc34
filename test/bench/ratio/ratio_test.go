package ratio

import (
	"errors"
	"math"
	"testing"
)

func TestOf(t *testing.T) {
	for _, c := range []struct {
		name  string
		pairs []Pair
		want  Ratio
	}{
		{"one", []Pair{{2, 4}}, Ratio{0.5, 0.5, 0.5}},
		{"odd", []Pair{{1, 1}, {3, 1}, {2, 1}}, Ratio{1, 2, 3}},
		{"even", []Pair{{1, 1}, {4, 1}, {2, 1}, {3, 1}}, Ratio{1, 2.5, 4}},
		{"the median of ratios, not the ratio of medians", []Pair{{10, 10}, {1, 2}, {100, 50}}, Ratio{0.5, 1, 2}},
	} {
		got, err := Of(c.pairs)
		if err != nil || got != c.want {
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
