package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
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

// selected are the groups with the measures that match.
func selected(all []group, only *regexp.Regexp) []group {
	var out []group
	for _, g := range all {
		var keep []string
		for _, m := range g.measures {
			if only.MatchString(m) {
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

// trafficMeasure is one kind of traffic on one path of weft's and a peer's.
type trafficMeasure struct {
	name, peer string
	kind       traffic.Kind
	local      bool
	// plain is weft without masquerade.
	plain bool
}

func trafficMeasures() []trafficMeasure {
	var out []trafficMeasure
	add := func(peer string, local, plain bool, kinds ...traffic.Kind) {
		path := "cross"
		if local {
			path = "local"
		}
		for _, k := range kinds {
			name := fmt.Sprintf("%s/%s/vs-%s", k, path, peer)
			if plain {
				name += "/no-masquerade"
			}
			out = append(out, trafficMeasure{name, peer, k, local, plain})
		}
	}
	add("ptp", false, false, traffic.RR, traffic.CRR, traffic.UDP, traffic.Stream)
	add("ptp", false, true, traffic.RR, traffic.CRR, traffic.UDP, traffic.Stream)
	add("veth", false, false, traffic.RR, traffic.CRR, traffic.UDP, traffic.Stream)
	add("ptp", true, false, traffic.RR, traffic.CRR, traffic.UDP, traffic.Stream)
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

func runTraffic(ctx context.Context, o options, chosen []string, r *results, progress io.Writer) (err error) {
	folder, err := plugins(ctx, o, progress)
	if err != nil {
		return err
	}
	wefts := map[bool]*paths.Network{}
	for _, plain := range []bool{false, true} {
		if wefts[plain], err = paths.Weft(ctx, o.work, filepath.Join(o.bin, "weft-cni"), !plain); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, wefts[plain].Close()) }()
	}
	peers := map[string]*paths.Network{}
	if peers["ptp"], err = paths.PTP(ctx, o.work, folder); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peers["ptp"].Close()) }()
	if peers["veth"], err = paths.Veth(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peers["veth"].Close()) }()
	runs, during := 21, 250*time.Millisecond
	if o.quick {
		runs, during = 5, 50*time.Millisecond
	}
	for _, m := range trafficMeasures() {
		if !slices.Contains(chosen, m.name) {
			continue
		}
		var pairs []ratio.Pair
		for i := range runs {
			if err := ctx.Err(); err != nil {
				return err
			}
			p, err := pair(wefts[m.plain], peers[m.peer], m, o.cpu, during, i%2 == 1)
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
func pair(weft, peer *paths.Network, m trafficMeasure, cpu int, during time.Duration, peerFirst bool) (ratio.Pair, error) {
	var p ratio.Pair
	sides := []struct {
		n    *paths.Network
		into *float64
	}{{weft, &p.Weft}, {peer, &p.Peer}}
	if peerFirst {
		sides[0], sides[1] = sides[1], sides[0]
	}
	for _, s := range sides {
		if err := s.n.Flush(); err != nil {
			return p, err
		}
		path := s.n.Cross
		if m.local {
			path = s.n.Local
		}
		rate, err := traffic.Rate(path, m.kind, cpu, during)
		if err != nil {
			return p, err
		}
		*s.into = rate
	}
	return p, nil
}
