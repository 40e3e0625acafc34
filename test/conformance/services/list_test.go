package services

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

const sample = `# comment

== everywhere
[sig-network] A should b
	the kernel
	lacks it
== without kube-proxy
[sig-network] C should d
	about kube-proxy
== beside kube-proxy
[sig-network] E should f
	another reason
== another suite's
Netpol|LoadBalancers
	not yet
`

func TestReadList(t *testing.T) {
	for section, want := range map[string][]string{
		sectionWithout: {"[sig-network] A should b", "[sig-network] C should d"},
		sectionBeside:  {"[sig-network] A should b", "[sig-network] E should f"},
	} {
		l, err := readList(strings.NewReader(sample), section)
		if err != nil {
			t.Fatal(err)
		}
		if len(l.listed) != len(want) {
			t.Errorf("%s: found %v, expected %q", section, l.listed, want)
		}
		for _, name := range want {
			if l.listed[name] == "" {
				t.Errorf("%s: %q has no reason", section, name)
			}
		}
		if got := l.listed["[sig-network] A should b"]; got != "the kernel lacks it" {
			t.Errorf("the reason is %q", got)
		}
		if len(l.families) != 1 || !l.families[0].match.MatchString("Netpol x") {
			t.Errorf("families: %v", l.families)
		}
	}
}

func TestReadListRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no reason":            "== everywhere\nspec\n",
		"no section":           "spec\n\twhy\n",
		"unknown section":      "== sometimes\nspec\n\twhy\n",
		"reason without entry": "== everywhere\n\twhy\n",
		"twice":                "== everywhere\nspec\n\twhy\n== without kube-proxy\nspec\n\twhy\n",
		"bad expression":       "== another suite's\n(\n\twhy\n",
	} {
		_, err := readList(strings.NewReader(text), sectionWithout)
		var line *ListError
		if !errors.As(err, &line) {
			t.Errorf("%s: found %v, expected an error that names the line", name, err)
		}
	}
}

// TestCommittedList: what is committed can be read for both ways to run.
func TestCommittedList(t *testing.T) {
	for _, section := range []string{sectionWithout, sectionBeside} {
		if _, err := readList(bytes.NewReader(skippedList), section); err != nil {
			t.Errorf("%s: %v", section, err)
		}
	}
}

func FuzzReadList(f *testing.F) {
	f.Add(sample)
	f.Add("== everywhere\n\tx\n(\n")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := readList(strings.NewReader(text), sectionWithout)
		if err != nil {
			return
		}
		for name, why := range l.listed {
			if name == "" || why == "" {
				t.Errorf("entry %q has reason %q", name, why)
			}
		}
	})
}
