package report

import (
	"slices"
	"strings"
	"testing"

	"github.com/weft-cni/weft/internal/datapath"
)

func good() Result {
	r := Result{Name: "6.1", Kernel: "6.1.0-54-cloud-amd64", Tests: Tests{Passed: 3, Ended: true}}
	for _, name := range Variants() {
		v := Variant{Name: name}
		for i, h := range datapath.Hooks() {
			v.Programs = append(v.Programs, datapath.Program{Name: h.String(), Verified: uint32(100 * (i + 1)), Translated: 80})
		}
		r.Variants = append(r.Variants, v)
	}
	return r
}

func TestResultGoesOverTheConsole(t *testing.T) {
	want := good()
	line, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Find(strings.NewReader("[    0.1] boot\r\n[    0.2] " + line + "\r\nreboot: Power down\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Kernel != want.Kernel || len(got.Variants) != len(want.Variants) || len(got.Problems()) > 0 {
		t.Errorf("got %+v, expected %+v", got, want)
	}
	if _, err := Find(strings.NewReader("Kernel panic - not syncing\n")); err == nil {
		t.Error("a console without a result is no error")
	}
}

func TestProblems(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Result)
		want   string
	}{
		"program missing": {func(r *Result) { r.Variants[0].Programs = r.Variants[0].Programs[1:] }, "program from_pod, as shipped, was not loaded"},
		"variant missing": {func(r *Result) { r.Variants = r.Variants[1:] }, "programs as shipped were not tried"},
		"variant refused": {func(r *Result) { r.Variants[0] = Variant{Name: Shipped, Error: "permission denied"} }, "programs as shipped: permission denied"},
		"test failed":     {func(r *Result) { r.Tests.Failed = []string{"TestX"}; r.Tests.Ended = false }, "TestX failed"},
		"nothing ran":     {func(r *Result) { r.Tests = Tests{Ended: true} }, "no test passed"},
		"cut off":         {func(r *Result) { r.Tests.Ended = false }, "the tests were cut off"},
		"error":           {func(r *Result) { r.Error = "module veth: exec format error" }, "module veth: exec format error"},
	} {
		r := good()
		c.change(&r)
		if got := r.Problems(); !slices.Equal(got, []string{c.want}) {
			t.Errorf("%s: %q, expected %q", name, got, c.want)
		}
	}
}

func TestReadTests(t *testing.T) {
	out := "=== RUN   TestA\n--- PASS: TestA (0.1s)\n    --- PASS: TestA/part (0.1s)\n--- FAIL: TestB (1s)\n    --- FAIL: TestB/x (1s)\n--- SKIP: TestC (0s)\nFAIL\n"
	got, err := ReadTests(strings.NewReader(out))
	if err != nil || got.Passed != 1 || !slices.Equal(got.Failed, []string{"TestB"}) || !slices.Equal(got.Skipped, []string{"TestC"}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestCompare(t *testing.T) {
	before := "# Kernels\n\n" + Table([]Result{good()})
	grown := good()
	grown.Variants[1].Programs[0].Verified = 126
	grown.Variants[1].Programs[1].Verified = 250
	got := Compare(before, Table([]Result{grown}))
	want := []string{"from_pod " + Next + " on 6.1: 126 verified instructions, 100 before"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, expected %q", got, want)
	}
}

func TestTestsOfTwoBinaries(t *testing.T) {
	one, other := Tests{Passed: 2, Failed: []string{"TestA"}, Ended: false}, Tests{Passed: 1, Skipped: []string{"TestB"}, Ended: true}
	got := one.And(other)
	if got.Passed != 3 || len(got.Failed) != 1 || len(got.Skipped) != 1 || got.Ended {
		t.Errorf("together %+v, expected 3 passed, 1 failed, 1 skipped and not ended", got)
	}
}
