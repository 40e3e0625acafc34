package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/weft-cni/weft/test/bench/labbench"
	"github.com/weft-cni/weft/test/bench/ratio"
)

const (
	podStart  = "pod-start/vs-ptp"
	clusterUp = "cluster-up"
	installed = "install-to-ready"
)

// runLab measures on labs of its own. Each later measure needs what the ones before it made.
func runLab(ctx context.Context, o options, chosen []string, r *results, progress io.Writer) error {
	labs, pods := 3, 15
	if o.quick || !slices.Contains(chosen, clusterUp) && !slices.Contains(chosen, installed) {
		labs = 1
	}
	if o.quick {
		pods = 5
	}
	times := map[string][]float64{}
	for i := range labs {
		if err := oneLab(ctx, o, chosen, pods, i == labs-1, r, times, progress); err != nil {
			return err
		}
	}
	for _, name := range []string{clusterUp, installed} {
		if slices.Contains(chosen, name) {
			r.Absolute = append(r.Absolute, ratio.Measure{Name: name, Unit: "seconds", Runs: len(times[name]), Seconds: times[name]})
		}
	}
	return nil
}

func oneLab(ctx context.Context, o options, chosen []string, pods int, last bool, r *results, times map[string][]float64, progress io.Writer) (err error) {
	l, took, err := labbench.Create(ctx, o.bin, o.work, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Delete()) }()
	note(times, clusterUp, took)
	if !slices.Contains(chosen, installed) && !slices.Contains(chosen, podStart) {
		return nil
	}
	if took, err = l.Install(ctx); err != nil {
		return err
	}
	note(times, installed, took)
	if !last || !slices.Contains(chosen, podStart) {
		return nil
	}
	pairs, err := l.PodStart(ctx, pods)
	if err != nil {
		return err
	}
	got, err := ratio.Of(pairs)
	if err != nil {
		return fmt.Errorf("%s: %w", podStart, err)
	}
	r.Ratios = append(r.Ratios, ratio.Measure{Name: podStart, Unit: "ratio", Ratio: &got, Runs: len(pairs)})
	for side, rate := range map[string]func(ratio.Pair) float64{
		"pod-start by weft": func(p ratio.Pair) float64 { return p.Weft },
		"pod-start by ptp":  func(p ratio.Pair) float64 { return p.Peer },
	} {
		for _, p := range pairs {
			times[side] = append(times[side], 1/rate(p))
		}
		r.Absolute = append(r.Absolute, ratio.Measure{Name: side, Unit: "seconds", Runs: len(pairs), Seconds: times[side]})
	}
	return nil
}

func note(times map[string][]float64, name string, took time.Duration) {
	times[name] = append(times[name], took.Seconds())
}
