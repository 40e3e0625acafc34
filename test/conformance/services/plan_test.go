package services

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

func sampleList(t *testing.T) list {
	t.Helper()
	l, err := readList(strings.NewReader(sample), sectionWithout)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var sampleSpecs = []string{"[sig-network] Services serves", "[sig-network] A should b", "[sig-network] C should d", "[sig-network] Netpol denies"}

func TestMakePlan(t *testing.T) {
	l := sampleList(t)
	p, err := makePlan(sampleSpecs, l, regexp.MustCompile("."))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.must, sampleSpecs[:1]) || !slices.Equal(p.listed, sampleSpecs[1:3]) || p.outside != 1 {
		t.Errorf("plan is %+v", p)
	}
	p, err = makePlan(sampleSpecs, l, regexp.MustCompile("C should"))
	if err != nil || len(p.must) != 0 || !slices.Equal(p.listed, sampleSpecs[2:3]) {
		t.Errorf("only some: %+v, %v", p, err)
	}
	for name, tt := range map[string]struct {
		specs []string
		only  string
	}{
		"a listed spec that isn't upstream": {sampleSpecs[2:], "."},
		"a family without a spec":           {sampleSpecs[:3], "."},
		"two of a name":                     {append(slices.Clone(sampleSpecs), sampleSpecs[0]), "."},
		"nothing chosen":                    {sampleSpecs, "nothing at all"},
	} {
		if _, err := makePlan(tt.specs, l, regexp.MustCompile(tt.only)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	l.listed["[sig-network] Netpol denies"] = "why"
	if _, err := makePlan(sampleSpecs, l, regexp.MustCompile(".")); err == nil {
		t.Error("listed and of a family: no error")
	}
}

func TestFocusMatchesWholeNames(t *testing.T) {
	re := regexp.MustCompile(focus([]string{"[sig-network] A (x) should b [LinuxOnly]", "[sig-network] C"}))
	for name, want := range map[string]bool{
		"[sig-network] A (x) should b [LinuxOnly]":      true,
		"[sig-network] C":                               true,
		"[sig-network] C and more":                      false,
		"[sig-network] A (x) should b":                  false,
		"other [sig-network] C":                         false,
		"[sig-network] A (x) should b [LinuxOnly] more": false,
	} {
		if got := re.MatchString(suiteName + " " + name); got != want {
			t.Errorf("%q: chosen %v, expected %v", name, got, want)
		}
	}
}

func TestJudge(t *testing.T) {
	l := sampleList(t)
	listed := "[sig-network] A should b"
	p := plan{must: []string{"passes", "fails", "skips", "never ran", "hangs"}, listed: []string{listed}}
	results := map[string]result{
		"passes": {state: passed}, "fails": {state: "failed", message: "expected 1"}, "skips": {state: skipped, message: "needs three nodes"},
		"hangs": {state: "timedout"},
	}
	for name, tt := range map[string]struct {
		listedState string
		failures    string
	}{
		"listed one fails":        {"failed", "fails skips never ran hangs"},
		"listed one didn't run":   {"", "fails skips never ran hangs"},
		"listed one skips itself": {skipped, "fails skips never ran hangs"},
		"listed one passes":       {passed, "fails skips never ran hangs " + listed},
	} {
		delete(results, listed)
		if tt.listedState != "" {
			results[listed] = result{state: tt.listedState}
		}
		var failures []string
		for _, v := range judge(p, l, results) {
			if v.err != nil {
				failures = append(failures, v.name)
			}
		}
		if got := strings.Join(failures, " "); got != tt.failures {
			t.Errorf("%s: failures are %q, expected %q", name, got, tt.failures)
		}
	}
}
