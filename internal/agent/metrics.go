package agent

import (
	"context"
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weft-cni/weft/internal/listener"
)

// descriptions are all metrics of the agent; docs/observing.md lists them.
type descriptions struct{ all []*prometheus.Desc }

func (d *descriptions) add(name, help string, labels ...string) *prometheus.Desc {
	desc := prometheus.NewDesc(name, help, labels, nil)
	d.all = append(d.all, desc)
	return desc
}

// metrics reads the agent's numbers when they are asked for.
type metrics struct {
	a *agent
	descriptions
	addresses, endpoints, waiting *prometheus.Desc
	ready, restores               *prometheus.Desc
	peers                         peerMetrics
	datapath                      datapathMetrics
}

func newMetrics(a *agent) *metrics {
	m := &metrics{a: a}
	m.addresses = m.add("weft_ipam_addresses", "Addresses of this node by state.", "state")
	m.endpoints = m.add("weft_endpoints", "Endpoints of this node.")
	m.waiting = m.add("weft_ipam_waiting", "Pods that wait for an address.")
	m.ready = m.add("weft_agent_ready", "1 once pods can be made.")
	m.restores = m.add("weft_restores_total", "What the agent put back after something else had taken it away, by kind.", "what")
	m.peers = newPeerMetrics(&m.descriptions)
	m.datapath = newDatapathMetrics(&m.descriptions)
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.all {
		ch <- d
	}
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	ready := 0.0
	if m.a.ready.Load() {
		ready = 1
	}
	gauge(ch, m.ready, ready)
	_, _, counts := m.a.repairs.get()
	for what, n := range counts {
		counter(ch, m.restores, float64(n), what)
	}
	if !m.a.serving.Load() {
		return
	}
	u := m.a.manager.Usage()
	gauge(ch, m.addresses, float64(u.Free), "free")
	gauge(ch, m.addresses, float64(u.Used), "used")
	gauge(ch, m.addresses, float64(u.Resting), "resting")
	gauge(ch, m.addresses, float64(len(u.Fenced)), "fenced")
	gauge(ch, m.endpoints, float64(len(u.Endpoints)))
	gauge(ch, m.waiting, float64(u.Waiting))
	if p := m.a.peers.Load(); p != nil {
		m.peers.collect(p, ch)
	}
	m.datapath.collect(m.a, ch)
}

func (a *agent) serveMetrics(ctx context.Context) error {
	reg := prometheus.NewRegistry()
	var errs []error
	for _, c := range []prometheus.Collector{newMetrics(a), newServiceMetrics(a), a.balance.delay, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	return listener.HTTPAt(ctx, a.MetricsAddress, mux)
}
