package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// TestVersions adds by every CNI version that the plugin claims, from 0.3.0 to 1.1.0.
func TestVersions(t *testing.T) {
	r := newRig(t)
	r.start()
	for _, v := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		c, list := r.libcni()
		b := strings.Replace(string(list.Bytes), `"cniVersion": "1.1.0"`, fmt.Sprintf(`"cniVersion": %q`, v), 1)
		old, err := libcni.ConfListFromBytes([]byte(b))
		r.must(err)
		p := pod{Space: nstest.New(t), id: "v" + strings.ReplaceAll(v, ".", "")}
		res, err := c.AddNetworkList(context.Background(), old, p.config())
		if err != nil {
			t.Fatalf("ADD by %s: %v", v, err)
		}
		if res.Version() != v {
			t.Errorf("result of ADD by %s has version %s", v, res.Version())
		}
		if v >= "0.4.0" {
			if err := c.CheckNetworkList(context.Background(), old, p.config()); err != nil {
				t.Errorf("CHECK by %s: %v", v, err)
			}
		}
		if err := c.DelNetworkList(context.Background(), old, p.config()); err != nil {
			t.Errorf("DEL by %s: %v", v, err)
		}
	}
	if n := len(r.cluster.lastStatus().UsedAddresses); n != 0 {
		nstest.Eventually(t, 3*time.Second, "nothing in use", func() error {
			if n := len(r.cluster.lastStatus().UsedAddresses); n != 0 {
				return fmt.Errorf("%d addresses in use", n)
			}
			return nil
		})
	}
}

// TestAddAgain repeats an ADD: the same result, and what was broken is made whole.
func TestAddAgain(t *testing.T) {
	r := newRig(t)
	r.start()
	p := r.add("again")
	first := p.addr
	r.must(r.addTo(p))
	if p.addr != first {
		t.Errorf("a repeated ADD gave %s, expected %s", p.addr, first)
	}
	// Somebody removes the device: CHECK says so, ADD mends it under the same address.
	l, err := netlink.LinkByName(endpoint.DeviceName("again", "eth0"))
	r.must(err, netlink.LinkDel(l))
	c, list := r.libcni()
	if err := c.CheckNetworkList(context.Background(), list, p.config()); err == nil {
		t.Error("CHECK found nothing wrong with an endpoint whose device is gone")
	}
	r.must(r.addTo(p))
	if p.addr != first {
		t.Errorf("ADD after the device was lost gave %s, expected %s", p.addr, first)
	}
	p.Serve(t, port)
	expectSource(t, "node to the mended pod", nstest.Space{}, p.addr.String(), eniOwn[0])
	r.must(c.CheckNetworkList(context.Background(), list, p.config()))
	r.must(r.del(p), r.del(p)) // a DEL of what is gone is no error
	if err := c.CheckNetworkList(context.Background(), list, p.config()); err == nil {
		t.Error("CHECK found nothing wrong with an endpoint that was deleted")
	}
}

// TestPoolEmpty fills the node: the next ADD waits, is counted, and fails with the operator's reason;
// the node stays ready.
func TestPoolEmpty(t *testing.T) {
	r := newRig(t)
	r.addWait = 2500 * time.Millisecond
	nn := r.nodeNetwork(1)
	nn.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAddressesAssigned, Status: metav1.ConditionFalse,
		Reason: "UnauthorizedOperation", Message: "the role may not call AssignPrivateIpAddresses"}}
	r.cluster.set(nn, r.clusterNetwork())
	r.start()
	for i := range 3 {
		r.add(fmt.Sprintf("full-%d", i))
	}
	late := &pod{Space: nstest.New(t), id: "late"}
	done := make(chan error, 1)
	go func() { done <- r.addTo(late) }()
	nstest.Eventually(t, 3*time.Second, "the waiting pod is counted", func() error {
		if s := r.cluster.lastStatus(); s.Waiting != 1 || s.Used != 3 || s.Held != 3 {
			return fmt.Errorf("waiting %d, used %d, held %d", s.Waiting, s.Used, s.Held)
		}
		return nil
	})
	err := <-done
	if cniCode(err) != types.ErrTryAgainLater {
		t.Errorf("ADD without a free address: %v, expected code 11", err)
	}
	for _, part := range []string{"UnauthorizedOperation", "AssignPrivateIpAddresses"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("ADD's error is %v, expected it to name %s", err, part)
		}
	}
	r.must(r.askStatus())

	// An address that comes while an ADD waits is given at once.
	go func() { done <- r.addTo(late) }()
	nstest.Eventually(t, 2*time.Second, "the pod waits again", func() error {
		if r.cluster.lastStatus().Waiting != 1 {
			return errors.New("not counted")
		}
		return nil
	})
	nn = r.nodeNetwork(2)
	r.cluster.set(nn, r.clusterNetwork())
	if err := <-done; err != nil {
		t.Errorf("ADD while an interface was attached: %v", err)
	}
	r.router.Serve(t, port)
	expectSource(t, "pod on the new interface to the world", late.Space, world, eniOwn[0])
}

// TestReleasedAddressRests: the next pods get other addresses.
func TestReleasedAddressRests(t *testing.T) {
	r := newRig(t)
	r.start()
	p := r.add("first")
	r.must(r.del(p))
	seen := map[string]bool{p.addr.String(): true}
	for i := range 5 {
		q := r.add(fmt.Sprintf("next-%d", i))
		if seen[q.addr.String()] {
			t.Errorf("%s was given again while it rests or is in use", q.addr)
		}
		seen[q.addr.String()] = true
	}
}

