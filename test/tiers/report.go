package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// report prints the table, why tiers failed and the closing line, and returns the exit code.
func report(w io.Writer, results []result, allowed map[string]string) int {
	var bad []result
	passedN, skippedN := 0, 0
	var whole, cpu time.Duration
	fmt.Fprintf(w, "\n%-9s %-6s %-14s %6s %8s %6s\n", "TIER", "LANE", "RESULT", "BEGAN", "SECONDS", "CPU")
	for _, r := range results {
		note := r.why
		switch r.state {
		case passed:
			passedN++
		case failed:
			bad = append(bad, r)
		case couldNotRun:
			if why, ok := allowed[r.tier.name]; ok {
				skippedN++
				note = fmt.Sprintf("%s (allowed: %s)", r.why, why)
			} else {
				bad = append(bad, r)
				note = r.why + " (not named in test/allowed-absent: counts as failed)"
			}
		}
		whole, cpu = max(whole, r.began+r.took), cpu+r.cpu
		fmt.Fprintf(w, "%-9s %-6s %-14s %6.0f %8.0f %6.0f  %s\n", r.tier.name, r.tier.lane, r.state, r.began.Seconds(), r.took.Seconds(), r.cpu.Seconds(), note)
	}
	fmt.Fprintf(w, "%-9s %-6s %-14s %6s %8.0f %6.0f\n", "all", "", "", "", whole.Seconds(), cpu.Seconds())
	for _, r := range bad {
		explain(w, r, max(excerptLeast, excerptLines/len(bad)))
	}
	fmt.Fprintf(w, "\n%d passed, %d failed, %d skipped\n", passedN, len(bad), skippedN)
	if len(bad) > 0 || passedN == 0 {
		return 1
	}
	return 0
}

// explain prints what of a failed tier's output says why.
func explain(w io.Writer, r result, most int) {
	if r.state == couldNotRun || r.why == interrupted || r.log == "" {
		return // the table says it
	}
	output, err := os.ReadFile(r.log)
	if err != nil {
		fmt.Fprintf(w, "\n%s FAILED, and its output can't be read: %v\n", r.tier.name, err)
		return
	}
	fmt.Fprintf(w, "\n%s FAILED, all of its output is in %s:\n", r.tier.name, r.log)
	for _, line := range excerpt(string(output), most) {
		fmt.Fprintf(w, "  %s\n", line)
	}
}
