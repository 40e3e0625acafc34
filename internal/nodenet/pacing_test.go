package nodenet

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

const root = netlink.HANDLE_ROOT

func TestQueues(t *testing.T) {
	ours := uint32(contract.QueueHandle)
	for _, c := range []struct {
		name string
		in   queues
		text string
		// paces, and what is done if fq is wanted and if it isn't
		paces      bool
		want, wont todo
	}{
		{"none", nil, "none", false, setFQ, leave},
		{"the kernel's of a virtual device", queues{{"noqueue", 0, root}}, "noqueue", false, setFQ, leave},
		{"the kernel's", queues{{"pfifo_fast", 0, root}}, "pfifo_fast", false, setFQ, leave},
		{"the kernel's of several queues", queues{{"mq", 0, root}, {"fq_codel", 0, 2}, {"fq_codel", 0, 1}}, "mq with fq_codel", false, setFQ, leave},
		{"fq by net.core.default_qdisc", queues{{"mq", 0, root}, {"fq", 0, 1}, {"fq", 0, 2}}, "mq with fq", true, leave, leave},
		{"somebody's fq", queues{{"fq", 0x80010000, root}}, "fq", true, leave, leave},
		{"somebody's fq below mq", queues{{"mq", 0x10000, root}, {"fq", 0x80010000, 0x10001}, {"fq", 0x80020000, 0x10002}}, "mq with fq", true, leave, leave},
		{"one is missing", queues{{"mq", 0x10000, root}, {"fq", 0x80010000, 0x10001}, {"pfifo_fast", 0, 0x10002}}, "mq with fq and pfifo_fast", false, leave, leave},
		{"mq with nothing", queues{{"mq", 0x10000, root}}, "mq", false, leave, leave},
		{"somebody's choice", queues{{"htb", 0x10000, root}, {"fq", 0x80010000, 0x10001}}, "htb", false, leave, leave},
		{"ours", queues{{"fq", ours, root}}, "fq", true, leave, takeBack},
		{"ours, of several queues", queues{{"mq", ours, root}, {"fq", 0x80010000, ours | 1}}, "mq with fq", true, leave, takeBack},
		{"ours, half made", queues{{"mq", ours, root}, {"fq", 0x80010000, ours | 1}, {"fq_codel", 0, ours | 2}}, "mq with fq and fq_codel", false, setFQ, takeBack},
		{"our handle, another kind", queues{{"htb", ours, root}}, "htb", false, leave, leave},
	} {
		if c.in.String() != c.text || c.in.paces() != c.paces || c.in.decide(true) != c.want || c.in.decide(false) != c.wont {
			t.Errorf("%s: %s, paces is %t, done is %d and %d; expected %s, %t, %d and %d", c.name, c.in, c.in.paces(),
				c.in.decide(true), c.in.decide(false), c.text, c.paces, c.want, c.wont)
		}
	}
}

// A device with one queue, one with several, and one whose queue somebody chose.
func TestFQIsSetAndTakenBack(t *testing.T) {
	nstest.NeedRoot(t)
	n, err := New("/proc/sys/net", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	one := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "one"}, PeerName: "one-far"}
	chosen := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "chosen"}, PeerName: "chosen-far"}
	several := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "several"}, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_MULTI_QUEUE_DEFAULTS, Queues: 3}
	devices := []string{"chosen"}
	for _, l := range []netlink.Link{one, chosen, several} {
		err := netlink.LinkAdd(l)
		if l == netlink.Link(several) && errors.Is(err, unix.ENOENT) {
			t.Logf("this kernel has no device with several queues: %v", err)
			continue
		}
		if err != nil {
			t.Fatalf("device %s: %v", l.Attrs().Name, err)
		}
		t.Cleanup(func() { _ = netlink.LinkDel(l) })
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
		if l != netlink.Link(chosen) {
			devices = append(devices, l.Attrs().Name)
		}
	}
	for _, f := range several.Fds {
		t.Cleanup(func() { f.Close() })
	}
	link, err := netlink.LinkByName("chosen")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.QdiscReplace(queueFor(link.Attrs().Index, 1_000_000)); err != nil {
		t.Fatal(err)
	}
	look := func(want bool) map[string]Pacing {
		n.desired.FQ = want
		out := map[string]Pacing{}
		for _, name := range devices {
			l, err := netlink.LinkByName(name)
			if err != nil {
				t.Fatal(err)
			}
			out[name], _ = n.pace(l)
		}
		return out
	}
	before := look(false)
	t.Logf("before: %+v", before)
	after := look(true)
	t.Logf("afterwards: %+v", after)
	if p := after["chosen"]; p.FQ || p.Queue != "tbf" || p.Why == "" {
		t.Errorf("a queue that somebody chose: %+v", p)
	}
	expected := map[string]string{"one": "fq", "several": "mq with fq"}
	for _, name := range devices[1:] {
		p := after[name]
		if p.Why != "" {
			// Nothing was changed, and it isn't tried again and again.
			if p.Queue != before[name].Queue || n.noFQ[name] == "" {
				t.Errorf("%s: %+v, before %+v", name, p, before[name])
			}
			continue
		}
		if !p.FQ || !p.Own || p.Queue != expected[name] {
			t.Errorf("%s: %+v, expected %s of our own", name, p, expected[name])
		}
	}
	if again := look(true); again["one"] != after["one"] || again["several"] != after["several"] {
		t.Errorf("again: %+v", again)
	}
	if off := look(false); off["one"] != before["one"] || off["several"] != before["several"] || off["chosen"] != before["chosen"] {
		t.Errorf("switched off: %+v, expected %+v", off, before)
	}
	look(true)
	if err := dropQueues(n.h, n.log); err != nil {
		t.Error(err)
	}
	if off := look(false); off["one"] != before["one"] || off["several"] != before["several"] || off["chosen"] != before["chosen"] {
		t.Errorf("uninstalled: %+v, expected %+v", off, before)
	}
	if len(n.noFQ) > 0 {
		t.Skipf("the rest needs fq: %v", n.noFQ)
	}
}
