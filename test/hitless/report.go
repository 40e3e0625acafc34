package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// outcome is what a run ends with.
type outcome struct {
	tallies       []*tally
	history       history
	wrong         uint64
	retransmitted uint64
	took          time.Duration
	// The time before anything happened to the agents, for comparison.
	quiet, quietGap    time.Duration
	quietRetransmitted uint64
}

// err says what must not have happened.
func (o *outcome) err() error {
	var bad []string
	for _, t := range o.tallies {
		if t.bad() {
			bad = append(bad, fmt.Sprintf("%s: %d done, %d resets, %d time-outs, %d wrong deliveries, other errors %v", t.name, t.done, t.resets, t.timeouts, t.wrongs, t.other[:min(3, len(t.other))]))
		}
	}
	if o.wrong > 0 {
		bad = append(bad, fmt.Sprintf("servers were sent %d payloads that were meant for others", o.wrong))
	}
	if len(bad) > 0 {
		return fmt.Errorf("expected that nothing is lost, found:\n%s", strings.Join(bad, "\n"))
	}
	return nil
}

func (o *outcome) longest() (out time.Duration) {
	for _, t := range o.tallies {
		out = max(out, t.longest())
	}
	return out
}

func (o *outcome) draw(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "traffic\texchanges\tresets\ttime-outs\twrong\tlongest gap")
	for _, f := range o.tallies {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\n", f.name, f.done, f.resets, f.timeouts, f.wrongs, f.gap.Round(time.Millisecond))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s\n", o.sum())
	return err
}

func (o *outcome) sum() string {
	return fmt.Sprintf("In %s the longest gap was %s, and %d TCP segments were sent again (%.1f a second). In the %s before, with agents that nothing happened to, %s and %d (%.1f a second).",
		o.took.Round(time.Second), o.longest().Round(time.Millisecond), o.retransmitted, float64(o.retransmitted)/o.took.Seconds(),
		o.quiet.Round(time.Second), o.quietGap.Round(time.Millisecond), o.quietRetransmitted, float64(o.quietRetransmitted)/o.quiet.Seconds())
}

// write makes the report that is kept.
func (o *outcome) write(path, command string) error {
	commit, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		commit = []byte("unknown")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Traffic while agents come and go\n\nWritten by `%s` at commit %s, %s.\n\n", command, strings.TrimSpace(string(commit)), time.Now().UTC().Format(time.DateOnly))
	b.WriteString(about)
	for _, l := range o.history.lines {
		fmt.Fprintf(&b, "- %s\n", l)
	}
	b.WriteString("\n| traffic | exchanges | resets | time-outs | wrong deliveries | longest gap |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, f := range o.tallies {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %s |\n", f.name, f.done, f.resets, f.timeouts, f.wrongs, f.gap.Round(time.Millisecond))
	}
	fmt.Fprintf(&b, "\nPayloads that servers got and that were meant for others: %d.\n\n%s\n", o.wrong, o.sum())
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

const about = `Two nodes that are network namespaces, the first with two ENIs, joined by a VPC that drops what comes by
another ENI than its source's. Every payload names its receiver, every answer its sender. An exchange that waits
5 s is a time-out. A gap is the time between two exchanges of one kind; it holds the machine's own pauses, and the
time that a lost packet needs to be sent again.

What happened to both nodes meanwhile:

`
