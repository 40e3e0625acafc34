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
	// The true median lies between Low and High with a probability of at least Confidence.
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
	Confidence float64 `json:"confidence"`
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
	r := Ratio{Min: slices.Min(all), Median: Median(all), Max: slices.Max(all)}
	r.Low, r.High, r.Confidence = Interval(all)
	return r, nil
}

// wanted is how sure an interval is to be.
const wanted = 0.95

// Interval is the narrowest one between two of the values that holds the true median with a probability of 0.95,
// whatever the values' distribution: how many of n lie below the median is binomial. Of less than six values none is
// so sure; then it is all of them, and says how sure that is.
func Interval(values []float64) (low, high, confidence float64) {
	n := len(values)
	if n == 0 {
		return math.NaN(), math.NaN(), 0
	}
	s := slices.Sorted(slices.Values(values))
	// below is the probability that at most cut values are on one side.
	term := math.Pow(0.5, float64(n))
	below, cut := term, 0
	for k := 1; k <= n/2; k++ {
		term *= float64(n-k+1) / float64(k)
		if 1-2*(below+term) < wanted {
			break
		}
		below, cut = below+term, k
	}
	return s[cut], s[n-1-cut], max(0, 1-2*below)
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
