package agent

import (
	"bufio"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// described are the names of all metrics, with their labels.
func described() map[string]string {
	ch := make(chan *prometheus.Desc, 100)
	newMetrics(&agent{}).Describe(ch)
	newServiceMetrics(&agent{}).Describe(ch)
	newServiceDelay().Describe(ch)
	close(ch)
	out := map[string]string{}
	parts := regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
	for d := range ch {
		if m := parts.FindStringSubmatch(d.String()); m != nil {
			out[m[1]] = m[2]
		}
	}
	return out
}

// The list for people is that of the registry, labels too.
func TestMetricsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/observing.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(weft_[a-z_]+)` \\|([^|]*)\\|").FindAllStringSubmatch(string(doc), -1) {
		labels := strings.NewReplacer("`", "", " ", "").Replace(m[2])
		if labels == "thesame" {
			labels = listed["weft_datapath_packets_total"]
		}
		if _, twice := listed[m[1]]; twice {
			t.Errorf("docs/observing.md lists %s twice", m[1])
		}
		listed[m[1]] = labels
	}
	have := described()
	if len(have) < 20 {
		t.Fatalf("found %d metrics, expected more: %v", len(have), have)
	}
	if !maps.Equal(have, listed) {
		for _, name := range slices.Sorted(maps.Keys(have)) {
			if labels, ok := listed[name]; !ok || labels != have[name] {
				t.Errorf("docs/observing.md lists %s with labels %q (there: %v), the agent has %q", name, labels, ok, have[name])
			}
		}
		for name := range listed {
			if _, ok := have[name]; !ok {
				t.Errorf("docs/observing.md lists %s, which the agent doesn't have", name)
			}
		}
	}
}

// scrape reads the agent's metrics as a scrape does, by name and labels.
func (r *rig) scrape() map[string]float64 {
	r.t.Helper()
	resp, err := http.Get("http://" + r.metrics + "/metrics")
	r.must(err)
	defer resp.Body.Close()
	out := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.HasPrefix(name, "#") || !strings.HasPrefix(name, "weft_") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			r.t.Fatalf("%s: %v", lines.Text(), err)
		}
		out[strings.ReplaceAll(name, `"`, "")] = v
	}
	return out
}

// What a scrape shows of a node with pods that talk, and what the agent puts back.
func TestMetricsOfANode(t *testing.T) {
	r := newRig(t)
	r.conf.BPF.ProgramStatistics = true
	r.metrics = "127.0.0.1:9962"
	r.start()
	web := r.add("web")
	r.router.Serve(t, 8080)
	_, err := web.Ask(netip.MustParseAddr(world), 8080)
	r.must(err)
	before := r.scrape()
	for key, least := range map[string]float64{
		"weft_agent_ready": 1,
		"weft_endpoints":   1,
		"weft_bpf_map_max_entries{map=weft_ct_est}":         1024,
		"weft_bpf_map_max_entries{map=weft_ipcache}":        1024,
		"weft_bpf_map_entries{map=weft_addresses}":          1,
		"weft_bpf_map_pressure_ratio{map=weft_addresses}":   0.0001,
		"weft_conntrack_events_total{event=created}":        1,
		"weft_conntrack_ring_max_entries{ring=established}": 1024,
		"weft_bpf_program_runs_total{hook=from_pod}":        1,
		"weft_bpf_program_run_seconds_total{hook=from_pod}": 1e-9,
		"weft_restores_total{what=program}":                 0,
	} {
		if v, ok := before[key]; !ok || v < least {
			t.Errorf("%s is %v (there: %v), expected %v at least", key, v, ok, least)
		}
	}
	sent := false // whatever became of them
	for key, v := range before {
		sent = sent || strings.HasPrefix(key, "weft_datapath_packets_total{direction=egress,hook=from_pod,outcome=forward") && v > 0
	}
	if !sent {
		t.Errorf("no packet that was forwarded: %v", before)
	}
	r.must(os.Remove(r.bpf + "/maps/weft_addresses"))
	nstest.Eventually(t, 30*time.Second, "a pin that was put back is counted", func() error {
		if n := r.scrape()["weft_restores_total{what=pin}"]; n < 1 {
			return fmt.Errorf("found %v", n)
		}
		return nil
	})
}

func TestFillPause(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{0: time.Minute, 100 * time.Millisecond: time.Minute, time.Second: 200 * time.Second} {
		if got := fillPause(took); got != want {
			t.Errorf("after %s: found %s, expected %s", took, got, want)
		}
	}
}
