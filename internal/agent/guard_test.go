package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"

	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// Programs that something else takes off come back while the agent runs: by their pins, and by force.
func TestDetachedProgramsComeBack(t *testing.T) {
	r := newRig(t)
	r.start()
	r.add("a")
	pins, err := filepath.Glob(filepath.Join(r.bpf, "links", "*"))
	r.must(err)
	if len(pins) < 4 {
		t.Skipf("the kernel has no tcx: pinned links are %v", pins)
	}
	for i, pin := range pins {
		if i%2 == 0 {
			r.must(os.Remove(pin))
			continue
		}
		l, err := link.LoadPinnedLink(pin, nil)
		r.must(err)
		r.must(l.Detach(), l.Close())
	}
	nstest.Eventually(t, 10*time.Second, "every program is attached again", func() error {
		for _, pin := range pins {
			if err := attached(pin); err != nil {
				return err
			}
		}
		return nil
	})
}

func attached(pin string) error {
	l, err := link.LoadPinnedLink(pin, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return err
	}
	if tcx := info.TCX(); tcx == nil || tcx.Ifindex == 0 {
		return fmt.Errorf("%s is attached to nothing", pin)
	}
	return nil
}

// A period that was forgotten would keep a processor busy.
func TestPeriodsAreAsked(t *testing.T) {
	for _, o := range []Options{{}, {CollectEvery: time.Second}, {GuardEvery: time.Second}} {
		if err := Run(t.Context(), o); err == nil {
			t.Errorf("an agent lives with %s and %s", o.CollectEvery, o.GuardEvery)
		}
	}
}
