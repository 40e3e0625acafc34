// Package ratio turns pairs of measurements into what a benchmark may claim: how often one does what the
// other does, taken side by side.
package ratio

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Pair is one measurement of each side, taken one right after the other. Higher is better.
type Pair struct{ Weft, Peer float64 }

// Ratio is weft over peer.
type Ratio struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
}

// ErrNothing is the ratio of no pairs.
var ErrNothing = errors.New("no pair was measured")

// Of computes the ratio of each pair and sums them up.
func Of(pairs []Pair) (Ratio, error) {
	if len(pairs) == 0 {
		return Ratio{}, ErrNothing
	}
	var all []float64
	for i, p := range pairs {
		r := p.Weft / p.Peer
		if p.Weft <= 0 || p.Peer <= 0 || math.IsInf(r, 0) || math.IsNaN(r) {
			return Ratio{}, fmt.Errorf("pair %d is %g over %g, expected two rates above 0", i+1, p.Weft, p.Peer)
		}
		all = append(all, r)
	}
	return Ratio{Min: slices.Min(all), Median: Median(all), Max: slices.Max(all)}, nil
}

// Median of values; of an even number the mean of the two in the middle.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	m := len(s) / 2
	if len(s)%2 == 1 {
		return s[m]
	}
	return (s[m-1] + s[m]) / 2
}

// Measure is a line of the table and of the file.
type Measure struct {
	Name  string `json:"name"`
	Unit  string `json:"unit"`
	Ratio *Ratio `json:"ratio,omitempty"`
	Runs  int    `json:"runs"`
	// Seconds are of absolute measures, which have no peer.
	Seconds []float64 `json:"seconds,omitempty"`
}
