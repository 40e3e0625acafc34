package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestHeader(t *testing.T) {
	for _, h := range []header{{"server.node-1", 7, 256 << 10}, {strings.Repeat("x", nameSize), 1 << 40, 0}, {}} {
		if got := decode(h.encode()); got != h {
			t.Errorf("found %+v, expected %+v", got, h)
		}
	}
}

func TestTally(t *testing.T) {
	for _, c := range []struct {
		err  error
		want *tally
	}{
		{nil, &tally{done: 1}},
		{fmt.Errorf("x: %w", errWrong), &tally{wrongs: 1}},
		{os.ErrDeadlineExceeded, &tally{timeouts: 1}},
		{&os.SyscallError{Syscall: "connect", Err: syscall.ETIMEDOUT}, &tally{timeouts: 1}},
		{&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, &tally{timeouts: 1}},
		{syscall.ECONNRESET, &tally{resets: 1}},
		{syscall.ECONNREFUSED, &tally{resets: 1}},
		{io.EOF, &tally{resets: 1}},
		{io.ErrUnexpectedEOF, &tally{resets: 1}},
		{errors.New("else"), &tally{other: []error{nil}}},
	} {
		got := &tally{}
		got.count(c.err)
		if got.done != c.want.done || got.resets != c.want.resets || got.timeouts != c.want.timeouts || got.wrongs != c.want.wrongs || len(got.other) != len(c.want.other) {
			t.Errorf("%v: found %+v", c.err, got)
		}
		o := outcome{tallies: []*tally{got}}
		if bad := o.err() != nil; bad != (c.err != nil) {
			t.Errorf("%v: the outcome is bad: %v", c.err, bad)
		}
	}
	if o := (outcome{tallies: []*tally{{}}}); o.err() == nil {
		t.Error("traffic that did nothing passes")
	}
	now := time.Now()
	slow := outcome{tallies: []*tally{{done: 10, rate: 100}}, phases: []phase{{from: now, to: now.Add(time.Second)}}}
	if slow.err() == nil {
		t.Error("a tenth of the connections passes")
	}
	if o := (outcome{wrong: 1}); o.err() == nil {
		t.Error("a payload at another's server passes")
	}
}

func TestCounterInATable(t *testing.T) {
	const table = "Ip: Forwarding TTL\nIp: 1 64\nTcp: RtoAlgorithm RetransSegs\nTcp: 1 275\n"
	if v, err := snmp(table, "Tcp", "RetransSegs"); v != 275 || err != nil {
		t.Errorf("found %d, %v", v, err)
	}
	if v, err := snmp(table, "Udp", "RetransSegs"); err == nil {
		t.Errorf("found %d", v)
	}
}

func TestPart(t *testing.T) {
	sorted := []time.Duration{1, 2, 3, 4}
	for share, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.99: 4, 1: 4} {
		if got := part(sorted, share); got != want {
			t.Errorf("%g: found %d, expected %d", share, got, want)
		}
	}
}

// No two packets of a flood belong to the same flow.
func TestPacketsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for i := range 100_000 {
		to := target(i)
		b := packet([4]byte{10, 20, 1, 20}, to, i)
		seen[string(b[9:10])+string(b[12:24])] = true
	}
	if len(seen) != 100_000 {
		t.Errorf("found %d flows", len(seen))
	}
}

