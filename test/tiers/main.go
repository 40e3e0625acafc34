// Command tiers runs the tiers of tests that `make test` promises: those of one lane one after the other, the lanes
// side by side. It ends with a table that says of each tier whether it ran, passed, failed or could not run and
// why, and with the lines that say why one failed. A tier that could not run counts as a failure unless
// test/allowed-absent names it with a reason.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
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

	var chosen []tier
	for _, t := range tiers {
		if match.MatchString(t.name) {
			chosen = append(chosen, t)
		}
	}
	return report(os.Stdout, runLanes(ctx, chosen, *logs, os.Stdout), absent)
}
