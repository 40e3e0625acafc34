package agent

import (
	"github.com/prometheus/client_golang/prometheus"
)

// serviceMetrics tell how full the tables of services are and what became of connections to them.
type serviceMetrics struct {
	a                     *agent
	entries, max, sockets *prometheus.Desc
	failed                *prometheus.Desc
}

func newServiceMetrics(a *agent) *serviceMetrics {
	return &serviceMetrics{
		a:       a,
		entries: prometheus.NewDesc("weft_services_entries", "Frontends and backends of services that sockets are connected to.", []string{"kind"}, nil),
		max:     prometheus.NewDesc("weft_services_entries_max", "How many there may be.", []string{"kind"}, nil),
		sockets: prometheus.NewDesc("weft_services_sockets_total", "Connections and datagrams to services by what became of them.", []string{"outcome"}, nil),
		failed:  prometheus.NewDesc("weft_services_failed", "Services that the tables didn't take.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *serviceMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.entries, m.max, m.sockets, m.failed} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *serviceMetrics) Collect(ch chan<- prometheus.Metric) {
	s, err := m.a.balance.stats()
	if err != nil {
		m.a.Log.Warn("statistics of services not read", "err", err)
		return
	}
	if s == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	gauge(m.entries, s.Frontends, "frontends")
	gauge(m.entries, s.Backends, "backends")
	gauge(m.max, s.MaxFrontends, "frontends")
	gauge(m.max, s.MaxBackends, "backends")
	gauge(m.failed, len(m.a.balance.failed()))
	for outcome, n := range s.Outcomes {
		ch <- prometheus.MustNewConstMetric(m.sockets, prometheus.CounterValue, float64(n), outcome)
	}
}
