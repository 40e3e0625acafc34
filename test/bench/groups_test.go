package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weft-cni/weft/test/bench/ratio"
)

func TestSelected(t *testing.T) {
	for only, want := range map[string][]string{
		"^rr/cross/vs-ptp$": {"rr/cross/vs-ptp"},
		"^crr/.*vs-veth":    {"crr/cross/vs-veth"},
		"pod-start":         {"pod-start/vs-ptp"},
		"nothing-of-ours":   nil,
	} {
		if got := names(selected(all(), regexp.MustCompile(only).MatchString)); !slices.Equal(got, want) {
			t.Errorf("%s: found %v, expected %v", only, got, want)
		}
	}
	every := names(all())
	if got := names(selected(all(), func(string) bool { return true })); !slices.Equal(got, every) || len(every) < 15 {
		t.Errorf("everything: found %v", got)
	}
	slices.Sort(every)
	if len(slices.Compact(slices.Clone(every))) != len(every) {
		t.Errorf("a name stands twice: %v", every)
	}
}

func TestGoals(t *testing.T) {
	every := names(all())
	for name, g := range goals() {
		if !slices.Contains(every, name) {
			t.Errorf("the goal of %s is of no measure", name)
		}
		for _, c := range []struct {
			of     float64
			strict bool
			want   string
		}{{1, false, "met"}, {1, true, "met"}, {0.96, false, "met within 5 %"}, {0.96, true, "MISSED"}, {0.94, false, "MISSED"}} {
			g.strict = c.strict
			if got := g.judge(ratio.Ratio{Median: g.least * c.of}); got != c.want {
				t.Errorf("%s at %g of its goal: %s, expected %s", name, c.of, got, c.want)
			}
		}
	}
}

func TestFilesAndTable(t *testing.T) {
	r := results{
		Ratios:   []ratio.Measure{{Name: "rr/cross/vs-ptp", Unit: "ratio", Ratio: &ratio.Ratio{Min: 0.5, Median: 1, Max: 2}, Runs: 3}},
		Absolute: []ratio.Measure{{Name: "cluster-up", Unit: "seconds", Runs: 2, Seconds: []float64{4, 6}}},
	}
	path := filepath.Join(t.TempDir(), "deeper", "bench.json")
	if err := write(path, r); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []struct {
		Name, Unit string
		Ratio      struct{ Min, Median, Max float64 }
		Runs       int
	}
	if err := json.Unmarshal(b, &got); err != nil || len(got) != 1 || got[0].Name != "rr/cross/vs-ptp" || got[0].Ratio.Median != 1 || got[0].Runs != 3 {
		t.Errorf("the file of ratios is %s, %v", b, err)
	}
	if b, err = os.ReadFile(strings.TrimSuffix(path, ".json") + "-absolute.json"); err != nil || !strings.Contains(string(b), "cluster-up") {
		t.Errorf("the file of times is %s, %v", b, err)
	}
	var out bytes.Buffer
	if err := draw(&out, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"rr/cross/vs-ptp", "0.500", "2.000", "cluster-up", "5.0", "they prove nothing"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("found\n%s\nexpected %q in it", out.String(), want)
		}
	}
}

func TestNothingMeasuredIsAnEmptyList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bench.json")
	if err := write(path, results{}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(b)) != "[]" {
		t.Errorf("found %q, %v", b, err)
	}
}
