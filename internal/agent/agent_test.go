package agent

import (
	"fmt"
	"net/netip"
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
