package datapath

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weft-cni/weft/internal/datapath/matrix"
)

// Every cell of the matrix is tried for real: the hooks that see its packets are those of the table, and for
// each endpoint exactly one of them decides on each packet.
func TestMatrix(t *testing.T) {
	needRoot(t)
	v := newVPC(t, vethPods)
	v.proxy(t)
	v.balance(t)
	for _, p := range v.parties {
		p.echoes(t, 7)
	}
	stop := v.watch(t)
	type try struct {
		cell matrix.Cell
		port uint16
		name string
	}
	var tries []try
	for _, c := range matrix.Cells() {
		if c.Pending != "" {
			continue
		}
		for _, to := range v.targets(t, c) {
			one := try{cell: c, port: uint16(20000 + len(tries)), name: fmt.Sprintf("%s to %s at %s", c.From, c.To, to)}
			tries = append(tries, one)
			from, ok := v.parties[c.From]
			if !ok {
				t.Fatalf("%s is nobody here", c.From)
			}
			if err := exchange(from.dialFrom(t, one.port, to), one.name, patience); err != nil {
				t.Errorf("%s: %v", one.name, err)
			}
		}
	}
	// Rings are read in order: what came before this one has been read when it has.
	last := uint16(20000 + len(tries))
	must(t, exchange(v.parties[matrix.Pod].dialFrom(t, last, netip.AddrPortFrom(v.parties[matrix.RemotePod].addr, 7)), "the last one", patience))
	wait(t, "the last one is seen by both nodes, and back", func() bool {
		seen := v.seen(last)
		return slices.ContainsFunc(seen, func(s sighting) bool { return s.reply && s.step.Node == matrix.Here }) &&
			slices.ContainsFunc(seen, func(s sighting) bool { return s.reply && s.step.Node == matrix.Peer })
	})
	stop()
	for _, one := range tries {
		v.checkCell(t, one.name, one.cell, v.seen(one.port))
	}
}

// targets is where the cell's packets are sent: both families, but for what kube-proxy translates here.
func (v *vpc) targets(t *testing.T, c matrix.Cell) []netip.AddrPort {
	t.Helper()
	if p, ok := v.parties[c.To]; ok {
		out := []netip.AddrPort{netip.AddrPortFrom(p.addr, 7)}
		if c.To != matrix.Metadata {
			out = append(out, netip.AddrPortFrom(p.addr6, 7))
		}
		return out
	}
	for _, s := range matrix.Services() {
		if s.Name != c.To {
			continue
		}
		out := []netip.AddrPort{at(v.serviceAddr(s, false), s.Port)}
		if s.Weft {
			out = append(out, at(v.serviceAddr(s, true), s.Port))
		}
		return out
	}
	t.Fatalf("%s is nobody here", c.To)
	return nil
}

func (v *vpc) checkCell(t *testing.T, name string, c matrix.Cell, all []sighting) {
	t.Helper()
	var request, reply []matrix.Step
	for _, s := range all {
		if s.reply {
			reply = append(reply, s.step)
		} else {
			request = append(request, s.step)
		}
	}
	if !slices.Equal(request, c.Request) {
		t.Errorf("%s: the request went %s, expected %s", name, text(request), text(c.Request))
	}
	if !slices.Equal(reply, c.Reply) {
		t.Errorf("%s: the reply went %s, expected %s", name, text(reply), text(c.Reply))
	}
	receiver := c.To
	for _, s := range matrix.Services() {
		if s.Name == c.To {
			receiver = s.Backend
		}
	}
	for way, w := range map[string]struct {
		steps    []matrix.Step
		from, to matrix.Party
	}{"request": {request, c.From, receiver}, "reply": {reply, receiver, c.From}} {
		egress, ingress := 0, 0
		for _, s := range w.steps {
			e, i := s.Decides()
			egress += count(e)
			ingress += count(i)
		}
		if want := count(w.from.Endpoint()); egress != want {
			t.Errorf("%s: what %s sends with the %s is decided %d times, expected %d: %s", name, w.from, way, egress, want, text(w.steps))
		}
		if want := count(w.to.Endpoint()); ingress != want {
			t.Errorf("%s: what %s gets with the %s is decided %d times, expected %d: %s", name, w.to, way, ingress, want, text(w.steps))
		}
	}
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

func text(steps []matrix.Step) string {
	var out []string
	for _, s := range steps {
		out = append(out, fmt.Sprintf("{%s, %s, %s}", s.Node, s.Hook, s.Outcome))
	}
	return strings.Join(out, " ")
}
