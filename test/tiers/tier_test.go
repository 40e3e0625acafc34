package main

import (
	"bytes"
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
		{"hangs", "exec tail -f /dev/null", 200 * time.Millisecond, failed, "not done after"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := execute(t.Context(), tier{name: c.name, limit: c.limit, command: c.command}, filepath.Join(t.TempDir(), "log"), new(bytes.Buffer))
			if r.state != c.want || !strings.Contains(r.why, c.why) {
				t.Fatalf("got %s (%s), want %s (%s)", r.state, r.why, c.want, c.why)
			}
		})
	}
}

func TestReport(t *testing.T) {
	ran := result{tier: tier{name: "unit"}, state: passed}
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
	if err := os.WriteFile(p, []byte("# comment\nunit 5m go test\nbroken 5m\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readTiers(p); err == nil || !strings.Contains(err.Error(), ":3:") {
		t.Fatalf("got %v, want an error that names line 3", err)
	}
}
