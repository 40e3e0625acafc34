package datapath

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestASecondAgentIsKeptOut(t *testing.T) {
	newSpace(t).enter(t)
	cfg := testConfig(t)
	first := openDatapath(t, cfg)
	var busy *BusyError
	if _, err := Open(cfg); !errors.As(err, &busy) {
		t.Fatalf("a second one opens with %v, expected a busy error", err)
	}
	must(t, first.Close())
	second := openDatapath(t, cfg)
	must(t, second.Configure(second.Settings()))
}

// If the lock didn't hold, the earlier agent changes nothing any more.
func TestAnEarlierAgentWritesNoMore(t *testing.T) {
	n := newNode(t, AttachAuto)
	p := n.addPod(t, 1, podAddr)
	cfg := n.cfg
	cfg.beside = true
	later := openDatapath(t, cfg)
	for name, do := range map[string]func() error{
		"SetENI":         func() error { return n.d.SetENI(n.enis[0]) },
		"DeleteENI":      func() error { return n.d.DeleteENI(1) },
		"SetAddress":     func() error { return n.d.SetAddress(p.Addr, 1) },
		"DeleteAddress":  func() error { return n.d.DeleteAddress(p.Addr) },
		"AddEndpoint":    func() error { return n.d.AddEndpoint(p.Endpoint) },
		"DeleteEndpoint": func() error { return n.d.DeleteEndpoint(1) },
		"SetPrefixes":    func() error { return n.d.SetPrefixes(nil) },
		"Configure":      func() error { return n.d.Configure(DefaultSettings()) },
		"SetWatch":       func() error { return n.d.SetWatch(Watch{Trace: true}) },
		"Prepare":        func() error { return n.d.Prepare([]Endpoint{p.Endpoint}, nil, nil) },
		"Prune":          func() error { return n.d.Prune(nil, nil, nil) },
		"KeepPins":       func() error { _, err := n.d.KeepPins(); return err },
	} {
		if err := do(); !errors.Is(err, ErrSuperseded) {
			t.Errorf("%s of the earlier agent says %v, expected %v", name, err, ErrSuperseded)
		}
	}
	s, err := later.Dump()
	must(t, err)
	if len(s.Endpoints) != 1 || len(s.ENIs) != 2 || len(s.Attached) != 6 {
		t.Errorf("the earlier agent changed something: %+v", s)
	}
	must(t, later.AddEndpoint(p.Endpoint))
}

// coverPins mounts an empty BPF file system over the test's pins, as if somebody had unmounted and mounted
// the node's: the pins are out of sight, what they hold lives.
func coverPins(t testing.TB, n *node) func() {
	t.Helper()
	dir := filepath.Dir(n.cfg.PinDir)
	must(t, unix.Mount("bpffs", dir, "bpf", 0, "mode=0700"))
	covered := true
	uncover := func() {
		if covered {
			covered = false
			must(t, unix.Unmount(dir, unix.MNT_DETACH))
		}
	}
	t.Cleanup(uncover)
	return uncover
}

// links counts our programs at every hook of the node's devices, with and without a pin.
func programsAttached(t testing.TB, n *node) int {
	t.Helper()
	list, err := runningPrograms(n.d.features.TCX)
	must(t, err)
	return len(list)
}

// The pins vanish while nobody is there. The next agent finds programs and maps on the devices, and no
// connection notices.
func TestPinsGoneWhileProgramsRun(t *testing.T) {
	forEachVariant(t, func(t *testing.T, n *node) {
		a := n.addPod(t, 1, podAddr)
		n.router.echo(t, farAddr+":7")
		n.router.echoTCP(t, farAddr+":80")
		stop, results := make(chan struct{}), make(chan error)
		c, u := a.dialTCP(t, farAddr+":80"), a.dial(t, "", farAddr+":7")
		go func() { results <- talk(c, stop) }()
		go func() { results <- load(u, stop) }()
		wait(t, "the connection is established", func() bool {
			s, err := n.d.ConntrackStats()
			must(t, err)
			return s.Promoted > 0
		})
		before, err := n.d.ConntrackStats()
		must(t, err)
		must(t, n.d.Close())
		coverPins(t, n)
		n.d = openDatapath(t, n.cfg)
		after, err := n.d.ConntrackStats()
		must(t, err)
		if after.Promoted < before.Promoted {
			t.Errorf("%d connections were established, now %d: another table", before.Promoted, after.Promoted)
		}
		n.attachAll(t)
		if got := programsAttached(t, n); got != 6 {
			t.Errorf("%d programs are attached, expected 6: one a place", got)
		}
		s, err := n.d.Dump()
		must(t, err)
		if len(s.Attached) != 6 {
			t.Errorf("attached is %v, expected 6", s.Attached)
		}
		close(stop)
		for range 2 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		// And they come away again.
		must(t, n.d.Prune(nil, nil, nil))
		if got := programsAttached(t, n); got != 0 {
			t.Errorf("%d programs are left", got)
		}
	})
}

// The pins vanish, or are hidden, under a running agent: nothing comes off, and it puts them back.
func TestPinsAreKept(t *testing.T) {
	forEachVariant(t, func(t *testing.T, n *node) {
		a := n.addPod(t, 1, podAddr)
		n.router.echo(t, farAddr+":7")
		u := a.dial(t, "", farAddr+":7")
		must(t, exchange(u, "before", patience))
		stop, results := make(chan struct{}), make(chan error)
		go func() { results <- load(u, stop) }()
		repair := func(what string) {
			restored, err := n.d.KeepPins()
			must(t, err)
			if len(restored) == 0 {
				t.Errorf("%s: no pin was put back", what)
			}
			n.attachAll(t)
			if restored, err := n.d.KeepPins(); err != nil || len(restored) > 0 {
				t.Errorf("%s: a second look puts back %v (%v)", what, restored, err)
			}
		}
		must(t, os.RemoveAll(n.cfg.PinDir))
		repair("removed")
		uncover := coverPins(t, n)
		repair("covered")
		uncover()
		// Nobody opened another map meanwhile: what shows again is ours.
		n.attachAll(t)
		n.takeOver(t, nil)
		if got := programsAttached(t, n); got != 6 {
			t.Errorf("%d programs are attached, expected 6", got)
		}
		time.AfterFunc(2*time.Second, func() { close(stop) })
		if err := <-results; err != nil {
			t.Error(err)
		}
		must(t, exchange(u, "after all of it", patience))
	})
}
