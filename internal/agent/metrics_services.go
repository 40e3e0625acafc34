package agent

import (
	"github.com/prometheus/client_golang/prometheus"
)

// serviceMetrics tell how full the tables of services are and what became of connections to them.
type serviceMetrics struct {
	a                     *agent
	entries, max, sockets *prometheus.Desc
	failed                *prometheus.Desc
	services, problems    *prometheus.Desc
	pressure, ports       *prometheus.Desc
}

// newServiceDelay measures how long changes take to the tables.
func newServiceDelay() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "weft_services_sync_seconds", Help: "Time from a change of a service or its endpoints, as the API server's controller dates it or else as it was received, to the tables.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 18),
	})
}

func newServiceMetrics(a *agent) *serviceMetrics {
	return &serviceMetrics{
		a:       a,
		entries: prometheus.NewDesc("weft_services_entries", "Frontends, backends, clients' prefixes and tables of Maglev of services.", []string{"kind"}, nil),
		max:     prometheus.NewDesc("weft_services_entries_max", "How many there may be.", []string{"kind"}, nil),
		sockets: prometheus.NewDesc("weft_services_sockets_total", "Connections and datagrams to services by what became of them.", []string{"outcome"}, nil),
		failed:  prometheus.NewDesc("weft_services_failed", "Services that the tables didn't take.", nil, nil),

		services: prometheus.NewDesc("weft_services", "Services that are served.", nil, nil),
		problems: prometheus.NewDesc("weft_services_problems", "Services of which something can't be served; events on them say what.", nil, nil),
		pressure: prometheus.NewDesc("weft_services_pressure_ratio", "How full the tables are, from 0 to 1.", []string{"kind"}, nil),
		ports:    prometheus.NewDesc("weft_services_health_ports_failed", "Health check node ports that couldn't be opened.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *serviceMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.entries, m.max, m.sockets, m.failed, m.services, m.problems, m.pressure, m.ports} {
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
	for _, t := range []struct {
		kind      string
		have, max int
	}{
		{"frontends", s.Frontends, s.MaxFrontends}, {"backends", s.Backends, s.MaxBackends},
		{"ranges", s.Ranges, s.MaxRanges}, {"maglev", s.Tables, s.MaxTables},
	} {
		gauge(m.entries, t.have, t.kind)
		gauge(m.max, t.max, t.kind)
		ch <- prometheus.MustNewConstMetric(m.pressure, prometheus.GaugeValue, float64(t.have)/float64(max(t.max, 1)), t.kind)
	}
	gauge(m.services, s.Services)
	gauge(m.problems, m.a.balance.problems.count())
	gauge(m.ports, len(m.a.balance.checks.Failed()))
	gauge(m.failed, len(m.a.balance.failed()))
	for outcome, n := range s.Outcomes {
		ch <- prometheus.MustNewConstMetric(m.sockets, prometheus.CounterValue, float64(n), outcome)
	}
}
