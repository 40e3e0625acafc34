package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// outcome is what a run ends with.
type outcome struct {
	tallies []*tally
	phases  []phase
	gaps    []gap
	history history
	wrong   uint64
}

// err says what must not have happened.
func (o *outcome) err() error {
	var bad []string
	for _, t := range o.tallies {
		if t.bad() {
			bad = append(bad, fmt.Sprintf("%s: %d done, %d resets, %d time-outs, %d wrong deliveries, other errors %v", t.name, t.done, t.resets, t.timeouts, t.wrongs, t.other[:min(3, len(t.other))]))
		}
	}
	for _, t := range o.tallies {
		// A machine that is busy makes fewer; a test of half as many would be another test.
		if a := float64(t.done) / o.took().Seconds(); t.rate > 0 && o.took() > 0 && a < float64(t.rate)/2 {
			bad = append(bad, fmt.Sprintf("%s: %.0f a second, expected about %d: the machine is too busy for this test", t.name, a, t.rate))
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

func (o *outcome) verdict() string {
	if o.err() != nil {
		return "**Failed.**"
	}
	return "**Passed**: no reset, no time-out, no wrong delivery."
}

// took is all the time in which traffic flowed.
func (o *outcome) took() time.Duration {
	if len(o.phases) == 0 {
		return 0
	}
	return o.phases[len(o.phases)-1].to.Sub(o.phases[0].from)
}

// longest is the longest gap of that traffic in a list that begins with the longest.
func longest(list []gap, traffic string) string {
	for _, g := range list {
		if traffic == "" || g.traffic == traffic {
			return short(g.length())
		}
	}
	return "under " + worthNoting.String()
}

func short(d time.Duration) string { return d.Round(time.Millisecond).String() }

// phase finds a part of the run.
func (o *outcome) phase(name string) phase {
	for _, p := range o.phases {
		if p.name == name {
			return p
		}
	}
	return phase{}
}

func (o *outcome) draw(w io.Writer) error {
	var b strings.Builder
	b.WriteString(o.verdict() + "\n\nWhat happened to the nodes:\n\n")
	for _, l := range o.history.lines {
		fmt.Fprintf(&b, "- %s\n", l)
	}
	worst := during(o.gaps, o.phase(replaced))
	b.WriteString("\n| traffic | exchanges | a second | resets | time-outs | wrong deliveries | longest gap while agents were replaced |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, t := range o.tallies {
		fmt.Fprintf(&b, "| %s | %d | %.0f | %d | %d | %d | %s |\n", t.name, t.done, float64(t.done)/o.took().Seconds(), t.resets, t.timeouts, t.wrongs, longest(worst, t.name))
	}
	fmt.Fprintf(&b, "\nPayloads that servers got and that were meant for others: %d.\n\n", o.wrong)
	b.WriteString(aboutGaps)
	b.WriteString("| what happened | for | times on each | longest gap | longest rest | moments over 50ms, a minute | over 100ms | over 200ms | segments sent again, a second | of them probes | arrived twice | timers that ran out |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, p := range o.phases {
		list := during(o.gaps, p)
		minutes, seconds := p.length().Minutes(), p.length().Seconds()
		fmt.Fprintf(&b, "| %s | %s | %d | %s | %s |", p.name, p.length().Round(time.Second), p.times, longest(list, ""), short(longestRest(list)))
		for _, d := range []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond} {
			fmt.Fprintf(&b, " %.1f |", float64(over(list, d))/minutes)
		}
		for _, n := range []uint64{p.segments.again, p.segments.probes, p.segments.twice, p.segments.timeouts} {
			fmt.Fprintf(&b, " %.1f |", float64(n)/seconds)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\nAn agent used %s of CPU time from its start to its replacement.\n\nThe longest moments while agents were replaced, and those with the longest rest:\n\n| traffic | gap | the machine stood still | no CPU for anybody new | none for the asker | rest | what came last to the agents |\n| --- | --- | --- | --- | --- | --- | --- |\n", short(o.history.each()))
	for _, g := range append(apart(worst, 6), apart(byRest(worst), 6)...) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", g.traffic, short(g.length()), short(g.machine), short(g.users), short(g.asker), short(g.rest()), o.history.before(g.span))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// write makes the report that is kept.
func (o *outcome) write(path, command string) error {
	var b strings.Builder
	heading(&b, "Traffic while agents come and go", command)
	b.WriteString(about)
	if err := o.draw(&b); err != nil {
		return err
	}
	return keepReport(path, b.String())
}

func heading(w io.Writer, title, command string) {
	commit, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		commit = []byte("unknown")
	}
	fmt.Fprintf(w, "# %s\n\nWritten by `%s` at commit %s, %s.\n\n", title, command, strings.TrimSpace(string(commit)), time.Now().UTC().Format(time.DateOnly))
}

func keepReport(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

const about = `Two nodes that are network namespaces, the first with two ENIs, joined by a VPC that drops what comes by
another ENI than its source's. Every payload names its receiver, every answer its sender. An exchange that waits
5 s is a time-out; a datagram that is lost is one, too, for nobody sends it again.

`

const aboutGaps = `A gap is the time between two answers to one kind of traffic. On each processor a thread of the highest priority sleeps a
millisecond at a time: what it was late by, the machine (or what it runs on) stood still. A thread of ordinary priority does the same: what
it was late by besides, there was no CPU for anybody. And so does one of the process that asks. What remains of a gap is its rest; a
lost packet, which is sent again after 200 ms at the soonest, would be there.

The same traffic flowed while nothing happened, while processes used as much CPU as agents do when they are replaced, and while the
agents of two other nodes of this machine were replaced, through which none of it passes. TCP sends a segment again, too, when
the answer to it is late ("probes"); one that arrived twice wasn't lost.

`
