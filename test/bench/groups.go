package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weft-cni/weft/test/bench/paths"
	"github.com/weft-cni/weft/test/bench/ratio"
	"github.com/weft-cni/weft/test/bench/traffic"
)

// group is measures that share what they are measured on.
type group struct {
	name     string
	measures []string
	run      func(ctx context.Context, o options, measures []string, r *results, progress io.Writer) error
}

func all() []group {
	g := []group{{name: "traffic", run: runTraffic}}
	for _, m := range trafficMeasures() {
		g[0].measures = append(g[0].measures, m.name)
	}
	return append(g, group{"lab", []string{"pod-start/vs-ptp", "cluster-up", "install-to-ready"}, runLab})
}

// selected are the groups with the measures that are wanted.
func selected(all []group, wanted func(name string) bool) []group {
	var out []group
	for _, g := range all {
		var keep []string
		for _, m := range g.measures {
			if wanted(m) {
				keep = append(keep, m)
			}
		}
		if len(keep) > 0 {
			g.measures = keep
			out = append(out, g)
		}
	}
	return out
}

func names(groups []group) []string {
	var out []string
	for _, g := range groups {
		out = append(out, g.measures...)
	}
	return out
}

// plugins finds the reference plugins that the lab builds.
func plugins(ctx context.Context, o options, progress io.Writer) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(o.bin, "lab"), "assets")
	cmd.Stderr = progress
	b, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("lab assets, for the ptp plugin: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func runTraffic(ctx context.Context, o options, chosen []string, r *results, progress io.Writer) error {
	tools := paths.Tools{Plugin: filepath.Join(o.bin, "weft-cni"), Work: o.work}
	var errs []error
	for _, s := range stages(o.base) {
		var measures []trafficMeasure
		for _, m := range trafficMeasures() {
			if m.stage == s.name && slices.Contains(chosen, m.name) {
				measures = append(measures, m)
			}
		}
		if len(measures) == 0 {
			continue
		}
		if s.able != nil {
			if err := s.able(); err != nil {
				fmt.Fprintf(progress, "%s: not measured here: %v\n", s.name, err)
				continue
			}
		}
		if tools.Plugins == "" && s.peer.Kind.IsPlugin() {
			var err error
			if tools.Plugins, err = plugins(ctx, o, progress); err != nil {
				return err
			}
		}
		if err := runStage(ctx, o, tools, s, measures, r, progress); err != nil {
			errs = append(errs, fmt.Errorf("beside %s: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}

// runStage measures all that needs the same two networks.
func runStage(ctx context.Context, o options, tools paths.Tools, s stage, measures []trafficMeasure, r *results, progress io.Writer) (err error) {
	var n [2]*paths.Network
	for i, plan := range []paths.Plan{s.weft, s.peer} {
		if n[i], err = paths.Build(ctx, tools, plan); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, n[i].Close()) }()
	}
	runs, during := o.runs, o.during
	if o.quick {
		runs, during = 5, 50*time.Millisecond
	}
	for _, m := range measures {
		var pairs []ratio.Pair
		for i := range runs {
			if err := ctx.Err(); err != nil {
				return err
			}
			p, err := pair(n, m, o.cpu, during, i%2 == 1)
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			pairs = append(pairs, p)
		}
		got, err := ratio.Of(pairs)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		fmt.Fprintf(progress, "%s: %.3f\n", m.name, got.Median)
		r.Ratios = append(r.Ratios, ratio.Measure{Name: m.name, Unit: "ratio", Ratio: &got, Runs: runs})
	}
	return nil
}

// pair measures both sides; which goes first changes, so that neither always meets the other's warm caches.
func pair(n [2]*paths.Network, m trafficMeasure, cpu int, during time.Duration, peerFirst bool) (ratio.Pair, error) {
	for _, one := range n {
		if err := one.Flush(); err != nil {
			return ratio.Pair{}, err
		}
		if m.flows > 0 {
			if err := traffic.Fill(m.path(one), m.flows); err != nil {
				return ratio.Pair{}, err
			}
		}
	}
	if peerFirst {
		p, err := traffic.Compare(m.path(n[1]), m.path(n[0]), m.kind, cpu, during)
		return ratio.Pair{Weft: p.Peer, Peer: p.Weft}, err
	}
	return traffic.Compare(m.path(n[0]), m.path(n[1]), m.kind, cpu, during)
}
