package agent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/datapath/dptest"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/flow"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// told is an agent's part that keeps events, with a datapath in memory.
type told struct {
	*flows
	kernel *dptest.Kernel
	dp     *dptest.Datapath
	pods   []endpoint.Endpoint
}

func newTold(t *testing.T, keep int) *told {
	t.Helper()
	o := &told{kernel: dptest.NewKernel(), pods: []endpoint.Endpoint{
		{Slot: 3, Epoch: 7, Address: netip.MustParseAddr("10.0.1.5"), Pod: "shop/web"},
	}}
	o.dp = o.kernel.Open()
	o.flows = newFlows("n1", keep, o.dp, newJoiner(func() []endpoint.Endpoint { return o.pods }, func() map[int]string { return map[int]string{101: "eni-1"} }), slog.New(slog.DiscardHandler))
	return o
}

func dropOf(slot, generation uint32, port uint16) datapath.Event {
	return datapath.Event{Type: datapath.EventDrop, Hook: datapath.FromPod, Direction: datapath.Egress, Reason: datapath.ReasonSourceAddress,
		File: "bpf/from_pod.c", Line: 83, Family: 4, Protocol: 17, Ifindex: 0x100003, Length: 60,
		Side: [2]datapath.EventSide{
			{Addr: netip.MustParseAddr("10.9.9.9"), Port: port, Local: true, Slot: slot, Generation: generation},
			{Addr: netip.MustParseAddr("10.0.2.6"), Port: 53}}}
}

func (o *told) all() []flow.Record {
	into := make([]flow.Record, 4096)
	c := o.ring.All()
	n, _, _ := o.ring.Read(&c, into)
	return into[:n]
}

func TestEventsGetTheNamesOfTheirTime(t *testing.T) {
	o := newTold(t, 100)
	o.take([]datapath.Event{dropOf(3, 7, 1)}, 0)
	// The pod leaves, another takes its slot: what still tells of the first one is told apart.
	o.pods = []endpoint.Endpoint{{Slot: 3, Epoch: 8, Address: netip.MustParseAddr("10.0.1.5"), Pod: "shop/next"}}
	o.join.read = time.Time{}
	o.take([]datapath.Event{dropOf(3, 7, 2), dropOf(3, 8, 3), dropOf(9, 1, 4)}, 0)
	got := o.all()
	for i, want := range []struct {
		pod    string
		gone   bool
		object string
	}{{"shop/web", false, "pod shop/web"}, {"shop/web", true, "pod shop/web"}, {"shop/next", false, "pod shop/next"}, {"", true, "device with index 1048579"}} {
		r := got[i]
		if r.From.Pod != want.pod || r.From.Gone != want.gone || r.Object != want.object {
			t.Errorf("event %d: %+v of %q, expected %+v", i, r.From, r.Object, want)
		}
	}
	r := got[0]
	if r.Type != flow.Drop || r.Node != "n1" || r.Reason != "source-address" || r.Where != "bpf/from_pod.c:83" || r.Advice == "" || r.Protocol != "udp" || r.Hook != "from_pod" || r.To.Port != 53 {
		t.Errorf("record is %+v", r)
	}
}

// ask gives the handlers a question as the socket would, and returns the lines.
func (o *told) ask(t *testing.T, ctx context.Context, query string) ([]flow.Record, error) {
	t.Helper()
	var out []flow.Record
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/flows?"+query, nil)
	err := o.stream(r, func(v any) error {
		out = append(out, v.(flow.Record))
		return nil
	})
	return out, err
}

func TestFlowsAreAskedFor(t *testing.T) {
	o := newTold(t, 2000)
	for i := range 1500 {
		o.take([]datapath.Event{dropOf(3, 7, uint16(i+1))}, 0)
	}
	ports := func(r []flow.Record) (out []uint16) {
		for _, x := range r {
			out = append(out, x.From.Port)
		}
		return out
	}
	for _, tc := range []struct {
		query       string
		n           int
		first, last uint16
	}{
		{"", 1500, 1, 1500}, {"last=2", 2, 1499, 1500}, {"last=0", 0, 0, 0}, {"port=7", 1, 7, 7},
		{"from=shop/web&last=600", 600, 901, 1500}, {"type=new", 0, 0, 0},
	} {
		got, err := o.ask(t, t.Context(), tc.query)
		p := ports(got)
		if err != nil || len(p) != tc.n || tc.n > 0 && (p[0] != tc.first || p[tc.n-1] != tc.last) {
			t.Errorf("%q: %d records, %v", tc.query, len(p), err)
		}
	}
	for _, bad := range []string{"type=x", "last=-1", "last=x", "capture=129", "capture=-1"} {
		var e *agentapi.Error
		if _, err := o.ask(t, t.Context(), bad); !errors.As(err, &e) || e.Code != http.StatusBadRequest {
			t.Errorf("%q: %v, expected a bad request", bad, err)
		}
	}
}

