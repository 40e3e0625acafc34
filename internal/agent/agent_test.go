package agent

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

const port = 8080

func expectSource(t *testing.T, what string, from nstest.Space, to string, want string) {
	t.Helper()
	got, err := from.Ask(netip.MustParseAddr(to), port)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if got.String() != want {
		t.Errorf("%s: the other side saw %s, expected %s", what, got, want)
	}
}

// TestTraffic sends on every path that one node has, with pods on both ENIs.
func TestTraffic(t *testing.T) {
	r := newRig(t)
	r.start()
	a, b := r.add("pod-a"), r.add("pod-b")
	c := r.add("pod-c")
	onENI := map[byte]int{}
	for _, p := range []*pod{a, b, c} {
		onENI[p.addr.As4()[3]/10]++
	}
	if len(onENI) != 2 {
		t.Fatalf("pods have %s %s %s, expected both ENIs in use", a.addr, b.addr, c.addr)
	}
	node := nstest.Space{}
	for _, s := range []nstest.Space{node, r.router, a.Space, b.Space, c.Space} {
		s.Serve(t, port)
	}
	for _, from := range []*pod{a, b, c} {
		for _, to := range []*pod{a, b, c} {
			if from != to {
				expectSource(t, fmt.Sprintf("%s to %s", from.id, to.id), from.Space, to.addr.String(), from.addr.String())
			}
		}
		for _, own := range eniOwn {
			expectSource(t, from.id+" to the node's "+own, from.Space, own, from.addr.String())
		}
		expectSource(t, "node to "+from.id, node, from.addr.String(), eniOwn[0])
		expectSource(t, from.id+" to the VPC", from.Space, "10.20.0.1", from.addr.String())
		expectSource(t, from.id+" to the world", from.Space, world, eniOwn[0])
		expectSource(t, "VPC to "+from.id, r.router, from.addr.String(), "10.20.0.1")
	}
	for _, own := range eniOwn {
		expectSource(t, "VPC to the node's "+own, r.router, own, "10.20.0.1")
	}
	expectSource(t, "node to the world", node, world, eniOwn[0])
}

// TestSettings: IPv6 is off on the pod's device alone, loose reverse path filters on every ENI and pair.
func TestSettings(t *testing.T) {
	r := newRig(t)
	r.start()
	p := r.add("pod")
	expect := func(s nstest.Space, name, want string) {
		t.Helper()
		err := s.Do(func() error {
			b, err := os.ReadFile("/proc/sys/net/" + name)
			if err == nil && strings.TrimSpace(string(b)) != want {
				err = fmt.Errorf("%s is %s, expected %s", name, strings.TrimSpace(string(b)), want)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	expect(p.Space, "ipv6/conf/eth0/disable_ipv6", "1")
	expect(p.Space, "ipv6/conf/lo/disable_ipv6", "0")
	node := nstest.Space{}
	for _, dev := range []string{"eth0", "ens6", p.device()} {
		expect(node, "ipv4/conf/"+dev+"/rp_filter", "2")
	}
	expect(node, "ipv4/ip_forward", "1")
}
