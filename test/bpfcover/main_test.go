package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-cni/weft/internal/datapath/bpfcover"
)

func TestOwnSourcesOnly(t *testing.T) {
	for file, want := range map[string]string{
		"../../bpf/from_pod.c":         "bpf/from_pod.c",
		"../../bpf/include/nat.h":      "bpf/include/nat.h",
		"../../bpf/./include/nat.h":    "bpf/include/nat.h",
		"/usr/include/bpf/helpers.h":   "",
		"../../bpfother/include/nat.h": "",
	} {
		name, ok := own(file)
		if ok != (want != "") || ok && name != want {
			t.Errorf("%s is %q, %v, expected %q", file, name, ok, want)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		count bpfcover.Count
		want  int
	}{
		{bpfcover.Count{Ran: 90, Lines: 100}, 0},
		{bpfcover.Count{Ran: 899, Lines: 1000}, exitFailed},
		{bpfcover.Count{}, exitFailed}, // nothing was measured
	} {
		var out bytes.Buffer
		if got := judge(c.count, 90, "there", &out); got != c.want {
			t.Errorf("%+v gives %d, expected %d: %s", c.count, got, c.want, out.String())
		}
	}
}

func TestSourceOfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.c")
	if err := os.WriteFile(path, []byte("one\n\ttwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSources()
	if got := s.text(bpfcover.Line{File: path, Number: 2}); got != "two" {
		t.Errorf("line 2 is %q", got)
	}
	if got := s.text(bpfcover.Line{File: path, Number: 9}); !strings.Contains(got, "changed") {
		t.Errorf("line 9 is %q", got)
	}
}
