package operator

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of the operator.
type Metrics struct {
	calls    *prometheus.HistogramVec
	waited   *prometheus.CounterVec
	wanted   *prometheus.GaugeVec
	held     *prometheus.GaugeVec
	capacity *prometheus.GaugeVec
	deleted  prometheus.Counter
}

// NewMetrics registers them.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weft_operator_ec2_call_seconds", Help: "Attempts of EC2 calls by action and error code (OK if none).",
			Buckets: []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
		}, []string{"action", "code"}),
		waited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weft_operator_ec2_throttled_seconds_total", Help: "Time that calls waited for the operator's own rate limit.",
		}, []string{"action"}),
		wanted:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "weft_operator_addresses_wanted", Help: "Addresses that a node should have."}, []string{"node"}),
		held:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "weft_operator_addresses_held", Help: "Addresses that a node has."}, []string{"node"}),
		capacity: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "weft_operator_addresses_capacity", Help: "Addresses that a node can have at most."}, []string{"node"}),
		deleted:  prometheus.NewCounter(prometheus.CounterOpts{Name: "weft_operator_leaked_interfaces_deleted_total", Help: "ENIs that garbage collection deleted."}),
	}
	for _, c := range []prometheus.Collector{m.calls, m.waited, m.wanted, m.held, m.capacity, m.deleted} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Called implements ec2.Observer.
func (m *Metrics) Called(action, code string, took time.Duration) {
	m.calls.WithLabelValues(action, code).Observe(took.Seconds())
}

// Waited implements ec2.Observer.
func (m *Metrics) Waited(action string, d time.Duration) {
	m.waited.WithLabelValues(action).Add(d.Seconds())
}

func (m *Metrics) node(name string, o outcome) {
	if o.limits.Addresses == 0 {
		return // nothing was found out
	}
	m.wanted.WithLabelValues(name).Set(float64(o.available + o.plan.Need))
	m.held.WithLabelValues(name).Set(float64(o.available))
	m.capacity.WithLabelValues(name).Set(float64(o.plan.Capacity))
}

func (m *Metrics) forget(name string) {
	for _, g := range []*prometheus.GaugeVec{m.wanted, m.held, m.capacity} {
		g.DeleteLabelValues(name)
	}
}
