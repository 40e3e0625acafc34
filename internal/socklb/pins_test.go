package socklb

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf/link"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

// What somebody unpins or detaches is put back, and said; services go on, also with the next agent.
func TestPinsArePutBack(t *testing.T) {
	cfg, p := testConfig(t), newPod(t)
	b := open(t, cfg)
	apply(t, b, loadbalancer.Frontend{Address: tcp(at(0, 80)), Backends: p.backends[0]})
	pins, programs, err := b.KeepPins()
	if err != nil || len(pins) > 0 || len(programs) > 0 {
		t.Fatalf("put back %v and %v (%v), expected nothing", pins, programs, err)
	}
	frontends := filepath.Join(cfg.PinDir, "maps", "weft_lb_frontends")
	connect := filepath.Join(cfg.PinDir, "links", "sock_connect4")
	for _, path := range []string{frontends, connect} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	l, err := link.LoadPinnedLink(filepath.Join(cfg.PinDir, "links", "sock_sendmsg4"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.(interface{ Detach() error }).Detach(); err != nil {
		t.Fatal(err)
	}
	pins, programs, err = b.KeepPins()
	if err != nil || !slices.Equal(pins, []string{frontends, connect}) || !slices.Equal(programs, []string{"sock_sendmsg4"}) {
		t.Errorf("put back %v and %v (%v)", pins, programs, err)
	}
	pins, programs, err = b.KeepPins()
	if err != nil || len(pins) > 0 || len(programs) > 0 {
		t.Errorf("put back %v and %v (%v) a moment later", pins, programs, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, cfg)
	if stats, err := b.Stats(); err != nil || stats.Frontends != 1 {
		t.Errorf("the next agent finds %+v (%v)", stats, err)
	}
	if _, _, err := p.ask(at(0, 80)); err != nil {
		t.Error(err)
	}
}
