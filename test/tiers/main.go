// Command tiers runs the tiers of tests that `make test` promises, one after the other, and ends with a
// table that says of each whether it ran, passed, failed or could not run and why. A tier that could not
// run counts as a failure unless test/allowed-absent names it with a reason.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	file := flag.String("tiers", "test/tiers/tiers.txt", "file that lists the tiers")
	allowed := flag.String("allowed-absent", "test/allowed-absent", "file that names tiers which may be absent")
	logs := flag.String("logs", "build/logs", "directory for the tiers' output")
	only := flag.String("only", "", "run only tiers whose name matches this regular expression")
	flag.Parse()

	match, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tiers: --only:", err)
		return 2
	}
	tiers, err := readTiers(*file)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tiers:", err)
		return 2
	}
	absent, err := readAllowed(*allowed)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tiers:", err)
		return 2
	}
	if err := os.MkdirAll(*logs, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, "tiers:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	var results []result
	for _, t := range tiers {
		if !match.MatchString(t.name) {
			continue
		}
		if ctx.Err() != nil {
			results = append(results, result{tier: t, state: failed, why: "interrupted"})
			continue
		}
		results = append(results, execute(ctx, t, filepath.Join(*logs, t.name+".log"), os.Stdout))
	}
	return report(os.Stdout, results, absent)
}

// report prints the table and the closing line, and returns the exit code.
func report(w io.Writer, results []result, allowed map[string]string) int {
	passedN, failedN, skippedN := 0, 0, 0
	fmt.Fprintf(w, "\n%-12s %-14s %8s  %s\n", "TIER", "RESULT", "SECONDS", "")
	for _, r := range results {
		note := r.why
		switch r.state {
		case passed:
			passedN++
		case failed:
			failedN++
		case couldNotRun:
			if why, ok := allowed[r.tier.name]; ok {
				skippedN++
				note = fmt.Sprintf("%s (allowed: %s)", r.why, why)
			} else {
				failedN++
				note = r.why + " (not named in test/allowed-absent: counts as failed)"
			}
		}
		fmt.Fprintf(w, "%-12s %-14s %8.0f  %s\n", r.tier.name, r.state, r.took.Seconds(), note)
	}
	fmt.Fprintf(w, "\n%d passed, %d failed, %d skipped\n", passedN, failedN, skippedN)
	if failedN > 0 || passedN == 0 {
		return 1
	}
	return 0
}