func TestFloodedErr(t *testing.T) {
	fine := func() flooded {
		f := flooded{sent: 10, arrived: 10, counted: map[string]uint64{}}
		for _, k := range kinds() {
			if k.reason != "" {
				f.counted[k.reason] = 7
			}
		}
		f.storms = []storm{{weft: true, passed: 7 * uint64(len(f.counted))}, {passed: 1 << 40}}
		return f
	}
	f := fine()
	if err := f.err(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*flooded){
		"none arrived":      func(f *flooded) { f.arrived = 9 },
		"a connection lost": func(f *flooded) { f.lost = 1 },
		"memory":            func(f *flooded) { f.memoryAfter = memoryBound + 1 },
		"log":               func(f *flooded) { f.logGrew = logBound + 1 },
		"no bad packets":    func(f *flooded) { f.storms = nil },
		"one uncounted":     func(f *flooded) { f.storms[0].passed++ },
		"a kind gets by":    func(f *flooded) { f.counted["source-address"], f.counted["sent"] = 0, 100 },
		"notes count twice": func(f *flooded) { f.storms[0].passed++; f.counted["note-ct-full"] = 100 },
	} {
		f := fine()
		spoil(&f)
		if f.err() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A short form of what `make hitless` does for minutes.
func TestAgentsComeAndGo(t *testing.T) {
	report := command(t, "-time", "12s", "-rounds", "1", "-rate", "50")
	for _, want := range []string{"upgraded to other map layouts: 1 times", "**Passed**", "| requests to the world, masqueraded |", "| datagrams to the other node |",
		"the maps' pins removed while no agent was there", "attached again: a connection over it went on"} {
		if !strings.Contains(report, want) {
			t.Errorf("found\n%s\nexpected %q in it", report, want)
		}
	}
}

// A short form of what `make churn` does for minutes.
func TestChurn(t *testing.T) {
	report := command(t, "-churn", "-backends", "6", "-time", "12s", "-rate", "50", "-between", "1s")
	for _, want := range []string{"agents killed and started: ", "**Passed**", "| datagrams to the service, by sockets that stay |", "has answered somebody: yes"} {
		if !strings.Contains(report, want) {
			t.Errorf("found\n%s\nexpected %q in it", report, want)
		}
	}
}

func TestChurnedErr(t *testing.T) {
	fine := func() *churned {
		return &churned{replaced: 1, upsets: map[string]int{"killed": 1}, took: time.Second, tallies: []*tally{{name: "x", done: 100, rate: 100}}}
	}
	if err := fine().err(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*churned){
		"one refused":      func(c *churned) { c.tallies[0].count(syscall.ECONNREFUSED) },
		"one timed out":    func(c *churned) { c.tallies[0].count(os.ErrDeadlineExceeded) },
		"a wrong answer":   func(c *churned) { c.tallies[0].count(errWrong) },
		"too few":          func(c *churned) { c.tallies[0].done = 10 },
		"nothing replaced": func(c *churned) { c.replaced = 0 },
		"nothing upset":    func(c *churned) { c.upsets = nil },
		"one not asked":    func(c *churned) { c.idle = []string{"b1"} },
	} {
		c := fine()
		if spoil(c); c.err() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSpans(t *testing.T) {
	var s spans
	for i := range 10 * slow {
		s.add(time.Duration(i * 7919 % (10 * slow)))
	}
	if len(s.long) != slow || s.long[0] != 10*slow-1 || s.long[slow-1] != 9*slow {
		t.Errorf("found %d, from %d to %d, expected the %d longest", len(s.long), s.long[0], s.long[len(s.long)-1], slow)
	}
}

func TestFlood(t *testing.T) {
	const want = "| connections established before that answer afterwards | 1000 of 1000 |"
	if report := command(t, "-flood"); !strings.Contains(report, want) {
		t.Errorf("found\n%s\nexpected %q in it", report, want)
	}
}

// command builds the program, runs it and returns its report.
func command(t *testing.T, args ...string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("could not run: needs root for namespaces")
	}
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	dir := t.TempDir()
	for _, p := range []string{"./cmd/weft-cni", "./test/hitless"} {
		cmd := exec.Command("go", "build", "-o", dir+string(filepath.Separator), p)
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v: %s", p, err, out)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	report := filepath.Join(dir, "report.md")
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "hitless"), append(args, "-bin", dir, "-report", report)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v:\n%s", err, out.String())
	}
	b, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
