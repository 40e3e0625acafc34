package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestExecute(t *testing.T) {
	for _, c := range []struct {
		name, command string
		limit         time.Duration
		want          state
		why           string
	}{
		{"passes", "echo fine", time.Minute, passed, ""},
		{"fails", "exit 3", time.Minute, failed, "exit status 3"},
		{"absent", "echo first; echo no emulator here; exit 77", time.Minute, couldNotRun, "no emulator here"},
		{"computes", "i=0; while ((i++ < 30000)); do :; done", time.Minute, passed, ""},
		{"hangs", "exec tail -f /dev/null", 200 * time.Millisecond, failed, "not done after"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := execute(t.Context(), tier{name: c.name, limit: c.limit, command: c.command}, filepath.Join(t.TempDir(), "log"), new(bytes.Buffer))
			if r.state != c.want || !strings.Contains(r.why, c.why) {
				t.Fatalf("got %s (%s), want %s (%s)", r.state, r.why, c.want, c.why)
			}
			if c.name == "computes" && r.cpu < time.Millisecond {
				t.Fatalf("it took %s of CPU time", r.cpu)
			}
		})
	}
}

func TestReport(t *testing.T) {
	ran := result{tier: tier{name: "unit"}, state: passed}
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, []byte("much else\n--- FAIL: TestA (1s)\n    a_test.go:1: found 1\nFAIL\tpackage\t1s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broke := result{tier: tier{name: "bpf"}, state: failed, why: "exit status 2", log: log}
	gone := result{tier: tier{name: "kernels"}, state: couldNotRun, why: "no emulator"}
	for _, c := range []struct {
		name    string
		results []result
		allowed map[string]string
		code    int
		closing string
	}{
		{"all pass", []result{ran}, nil, 0, "1 passed, 0 failed, 0 skipped"},
		{"absent counts as failed", []result{ran, gone}, nil, 1, "1 passed, 1 failed, 0 skipped"},
		{"absent but allowed", []result{ran, gone}, map[string]string{"kernels": "why"}, 0, "1 passed, 0 failed, 1 skipped"},
		{"why it failed comes last", []result{broke, ran}, nil, 1, "--- FAIL: TestA (1s)\n      a_test.go:1: found 1\n  FAIL\tpackage\t1s\n\n1 passed, 1 failed, 0 skipped\n"},
		{"its output is gone", []result{{tier: ran.tier, state: failed, log: log + "x"}, ran}, nil, 1, "no such file or directory\n\n1 passed, 1 failed"},
		{"nothing ran", []result{gone}, map[string]string{"kernels": "why"}, 1, "0 passed, 0 failed, 1 skipped"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			if code := report(&b, c.results, c.allowed); code != c.code || !strings.Contains(b.String(), c.closing) {
				t.Fatalf("code %d, want %d; output:\n%s", code, c.code, b.String())
			}
		})
	}
}

func TestReadTiersSaysWhere(t *testing.T) {
	p := filepath.Join(t.TempDir(), "tiers")
	if err := os.WriteFile(p, []byte("# comment\nunit main 5m go test\nbroken main 5m\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readTiers(p); err == nil || !strings.Contains(err.Error(), ":3:") {
		t.Fatalf("got %v, want an error that names line 3", err)
	}
}

// A lane's tiers come one after the other while the other lane's run: the first waits for what the second lane's
// only tier makes, and each writes whole lines.
func TestLanes(t *testing.T) {
	dir := t.TempDir()
	meet := func(mine, theirs string) string {
		return "touch " + filepath.Join(dir, mine) + "; until [ -e " + filepath.Join(dir, theirs) + " ]; do sleep 0.05; done; printf 'met '; echo " + mine
	}
	tiers := []tier{
		{name: "a", lane: "x", limit: time.Minute, command: meet("a", "b")},
		{name: "b", lane: "y", limit: time.Minute, command: meet("b", "a")},
		{name: "c", lane: "x", limit: time.Minute, command: "test -e " + filepath.Join(dir, "a")},
	}
	var out bytes.Buffer
	results := runLanes(t.Context(), tiers, dir, &out)
	for i, r := range results {
		if r.tier.name != tiers[i].name || r.state != passed {
			t.Errorf("result %d is of %s: %s %s", i, r.tier.name, r.state, r.why)
		}
	}
	if results[2].began < results[0].began+results[0].took {
		t.Errorf("c began after %s, while a ran (%s from %s on)", results[2].began, results[0].took, results[0].began)
	}
	for _, want := range []string{"a        | met a\n", "b        | met b\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}

func TestNothingBeginsAfterAnInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	results := runLanes(ctx, []tier{{name: "a", lane: "x", limit: time.Minute, command: "true"}}, t.TempDir(), new(bytes.Buffer))
	if results[0].state != failed || results[0].why != interrupted {
		t.Errorf("%s %s, expected a failure that says so", results[0].state, results[0].why)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	r := execute(ctx, tier{name: "a", limit: time.Minute, command: "exec tail -f /dev/null"}, filepath.Join(t.TempDir(), "log"), new(bytes.Buffer))
	if r.state != failed || r.why != interrupted {
		t.Errorf("%s %s, expected a failure that says that it was interrupted", r.state, r.why)
	}
}
