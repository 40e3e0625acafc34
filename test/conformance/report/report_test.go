package report

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	var out bytes.Buffer
	r := New(&out)
	if !r.Failed() {
		t.Error("a suite that tried nothing did not fail")
	}
	r.Check("one", nil)
	r.CouldNot("two", "no tool")
	if r.Failed() {
		t.Errorf("failed: %s", r.Summary())
	}
	r.Check("three", errors.New("found 1, expected 2"))
	if !r.Failed() || r.Summary() != "1 passed, 1 failed, 1 could not run" {
		t.Errorf("summary is %q", r.Summary())
	}
	for _, want := range []string{"ok    one", "-     two: could not run: no tool", "FAIL  three: found 1, expected 2"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("found %q, expected %q in it", out.String(), want)
		}
	}
}
