package agent

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

func TestShrunk(t *testing.T) {
	v := func(from, n int) view {
		v := view{owners: map[netip.Addr]int32{}}
		for i := range n {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(from + i)})
			v.owners[a] = 0
			v.assigned = append(v.assigned, endpoint.Assigned{Address: a})
		}
		return v
	}
	ep := func(i byte) []endpoint.Endpoint {
		return []endpoint.Endpoint{{Address: netip.AddrFrom4([4]byte{10, 0, 0, i})}}
	}
	for name, c := range map[string]struct {
		last, next view
		eps        []endpoint.Endpoint
		want       string
	}{
		"same":                     {last: v(1, 8), next: v(1, 8)},
		"more":                     {last: v(1, 8), next: v(1, 18), eps: ep(3)},
		"a free one less":          {last: v(1, 8), next: v(1, 7), eps: ep(3)},
		"half":                     {last: v(1, 8), next: v(1, 4), eps: ep(3)},
		"less than half":           {last: v(1, 8), next: v(1, 3), want: "3 addresses, it had 8"},
		"nothing":                  {last: v(1, 8), next: v(1, 0), want: "0 addresses"},
		"few":                      {last: v(1, 3), next: v(1, 1)},
		"one in use":               {last: v(1, 8), next: v(1, 7), eps: ep(8), want: "of 1 endpoints"},
		"one in use, lost before":  {last: v(1, 8), next: v(1, 8), eps: ep(9)},
		"all replaced, one in use": {last: v(1, 8), next: v(11, 8), eps: ep(2), want: "of 1 endpoints"},
	} {
		got := shrunk(c.last, c.next, c.eps)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, expected %q", name, got, c.want)
		}
	}
}

func TestHold(t *testing.T) {
	var h hold
	now := time.Unix(1_700_000_000, 0)
	for _, step := range []struct {
		after time.Duration
		why   string
		want  time.Duration
	}{
		{0, "less", holdFor},
		{10 * time.Second, "even less", holdFor - 10*time.Second},
		{time.Second, "", 0},
		{0, "less", holdFor},
		{holdFor, "less", 0},
	} {
		now = now.Add(step.after)
		if got := h.look(now, step.why); got != step.want {
			t.Errorf("look(%q) = %s, expected %s", step.why, got, step.want)
		}
	}
	h.look(now, "")
	h.look(now, "less")
	if got := h.look(now.Add(-time.Hour), "less"); got != holdFor {
		t.Errorf("after the clock was set back: %s", got)
	}
}

// A NodeNetwork that suddenly says less isn't followed at once, and pods go on.
func TestShrunkIsHeld(t *testing.T) {
	r := newRig(t)
	r.start()
	p := r.add("a")
	held := r.cluster.lastStatus().Held
	nn := r.nodeNetwork(2)
	for i := range nn.Spec.Interfaces {
		nn.Spec.Interfaces[i].Addresses = nil
	}
	nn.Generation++
	r.cluster.set(nn, r.clusterNetwork())
	nstest.Eventually(t, 10*time.Second, "an event tells that the object shrank", func() error {
		r.cluster.mu.Lock()
		defer r.cluster.mu.Unlock()
		for _, e := range r.cluster.events {
			if strings.Contains(e, "NodeNetworkShrank") {
				return nil
			}
		}
		return fmt.Errorf("events are %v", r.cluster.events)
	})
	r.add("b") // from the pool as it was
	if s := r.cluster.lastStatus(); s.Held != held {
		t.Errorf("the status holds %d addresses, expected %d", s.Held, held)
	}
	r.must(r.del(p))
	back := r.nodeNetwork(2)
	back.Generation = nn.Generation + 1
	r.cluster.set(back, r.clusterNetwork())
	nstest.Eventually(t, 10*time.Second, "the object that is whole again is followed", func() error {
		if s := r.cluster.lastStatus(); s.ObservedGeneration != back.Generation || s.Held != held {
			return fmt.Errorf("status is %+v", s)
		}
		return nil
	})
}
