package services

import (
	"bytes"
	"strings"
	"testing"
)

func TestProgress(t *testing.T) {
	const said = "------\n• [1.234 seconds]\n[sig-network] a\n• [FAILED] [2.000 seconds]\nS [SKIPPED] [0.1 seconds]\n  • not one\n"
	for _, size := range []int{1, 7, 1000} {
		var log, tell bytes.Buffer
		p := &progress{log: &log, tell: &tell, name: "must", total: 40}
		for text := strings.Repeat(said, 10); text != ""; {
			n := min(size, len(text))
			if _, err := p.Write([]byte(text[:n])); err != nil {
				t.Fatal(err)
			}
			text = text[n:]
		}
		if p.done != 30 || p.failed != 10 {
			t.Errorf("in pieces of %d: %d done and %d failed, expected 30 and 10", size, p.done, p.failed)
		}
		if strings.Count(tell.String(), "\n") != 3 || !strings.HasSuffix(tell.String(), "must: 30 of 40, 10 failed so far\n") {
			t.Errorf("told: %q", tell.String())
		}
		if log.String() != strings.Repeat(said, 10) {
			t.Error("the log isn't what was said")
		}
	}
}
