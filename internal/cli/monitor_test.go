package cli

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-cni/weft/internal/flow"
)

func TestMonitorQuery(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	base := monitorOptions{capture: 128}
	for _, tc := range []struct {
		name   string
		change func(*monitorOptions)
		want   string // parts of the query
		bad    string
	}{
		{"what comes", func(o *monitorOptions) { o.follow = true }, "follow=true last=0 type=drop type=new type=close", ""},
		{"the last", func(o *monitorOptions) { o.last = 5; o.types = []string{"drop"} }, "follow=false last=5 type=drop", ""},
		{"since", func(o *monitorOptions) { o.since = time.Minute }, "follow=false since=2026-07-01T11%3A59%3A00Z", ""},
		{"a capture", func(o *monitorOptions) { o.follow, o.pcap = true, "x" }, "capture=128 type=drop", ""},
		{"peers", func(o *monitorOptions) { o.from, o.to = []string{"shop/web"}, []string{"10.0.0.0/8"} }, "from=shop%2Fweb to=10.0.0.0%2F8", ""},
		{"a wrong type", func(o *monitorOptions) { o.types = []string{"drops"} }, "", "--type: found \"drops\""},
		{"a wrong pod", func(o *monitorOptions) { o.from = []string{"web"} }, "", "--from: found \"web\""},
		{"a capture of the past", func(o *monitorOptions) { o.pcap, o.last = "x", 3 }, "", "--follow"},
		{"too many bytes", func(o *monitorOptions) { o.capture = 129 }, "", "1 to 128"},
		{"another output", func(o *monitorOptions) { o.output = "yaml" }, "", "expected json"},
	} {
		o := base
		tc.change(&o)
		q, err := o.query(now)
		if tc.bad != "" {
			if err == nil || !strings.Contains(err.Error(), tc.bad) {
				t.Errorf("%s: %v, expected %q", tc.name, err, tc.bad)
			}
			continue
		}
		parts := strings.Split(q.Encode(), "&")
		for _, want := range strings.Fields(tc.want) {
			if !slices.Contains(parts, want) {
				t.Errorf("%s: the query is %s, %v; expected %s in it", tc.name, q.Encode(), err, want)
			}
		}
	}
}

func TestPodsOfOtherNodesAreNamed(t *testing.T) {
	names := map[string]string{"10.0.1.5": "shop/web-0", "10.0.2.6": "shop/db-0", "10.0.2.7": "other/x"}
	r := flow.Record{From: flow.Side{Addr: netip.MustParseAddr("10.0.1.5"), Pod: "shop/before"}, To: flow.Side{Addr: netip.MustParseAddr("10.0.2.6")}}
	nameSides(names, &r)
	if r.From.Pod != "shop/before" || r.To.Pod != "shop/db-0" {
		t.Errorf("sides are %+v and %+v; expected that the agent's own word stands", r.From, r.To)
	}
	got := withAddresses([]string{"shop/db-0", "10.9.9.9", "shop/"}, names)
	slices.Sort(got)
	if want := []string{"10.0.1.5", "10.0.2.6", "10.0.2.6", "10.9.9.9", "shop/", "shop/db-0"}; !slices.Equal(got, want) {
		t.Errorf("peers are %q, expected %q", got, want)
	}
}
