package agent

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// TestRestart: connections go on without the agent and through its return; DELs and ADDs that came
// meanwhile are served.
func TestRestart(t *testing.T) {
	r := newRig(t)
	r.start()
	a, b := r.add("stays-a"), r.add("stays-b")
	doomed := r.add("doomed")
	r.router.Serve(t, port)
	b.Serve(t, port)
	out, err := a.Dial(netip.MustParseAddr(world), port)
	r.must(err)
	defer out.Close()
	in, err := a.Dial(b.addr, port)
	r.must(err)
	defer in.Close()
	talk := func(when string) {
		t.Helper()
		if _, err := nstest.AskOn(out); err != nil {
			t.Fatalf("%s: connection to the world: %v", when, err)
		}
		if _, err := nstest.AskOn(in); err != nil {
			t.Fatalf("%s: connection to a pod: %v", when, err)
		}
	}
	talk("before")
	r.stop()
	talk("agent away")
	r.must(r.askStatus()) // was ready in this boot
	if err := r.del(doomed); err != nil {
		t.Fatalf("DEL while the agent is away: %v", err)
	}
	late := &pod{Space: nstest.New(t), id: "late"}
	added := make(chan error, 1)
	go func() { added <- r.addTo(late) }()
	r.start()
	talk("agent back")
	if err := <-added; err != nil {
		t.Fatalf("ADD that waited for the agent: %v", err)
	}
	nstest.Eventually(t, 8*time.Second, "the queued DEL is replayed", func() error {
		if _, err := netlink.LinkByName(doomed.device()); err == nil {
			return fmt.Errorf("device %s is there", doomed.device())
		}
		if n := len(r.cluster.lastStatus().UsedAddresses); n != 3 {
			return fmt.Errorf("%d addresses in use, expected 3", n)
		}
		return nil
	})
	for _, p := range []*pod{a, b} {
		old := p.addr
		r.must(r.addTo(p))
		if p.addr != old {
			t.Errorf("%s had %s and has %s after the restart", p.id, old, p.addr)
		}
	}
	if late.addr == doomed.addr {
		t.Errorf("address %s of a DEL was given at once", late.addr)
	}
	talk("in the end")
}

func (p *pod) device() string { return endpoint.DeviceName(p.id, "eth0") }

// TestReboot: a new boot releases everything of the old one at once.
func TestReboot(t *testing.T) {
	r := newRig(t)
	r.start()
	var pods []*pod
	for i := range 6 {
		pods = append(pods, r.add(fmt.Sprintf("old-%d", i)))
	}
	r.stop()
	for _, p := range pods {
		l, err := netlink.LinkByName(p.device())
		r.must(err, netlink.LinkDel(l))
		r.runtime.drop(p.id)
	}
	r.must(os.RemoveAll(filepath.Join(r.dir, "run")))
	r.start()
	seen := map[netip.Addr]bool{}
	for i := range 6 {
		p := r.add(fmt.Sprintf("new-%d", i))
		if seen[p.addr] {
			t.Errorf("%s given twice", p.addr)
		}
		seen[p.addr] = true
	}
	for _, p := range pods {
		r.must(r.del(p)) // the runtime cleans up late: no harm
	}
	if n := len(seen); n != 6 {
		t.Errorf("%d addresses, expected 6", n)
	}
}

// TestLostBootToken: the directory that a boot empties is lost without a boot: pods stay.
func TestLostBootToken(t *testing.T) {
	r := newRig(t)
	r.start()
	p := r.add("survivor")
	r.stop()
	r.must(os.RemoveAll(filepath.Join(r.dir, "run")))
	r.start()
	old := p.addr
	r.must(r.addTo(p))
	if p.addr != old {
		t.Errorf("pod had %s and has %s", old, p.addr)
	}
	p.Serve(t, port)
	expectSource(t, "node to the pod", nstest.Space{}, p.addr.String(), eniOwn[0])
}

// TestLostJournal: devices without entries are explained by the runtime's list; one that nobody explains
// keeps its address until it is gone.
func TestLostJournal(t *testing.T) {
	r := newRig(t)
	r.start()
	known, stray := r.add("known"), r.add("stray")
	r.runtime.drop("stray")
	r.router.Serve(t, port)
	r.stop()
	r.must(os.RemoveAll(filepath.Join(r.dir, "state")))
	r.start()
	for _, p := range []*pod{known, stray} {
		expectSource(t, p.id+" to the world", p.Space, world, eniOwn[0])
	}
	old := known.addr
	r.must(r.addTo(known))
	if known.addr != old {
		t.Errorf("pod had %s and has %s", old, known.addr)
	}
	for i := range 4 {
		if p := r.add(fmt.Sprintf("fill-%d", i)); p.addr == stray.addr || p.addr == known.addr {
			t.Errorf("%s was given a second time", p.addr)
		}
	}
}

