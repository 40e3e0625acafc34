package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
	if o := (outcome{wrong: 1}); o.err() == nil {
		t.Error("a payload at another's server passes")
	}
}

func TestSNMP(t *testing.T) {
	const table = "Ip: Forwarding TTL\nIp: 1 64\nTcp: RtoAlgorithm RetransSegs\nTcp: 1 275\n"
	if v, err := snmp(table, "Tcp", "RetransSegs"); v != 275 || err != nil {
		t.Errorf("found %d, %v", v, err)
	}
	if v, err := snmp(table, "Udp", "RetransSegs"); err == nil {
		t.Errorf("found %d", v)
	}
}

// A short form of what `make hitless` does for minutes.
func TestAgentsComeAndGo(t *testing.T) {
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
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	report := filepath.Join(dir, "report.md")
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "hitless"), "-bin", dir, "-time", "12s", "-upsets", "4", "-rate", "50", "-report", report)
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
	for _, want := range []string{"upgraded to other map layouts: 1 times", "| requests to the world, masqueraded |"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("found\n%s\nexpected %q in it", b, want)
		}
	}
}
