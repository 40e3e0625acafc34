package agent

import (
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-cni/weft/internal/why"
)

// What a node says of a flow: whose the addresses are, the MTU of their ENIs, the tables.
func TestANodeSaysWhatItKnowsOfAFlow(t *testing.T) {
	r := newRig(t)
	r.start()
	p := r.add("web")
	err := p.Do(func() error {
		c, err := net.Dial("udp", net.JoinHostPort(world, "9"))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("hello"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	out, stderr, err := r.ask("/v1/why?protocol=udp&port=9&from=" + p.addr.String() + "&to=" + world)
	var w why.Witness
	if err != nil || json.Unmarshal([]byte(out), &w) != nil {
		t.Fatalf("%v: %q, %q", err, out, stderr)
	}
	if w.Name != "node-1" || w.Endpoints[p.addr] != "shop/web" || w.MTU[p.addr] == 0 || w.EstablishedMax == 0 {
		t.Errorf("the node says %+v", w)
	}
	if _, has := w.Endpoints[netip.MustParseAddr(world)]; has {
		t.Errorf("the world is no endpoint: %+v", w.Endpoints)
	}
	for _, bad := range []string{"from=x&to=10.0.0.1&protocol=tcp&port=1", "from=10.0.0.1&to=10.0.0.2&protocol=tpc&port=1", "from=10.0.0.1&to=10.0.0.2&protocol=tcp&port=x"} {
		if _, stderr, err := r.ask("/v1/why?" + bad); !errors.Is(err, ErrTold) || !strings.Contains(stderr, "expected") {
			t.Errorf("%s: %v, %q", bad, err, stderr)
		}
	}
}

// Of many connections the last ones are told, in whatever order the tables have them.
func TestLastBegun(t *testing.T) {
	var all []why.Connection
	begin := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	const n = 3 * maxTold
	for i := range n {
		all = append(all, why.Connection{Sent: uint64(i), Began: begin.Add(time.Duration(i*7%n) * time.Second)})
	}
	got := lastBegun(all)
	if len(got) != maxTold {
		t.Fatalf("%d connections are told, expected %d", len(got), maxTold)
	}
	for i, c := range got {
		if want := begin.Add(time.Duration(n-1-i) * time.Second); !c.Began.Equal(want) {
			t.Fatalf("the %d. of the newest began at %s, expected %s", i+1, c.Began, want)
		}
	}
	if got := lastBegun(all[:3]); len(got) != 3 {
		t.Errorf("%d of 3 are told", len(got))
	}
}