// TestGoldenImage: the journal of another instance is set aside, not believed.
func TestGoldenImage(t *testing.T) {
	r := newRig(t)
	r.start()
	p := r.add("baked")
	r.stop()
	l, err := netlink.LinkByName(p.device())
	r.must(err, netlink.LinkDel(l))
	nn := r.nodeNetwork(2)
	nn.Spec.InstanceID = "i-0fedcba9876543210"
	r.cluster.set(nn, r.clusterNetwork())
	ctx, cancel := context.WithCancel(context.Background())
	o := r.options()
	o.Instance = func(context.Context) (string, error) { return nn.Spec.InstanceID, nil }
	done := make(chan error, 1)
	go func() { done <- Run(ctx, o) }()
	defer func() { cancel(); <-done }()
	aside := filepath.Join(r.dir, "state", "journal", "instance-"+instance)
	nstest.Eventually(t, 10*time.Second, "journal set aside", func() error {
		files, err := os.ReadDir(aside)
		if err == nil && len(files) != 1 {
			err = fmt.Errorf("%d files in %s", len(files), aside)
		}
		return err
	})
}

// TestForeignFlush: what something else flushes is back at once, and an event names it.
func TestForeignFlush(t *testing.T) {
	r := newRig(t)
	r.start()
	p, q := r.add("one"), r.add("two")
	r.router.Serve(t, port)
	works := func(what string) {
		t.Helper()
		nstest.Eventually(t, 2*time.Second, what, func() error {
			for _, p := range []*pod{p, q} {
				if from, err := p.Ask(netip.MustParseAddr(world), port); err != nil || from.String() != eniOwn[0] {
					return fmt.Errorf("%s to the world: seen from %s, %w", p.id, from, err)
				}
			}
			return nil
		})
	}
	works("before")
	rules := r.rules()
	for _, rule := range rules {
		if rule.Priority != 0 {
			r.must(netlink.RuleDel(&rule))
		}
	}
	main := netlink.NewRule()
	main.Priority, main.Table, main.Family = 32766, 254, netlink.FAMILY_V4
	r.must(netlink.RuleAdd(main))
	works("after the rules were flushed")
	nstest.Eventually(t, 2*time.Second, "event", func() error {
		if !r.cluster.warned("rule 77 from all lookup 7700") {
			return fmt.Errorf("events are %v", r.cluster.events)
		}
		return nil
	})
	for _, table := range []int{contract.TablePods, contract.TableENIBase, contract.TableENIBase + 1} {
		for _, rt := range r.routes(&netlink.Route{Table: table}, netlink.RT_FILTER_TABLE) {
			r.must(netlink.RouteDel(&rt))
		}
	}
	works("after the tables were flushed")
	l, err := netlink.LinkByName("ens6")
	r.must(err, netlink.LinkSetDown(l))
	works("after an interface was taken down")
	flushRuleset(t)
	works("after nftables was flushed")
}

// TestJunkRules: rules that somebody left for an address don't catch its next pod.
func TestJunkRules(t *testing.T) {
	r := newRig(t)
	r.start()
	for _, pods := range eniPods {
		for _, a := range pods {
			for prio, table := range map[int]int{111: 11, contract.RulePriSource: contract.TableENIBase + 5} {
				j := netlink.NewRule()
				j.Family, j.Priority, j.Table, j.Src = netlink.FAMILY_V4, prio, table, netlink.NewIPNet(netip.MustParseAddr(a).AsSlice())
				r.must(netlink.RuleAdd(j))
			}
		}
	}
	// A rule that leads nowhere: a table with an unreachable default.
	r.must(netlink.RouteAdd(&netlink.Route{Table: 11, Type: 7, Family: netlink.FAMILY_V4, Dst: netlink.NewIPNet(netip.MustParseAddr(world).AsSlice())}))
	p := r.add("clean")
	r.router.Serve(t, port)
	expectSource(t, "pod to the world", p.Space, world, eniOwn[0])
	rules := r.rules()
	n := 0
	for _, rule := range rules {
		if rule.Src != nil && rule.Src.IP.String() == p.addr.String() {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d rules for %s, expected one", n, p.addr)
	}
}
