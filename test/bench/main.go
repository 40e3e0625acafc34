// Command bench measures weft beside its peers on this machine, as ratios of what was taken side by side.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/weft-cni/weft/test/bench/ratio"
	"github.com/weft-cni/weft/test/bench/traffic"
	"github.com/weft-cni/weft/test/rig"
)

type options struct {
	only  *regexp.Regexp
	quick bool
	// goals leaves out what has none.
	goals bool
	list  bool
	// runs is how many pairs are taken of each measure, during how long each side of a pair is busy.
	runs   int
	during time.Duration
	// cpu is where both ends of a connection run.
	cpu       int
	bin, work string
	out       string
	// base is another build of this program, which self/… compares with.
	base string
}

func main() {
	if child, err := rig.Child(os.Args); child {
		if err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			os.Exit(1)
		}
		return
	}
	if child, err := traffic.Child(os.Args); child {
		if err != nil {
			fmt.Fprintln(os.Stderr, "traffic:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	only := flag.String("only", ".", "measures whose name matches this regular expression")
	flag.BoolVar(&o.quick, "quick", false, "fewer and shorter runs: enough to see that it works, not to claim anything")
	flag.BoolVar(&o.goals, "goals", false, "only measures that have a goal")
	flag.BoolVar(&o.list, "list", false, "list the measures")
	flag.IntVar(&o.runs, "runs", 15, "pairs of each measure")
	flag.DurationVar(&o.during, "during", 200*time.Millisecond, "how long each side of a pair is busy")
	flag.IntVar(&o.cpu, "cpu", 0, "CPU for both ends of a connection")
	flag.StringVar(&o.bin, "bin", "bin", "directory of the built programs")
	flag.StringVar(&o.base, "base", "", "another build of this program, with which self/... compares: weft before a change")
	flag.StringVar(&o.out, "out", "build/bench.json", "file for the figures")
	timeout := flag.Duration("timeout", 90*time.Minute, "give up after this time")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		fmt.Fprintln(os.Stderr, "bench: -only:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// results are apart, since only ratios can be compared between machines.
type results struct{ Ratios, Absolute []ratio.Measure }

func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	groups := selected(all(), func(name string) bool {
		_, goal := goals()[name]
		return o.only.MatchString(name) && (goal || !o.goals)
	})
	if len(groups) == 0 {
		return fmt.Errorf("no measure matches %s; the measures are %v", o.only, names(all()))
	}
	if o.list {
		for _, n := range names(groups) {
			fmt.Fprintln(out, n)
		}
		return nil
	}
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	if o.work, err = os.MkdirTemp("", "weft-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.work)) }()
	var r results
	var errs []error
	for _, g := range groups {
		// What one group can't measure is told, and doesn't keep the others from being measured.
		if err := g.run(ctx, o, g.measures, &r, progress); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", g.name, err))
		}
	}
	if err := draw(out, r); err != nil {
		return err
	}
	return errors.Join(append(errs, write(o.out, r))...)
}

func draw(out io.Writer, r results) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	if len(r.Ratios) > 0 {
		fmt.Fprintln(w, "weft over peer (higher is better)\tmin\tmedian\tits interval\tmax\truns\tgoal\t")
		goals := goals()
		for _, m := range r.Ratios {
			least, verdict := "", ""
			if g, ok := goals[m.Name]; ok {
				least, verdict = fmt.Sprintf("%.2f", g.least), g.judge(*m.Ratio)
			}
			fmt.Fprintf(w, "%s\t%.3f\t%.3f\t%.3f-%.3f (%.0f %%)\t%.3f\t%d\t%s\t%s\n", m.Name, m.Ratio.Min, m.Ratio.Median, m.Ratio.Low, m.Ratio.High, 100*m.Ratio.Confidence,
				m.Ratio.Max, m.Runs, least, verdict)
		}
	}
	if len(r.Absolute) > 0 {
		fmt.Fprintln(w, "absolute times (of this machine now: they prove nothing)\tseconds\t\t\t\truns")
		for _, m := range r.Absolute {
			fmt.Fprintf(w, "%s\t%.1f\t\t\t\t%d\n", m.Name, ratio.Median(m.Seconds), m.Runs)
		}
	}
	return w.Flush()
}

// write makes two files: the ratios, which others read, and beside them the times.
func write(path string, r results) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	ext := filepath.Ext(path)
	for name, list := range map[string][]ratio.Measure{path: r.Ratios, strings.TrimSuffix(path, ext) + "-absolute" + ext: r.Absolute} {
		b, err := json.MarshalIndent(append([]ratio.Measure{}, list...), "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(name, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}
