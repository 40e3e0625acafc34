package datapath

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// Pods of both kinds live on one node, reach each other and all else, and nothing passes netkit unguarded.
func TestNetkit(t *testing.T) {
	needRoot(t)
	devices := netkitDevices(t)
	if len(devices) == 0 {
		t.Skip("this kernel has no netkit")
	}
	for _, d := range devices {
		// One node for all of it: on an emulated machine the programs take longest to load.
		t.Run(string(d), func(t *testing.T) {
			n := newNodeOf(t, variant{device: d})
			n.router.echo(t, farAddr+":7")
			n.host.echo(t, nodeAddr+":7")
			testNetkitBesideVeth(t, n)
			testNetkitUnguarded(t, n)
			testNetkitReplaced(t, n)
			testNetkitBeforeNetkit(t, n)
			must(t, n.d.Prune(nil, nil, nil))
			if got := programsAttached(t, n); got != 0 {
				t.Errorf("%d programs are left", got)
			}
		})
	}
}

func testNetkitBesideVeth(t *testing.T, n *node) {
	device := n.device
	a := n.addPod(t, 1, podAddr)
	n.device = vethPods
	b := n.addPod(t, 2, otherAddr)
	n.device = device
	limited := b.Endpoint
	a.echo(t, podAddr+":7")
	b.echo(t, otherAddr+":7")
	for _, queued := range []bool{false, true} {
		limited.Queued = queued
		must(t, n.d.AddEndpoint(limited))
		for name, c := range map[string]net.Conn{
			"to veth": a.dial(t, "", otherAddr+":7"), "from veth": b.dial(t, "", podAddr+":7"), "to far": a.dial(t, "", farAddr+":7"),
			"from far": n.router.dial(t, farAddr, podAddr+":7"), "to node": a.dial(t, "", nodeAddr+":7"), "from node": n.host.dial(t, "", podAddr+":7"),
		} {
			if err := exchange(c, name, 20*time.Second); err != nil {
				t.Errorf("%s %s, the other pod's bandwidth limited %v: %v", device, name, queued, err)
			}
		}
	}
	for c, packets := range readCounters(t, n.d) {
		if c.Reason.Drop() && packets > 0 && c.Reason != ReasonFamilyOff {
			t.Errorf("%s dropped %d packets: %s", c.Hook, packets, c.Reason)
		}
	}
}

// Without programs nothing passes, in either direction: neither before they are attached nor after.
func testNetkitUnguarded(t *testing.T, n *node) {
	p := n.pods[0]
	in := n.host.dial(t, "", podAddr+":7")
	must(t, exchange(in, "guarded", 20*time.Second))
	received := func(host bool) uint64 {
		t.Helper()
		var count uint64
		at := p.space
		name := "eth0"
		if host {
			at, name = n.host, p.name
		}
		at.do(t, func() error {
			l, err := netlink.LinkByName(name)
			if err == nil {
				count = l.Attrs().Statistics.RxPackets
			}
			return err
		})
		return count
	}
	must(t, n.d.DeleteEndpoint(p.Slot))
	before := [2]uint64{received(false), received(true)}
	if err := exchange(in, "unguarded", 300*time.Millisecond); err == nil {
		t.Error("the node reached a pod whose device has no programs")
	}
	out := p.dial(t, "", nodeAddr+":7")
	if err := exchange(out, "unguarded", 300*time.Millisecond); err == nil {
		t.Error("a pod whose device has no programs reached the node")
	}
	if after := [2]uint64{received(false), received(true)}; after != before {
		t.Errorf("the pod's side and the node's received %v packets, %v before", after, before)
	}
	must(t, n.d.AddEndpoint(p.Endpoint))
	must(t, exchange(in, "guarded again", 20*time.Second))
}

// A new agent's programs take the place of the old ones on the same links, while packets flow.
func testNetkitReplaced(t *testing.T, n *node) {
	a := n.pods[0]
	other := n.addPod(t, 3, "192.168.1.12")
	other.echo(t, other.Addr.String()+":7")
	links := func() map[Hook]link.ID {
		out := map[Hook]link.ID{}
		for _, h := range []Hook{FromPod, ToPod} {
			l, err := link.LoadPinnedLink(filepath.Join(n.cfg.PinDir, "links", fmt.Sprintf("netkit_%s-%d", h, a.Ifindex)), nil)
			must(t, err)
			info, err := l.Info()
			must(t, errors.Join(err, l.Close()))
			if info.Netkit() == nil || int(info.Netkit().Ifindex) != a.Ifindex {
				t.Fatalf("the pin of %s is a link of %v", h, info.Type)
			}
			out[h] = info.ID
		}
		return out
	}
	before := links()
	stop, results := make(chan struct{}), make(chan error)
	flows := []net.Conn{a.dial(t, "", farAddr+":7"), a.dial(t, "", otherAddr+":7"), other.dial(t, "", podAddr+":7")}
	for _, c := range flows {
		must(t, exchange(c, "warm", 20*time.Second))
		go func() { results <- load(c, stop) }()
	}
	n.takeOver(t, nextVersion())
	n.takeOver(t, ThisVersion())
	must(t, os.Remove(filepath.Join(n.cfg.PinDir, "links", fmt.Sprintf("netkit_from_pod-%d", a.Ifindex))))
	must(t, n.d.AddEndpoint(a.Endpoint))
	if after := links(); after[FromPod] != before[FromPod] || after[ToPod] != before[ToPod] {
		t.Errorf("links are %v, expected those from before, %v", after, before)
	}
	close(stop)
	for range flows {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// An earlier version takes a netkit device for any other; what it attached goes when this one comes back.
func testNetkitBeforeNetkit(t *testing.T, n *node) {
	a := n.pods[0]
	flows := map[string]net.Conn{"to far": a.dial(t, "", farAddr+":7"), "to a pod": a.dial(t, "", otherAddr+":7"), "from the node": n.host.dial(t, "", podAddr+":7")}
	all := func(when string) {
		t.Helper()
		for name, c := range flows {
			if err := exchange(c, when, 20*time.Second); err != nil {
				t.Errorf("%s, %s: %v", name, when, err)
			}
		}
	}
	all("before")
	mixed, ok := n.d.attacher.(*mixedAttacher)
	if !ok {
		t.Fatalf("programs are attached by a %T", n.d.attacher)
	}
	for _, h := range []Hook{FromPod, ToPod} {
		for _, p := range n.pods {
			must(t, mixed.others.attach(h, p.Ifindex, n.d.programs[h]))
		}
	}
	all("with both")
	n.takeOver(t, nil)
	all("after")
	list, err := n.d.attacher.(*mixedAttacher).others.attached()
	must(t, err)
	for _, at := range list {
		if at.hook.ofPods() && at.ifindex == a.Ifindex {
			t.Errorf("%s is still attached to index %d as on any device", at.hook, at.ifindex)
		}
	}
}
