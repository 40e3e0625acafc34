package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestUnknownSuite(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(t.Context(), "cnii", options{bin: "bin"}, &out, &errs); code != 2 {
		t.Errorf("exit code is %d, expected 2", code)
	}
	for _, want := range []string{`"cnii"`, "cni", "all"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("found %q, expected %q in it", errs.String(), want)
		}
	}
	if out.Len() > 0 {
		t.Errorf("something was run: %s", out.String())
	}
}

func TestChoose(t *testing.T) {
	all := []suite{{name: "a"}, {name: "b", long: "an hour"}}
	for name, want := range map[string]string{"all": "ab", "": "a", "a": "a", "b": "b"} {
		got, err := choose(name, all)
		var names string
		for _, s := range got {
			names += s.name
		}
		if err != nil || names != want {
			t.Errorf("%s: found %s, %v, expected %s", name, names, err, want)
		}
	}
}
