package agent

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics reads the agent's numbers when they are asked for.
type metrics struct {
	a                             *agent
	addresses, endpoints, waiting *prometheus.Desc
	ready, packets, bytes         *prometheus.Desc
	events                        *prometheus.Desc
	peers                         peerMetrics
}

func newMetrics(a *agent) *metrics {
	hook := []string{"hook", "direction", "reason"}
	return &metrics{
		a:         a,
		peers:     newPeerMetrics(),
		addresses: prometheus.NewDesc("weft_ipam_addresses", "Addresses of this node by state.", []string{"state"}, nil),
		endpoints: prometheus.NewDesc("weft_endpoints", "Endpoints of this node.", nil, nil),
		waiting:   prometheus.NewDesc("weft_ipam_waiting", "Pods that wait for an address.", nil, nil),
		ready:     prometheus.NewDesc("weft_agent_ready", "1 once pods can be made.", nil, nil),
		events:    prometheus.NewDesc("weft_datapath_events_total", "Events by type and what became of them: suppressed ones were only counted, lost ones found the ring full.", []string{"type", "outcome"}, nil),
		packets:   prometheus.NewDesc("weft_datapath_packets_total", "Packets by hook, direction and what became of them.", hook, nil),
		bytes:     prometheus.NewDesc("weft_datapath_bytes_total", "Bytes by hook, direction and what became of them.", hook, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	ready := 0.0
	if m.a.ready.Load() {
		ready = 1
	}
	gauge(m.ready, ready)
	if !m.a.serving.Load() {
		return
	}
	u := m.a.manager.Usage()
	gauge(m.addresses, float64(u.Free), "free")
	gauge(m.addresses, float64(u.Used), "used")
	gauge(m.addresses, float64(u.Resting), "resting")
	gauge(m.addresses, float64(len(u.Fenced)), "fenced")
	gauge(m.endpoints, float64(len(u.Endpoints)))
	gauge(m.waiting, float64(u.Waiting))
	if p := m.a.peers.Load(); p != nil {
		m.peers.collect(p, ch)
	}
	counters, err := m.a.programs.dp.Counters()
	if err != nil {
		m.a.Log.Warn("datapath counters not read", "err", err)
		return
	}
	stats, err := m.a.flows.stats()
	if err != nil {
		m.a.Log.Warn("statistics of events not read", "err", err)
		return
	}
	for _, s := range stats.Events {
		for outcome, n := range map[string]uint64{"sent": s.Sent, "suppressed": s.Suppressed, "lost": s.Lost} {
			ch <- prometheus.MustNewConstMetric(m.events, prometheus.CounterValue, float64(n), s.Type, outcome)
		}
	}
	for _, c := range counters {
		labels := []string{c.Hook.String(), c.Direction.String(), c.Reason.String()}
		ch <- prometheus.MustNewConstMetric(m.packets, prometheus.CounterValue, float64(c.Packets), labels...)
		ch <- prometheus.MustNewConstMetric(m.bytes, prometheus.CounterValue, float64(c.Bytes), labels...)
	}
}

func (a *agent) serveMetrics(ctx context.Context) error {
	reg := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{newMetrics(a), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	return listenAndServe(ctx, a.MetricsAddress, mux)
}