// TestGoneWithoutDel: sandboxes that vanish without a DEL are released, one whose device is there isn't.
func TestGoneWithoutDel(t *testing.T) {
	r := newRig(t)
	r.start()
	gone, stays := r.add("gone"), r.add("stays")
	r.runtime.drop("stays") // the runtime forgot it, but its namespace lives
	r.runtime.drop("gone")
	gone.File.Close() // the last reference: namespace and device go
	nstest.Eventually(t, 10*time.Second, "the gone pod's address is released", func() error {
		s := r.cluster.lastStatus()
		if len(s.UsedAddresses) != 1 || s.UsedAddresses[0].Address != stays.addr.String() {
			return fmt.Errorf("in use: %v", s.UsedAddresses)
		}
		return nil
	})
}

// TestGC keeps what the runtime names, and what still has a device.
func TestGC(t *testing.T) {
	r := newRig(t)
	r.start()
	r.runtime.err = errors.New("runtime away: GC alone decides")
	a, b, c := r.add("gc-a"), r.add("gc-b"), r.add("gc-c")
	a.File.Close()
	b.File.Close()
	cfg, list := r.libcni()
	// libcni itself deletes what its cache has beyond the list.
	r.must(os.RemoveAll(filepath.Join(r.dir, "cache")))
	nstest.Eventually(t, 10*time.Second, "GC releases one endpoint", func() error {
		err := cfg.GCNetworkList(context.Background(), list, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: "gc-b", IfName: "eth0"}}})
		if err != nil {
			return err
		}
		var used []string
		for _, u := range r.cluster.lastStatus().UsedAddresses {
			used = append(used, u.Address)
		}
		if got := strings.Join(used, " "); len(used) != 2 || !strings.Contains(got, b.addr.String()) || !strings.Contains(got, c.addr.String()) {
			return fmt.Errorf("in use: %s", got)
		}
		return nil
	})
}

// TestJournalFull: an ADD that can't be journalled leaves nothing and says so.
func TestJournalFull(t *testing.T) {
	r := newRig(t)
	journal := filepath.Join(r.dir, "state", "journal")
	r.must(os.MkdirAll(journal, 0o700))
	mountTiny(t, journal)
	r.start()
	fill(t, journal)
	p := &pod{Space: nstest.New(t), id: "unlucky"}
	err := r.addTo(p)
	if cniCode(err) != types.ErrIOFailure {
		t.Fatalf("ADD with a full disk: %v, expected code 5", err)
	}
	if _, err := netlink.LinkByName(endpoint.DeviceName("unlucky", "eth0")); err == nil {
		t.Error("a failed ADD left its device")
	}
	r.must(os.Remove(filepath.Join(journal, "filler")))
	r.must(r.addTo(p))
	fill(t, journal)
	r.must(r.del(p))
	r.must(os.Remove(filepath.Join(journal, "filler")))
}

// TestResult is what the CNI specification wants.
func TestResult(t *testing.T) {
	r := newRig(t)
	r.start()
	c, list := r.libcni()
	p := pod{Space: nstest.New(t), id: "result"}
	res, err := c.AddNetworkList(context.Background(), list, p.config())
	r.must(err)
	got, err := types100.NewResultFromResult(res)
	r.must(err)
	if len(got.Interfaces) != 2 || got.Interfaces[1].Name != "eth0" || got.Interfaces[1].Sandbox != p.Path() || got.Interfaces[0].Sandbox != "" {
		t.Errorf("interfaces are %+v", got.Interfaces)
	}
	if len(got.IPs) != 1 || got.IPs[0].Gateway.String() != "169.254.1.1" || *got.IPs[0].Interface != 1 {
		t.Errorf("addresses are %+v", got.IPs)
	}
	l, err := netlink.LinkByName(got.Interfaces[0].Name)
	r.must(err)
	if l.Attrs().HardwareAddr.String() != got.Interfaces[0].Mac {
		t.Errorf("host side has MAC %s, the result says %s", l.Attrs().HardwareAddr, got.Interfaces[0].Mac)
	}
}

// TestRemovedPodsConnections: what the kernel remembers of a pod's connections goes with it, so that the next
// pod with its address meets none of them.
func TestRemovedPodsConnections(t *testing.T) {
	r := newRig(t)
	r.conf.BPF.Masquerade = false // the kernel's way, in which it remembers them
	r.start()
	r.router.Serve(t, port)
	remembered := func(p *pod) int {
		all, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
		r.must(err)
		n := 0
		for _, f := range all {
			if f.Forward.SrcIP.String() == p.addr.String() || f.Reverse.SrcIP.String() == p.addr.String() {
				n++
			}
		}
		return n
	}
	p, stays := r.add("ends"), r.add("stays")
	for _, from := range []*pod{p, stays} {
		c, err := from.Dial(netip.MustParseAddr(world), port)
		r.must(err)
		defer c.Close()
		if remembered(from) == 0 {
			t.Fatalf("the kernel remembers no connection of %s", from.id)
		}
	}
	r.must(r.del(p))
	if n := remembered(p); n != 0 {
		t.Errorf("%d connections of a removed pod are left", n)
	}
	if remembered(stays) == 0 {
		t.Error("another pod's connection is gone")
	}
}
