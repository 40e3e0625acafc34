package datapath

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

func TestAnswersOfKernels(t *testing.T) {
	lacks := func(name string, err error) []question {
		list := questions()
		for i := range list {
			list[i].ask = func() error { return nil }
			if list[i].Name == name {
				list[i].ask = func() error { return err }
			}
		}
		return list
	}
	for _, q := range questions() {
		f, err := answers("6.5.0-test", lacks(q.Name, ebpf.ErrNotSupported))
		if q.Fallback != "" {
			if err != nil || len(f.Missing()) != 1 || f.Missing()[0].Name != q.Name || q.Cost == "" {
				t.Errorf("without %s: %+v, %v; expected its fallback with what it costs", q.Name, f, err)
			}
			continue
		}
		var feature *FeatureError
		if !errors.As(err, &feature) || !strings.Contains(err.Error(), "CONFIG_") || !strings.Contains(err.Error(), q.Name) || !strings.Contains(err.Error(), "6.5.0-test") {
			t.Errorf("without %s: %v; expected an error that names it, the kernel and its option", q.Name, err)
		}
	}
	f, err := answers("6.18", lacks("", nil))
	if err != nil || !f.TCX || !f.RedirectNeigh || f.Variant() != "tcx" || len(f.Missing()) > 0 {
		t.Errorf("a kernel with everything: %+v, %v", f, err)
	}
	f, err = answers("6.1", lacks("tcx", ebpf.ErrNotSupported))
	if err != nil || f.TCX || f.Variant() != "clsact" {
		t.Errorf("a kernel without tcx: %+v, %v", f, err)
	}
	var feature *FeatureError
	if _, err := answers("6.18", lacks("ring buffers", unix.EPERM)); !errors.As(err, &feature) || !strings.Contains(err.Error(), "NET_ADMIN") {
		t.Errorf("without rights: %v, expected an error that names the capabilities", err)
	}
	if _, err := answers("6.18", lacks("ring buffers", unix.ENOMEM)); err == nil || errors.As(err, &feature) {
		t.Errorf("what can't be told: %v, expected an error that isn't a no", err)
	}
}

func TestOlderKernels(t *testing.T) {
	for release, want := range map[string]bool{
		"5.15.0-105-generic": true, "6.0.19": true, "6.1.0": false, "6.1.176-amd64": false, "6.1": false, "6.12+": false, "10.0.1": false, "unknown": false, "": false,
	} {
		if got := Older(release, "6.1"); got != want {
			t.Errorf("%q is older than 6.1: %v, expected %v", release, got, want)
		}
	}
}

// This kernel is asked for real.
func TestProbe(t *testing.T) {
	needRoot(t)
	f, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Found) != len(questions()) {
		t.Errorf("%d answers for %d questions: %+v", len(f.Found), len(questions()), f)
	}
}