// Who follows gets what comes; the programs trace and capture while somebody wants it, and stop.
func TestFollowing(t *testing.T) {
	o := newTold(t, 100)
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan flow.Record)
	done := make(chan error, 1)
	go func() {
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/flows?follow=true&last=0&type=trace,drop&capture=64", nil)
		done <- o.stream(r, func(v any) error {
			seen <- v.(flow.Record)
			return nil
		})
	}()
	nstest.Eventually(t, 10*time.Second, "the programs trace", func() error {
		if w := o.dp.Watch(); w != (datapath.Watch{Trace: true, Capture: 64}) {
			return errors.New("not yet")
		}
		return nil
	})
	o.take([]datapath.Event{dropOf(3, 7, 5)}, 0)
	if r := <-seen; r.From.Port != 5 {
		t.Errorf("saw %+v", r)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if w := o.dp.Watch(); w != (datapath.Watch{}) {
		t.Errorf("nobody looks on, and the programs tell %+v", w)
	}
}

func TestTooManyWatchers(t *testing.T) {
	o := newTold(t, 10)
	for range maxWatchers {
		if _, err := o.watch(datapath.Watch{}); err != nil {
			t.Fatal(err)
		}
	}
	var e *agentapi.Error
	if _, err := o.watch(datapath.Watch{}); !errors.As(err, &e) {
		t.Errorf("one more: %v", err)
	}
}

// What can't be read is counted and said, and costs nothing else.
func TestForeignRecordsAreCounted(t *testing.T) {
	o := newTold(t, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.run(ctx) }()
	o.kernel.Emit(3, dropOf(3, 7, 1))
	nstest.Eventually(t, 10*time.Second, "lost records are said", func() error {
		for _, r := range o.all() {
			if r.Type == flow.Lost && r.Count == 3 {
				return nil
			}
		}
		return errors.New("not yet")
	})
	s, err := o.stats()
	if err != nil || s.Unreadable != 3 || s.Events[0] != (EventStat{Type: "drop", Sent: 1}) {
		t.Errorf("statistics are %+v, %v", s, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The whole way: a pod forges (its first packet asks for the gateway's MAC), the programs drop, the agent
// tells by its socket.
func TestAPodsDropIsTold(t *testing.T) {
	r := newRig(t)
	r.start()
	p := r.add("forger")
	if err := p.Do(func() error { return sendForged("10.77.0.1", world) }); err != nil {
		t.Fatal(err)
	}
	var rec flow.Record
	nstest.Eventually(t, 10*time.Second, "the drop is told", func() error {
		out, _, err := r.ask("/v1/flows?type=drop&reason=arp-bad&from=shop/forger")
		if err != nil {
			return err
		}
		line, _, _ := strings.Cut(out, "\n")
		return json.Unmarshal([]byte(line), &rec)
	})
	if rec.From.Pod != "shop/forger" || rec.From.Addr.String() != "10.77.0.1" || rec.To.Addr != contract.Gateway || rec.Family != "arp" || rec.Object != "pod shop/forger" || rec.Node != "node-1" {
		t.Errorf("record is %+v", rec)
	}
	if out, _, err := r.ask("/v1/flows/stats"); err != nil || !strings.Contains(out, `"type":"drop","sent":`) {
		t.Errorf("statistics are %s, %v", out, err)
	}
	out, stderr, err := r.ask("/v1/flows?type=nonsense")
	if !errors.Is(err, ErrTold) || out != "" || !strings.Contains(stderr, "nonsense") {
		t.Errorf("a wrong question: %q, %q, %v", out, stderr, err)
	}
}

// sendForged sends from an address that is on the pod's device, but isn't the pod's.
func sendForged(from, to string) error {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(from + "/32")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return err
	}
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP(to), Port: 9})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("forged"))
	return err
}
