package agent

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/nodehealth"
)

// lookAtPeers answers the other agents and probes their nodes.
func (a *agent) lookAtPeers(ctx context.Context) error {
	if !a.Config.HealthChecking {
		return nil
	}
	a.mu.Lock()
	own := a.view.nodeAddress()
	a.mu.Unlock()
	h := a.Config.NodeHealth
	m := &nodehealth.Monitor{
		Node: a.Node, Addr: own, Log: a.Log, Changed: a.tellSoon,
		Settings: nodehealth.Settings{
			Interval: h.Interval.Duration, Timeout: h.Timeout.Duration, Failures: a.Config.ICMPFailureThreshold,
			Sample: h.Sample, Port: contract.NodeHealthPort,
		},
		OpenPing: func() error { return nodehealth.OpenPing(a.ProcSysNet) },
	}
	m.SetPeers(nil)
	a.peers.Store(m)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.Run(ctx) })
	g.Go(func() error {
		return a.Cluster.WatchPeers(ctx, func(all []nodehealth.Peer) {
			a.nodes.Store(&all)
			m.SetPeers(all)
		})
	})
	return g.Wait()
}

// knownPeers are the nodes with an agent, as far as they are watched.
func (a *agent) knownPeers() []nodehealth.Peer {
	if p := a.nodes.Load(); p != nil {
		return *p
	}
	return nil
}

// peerReport answers GET /v1/peers.
func (a *agent) peerReport() (any, error) {
	if !a.Config.HealthChecking {
		return nil, agentapi.NotFound("nodes don't probe each other: healthChecking is false")
	}
	if err := a.whenServing(); err != nil {
		return nil, err
	}
	m := a.peers.Load()
	if m == nil {
		return nil, agentapi.Unavailable("the agent of %s hasn't begun to probe other nodes yet", a.Node)
	}
	return m.Report(), nil
}

// unreached is the part of the status that says which nodes this one doesn't reach.
func (a *agent) unreached() (int32, []v1alpha1.UnreachedPeer) {
	m := a.peers.Load()
	if m == nil {
		return 0, nil
	}
	all := m.Unreached()
	var out []v1alpha1.UnreachedPeer
	for _, p := range all[:min(len(all), v1alpha1.MaxUnreached)] {
		out = append(out, v1alpha1.UnreachedPeer{
			Node: p.Node, Address: p.Address, ICMP: string(p.ICMP.Outcome), TCP: string(p.TCP.Outcome), Since: metav1.NewTime(p.Since()),
		})
	}
	return int32(len(all)), out
}

// peerMetrics are numbers of all peers together: a series for each of them on every node would be the square
// of the cluster.
type peerMetrics struct{ known, probed, reached, latency *prometheus.Desc }

func newPeerMetrics(d *descriptions) peerMetrics {
	return peerMetrics{
		known:   d.add("weft_node_health_peers", "Other nodes with an agent."),
		probed:  d.add("weft_node_health_probed", "Other nodes that were probed."),
		reached: d.add("weft_node_health_reached", "Other nodes that were probed and are reached."),
		latency: d.add("weft_node_health_latency_seconds", "Last latency to other nodes.", "probe"),
	}
}

func (p peerMetrics) collect(m *nodehealth.Monitor, ch chan<- prometheus.Metric) {
	r := m.Report()
	for d, v := range map[*prometheus.Desc]int{p.known: r.Known, p.probed: r.Probed, p.reached: r.Reached} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	for probe, of := range map[string]func(nodehealth.PeerReport) nodehealth.Sight{
		"icmp": func(p nodehealth.PeerReport) nodehealth.Sight { return p.ICMP },
		"tcp":  func(p nodehealth.PeerReport) nodehealth.Sight { return p.TCP },
	} {
		n, sum := uint64(0), 0.0
		buckets := map[float64]uint64{.0001: 0, .00025: 0, .0005: 0, .001: 0, .0025: 0, .005: 0, .01: 0, .05: 0, .25: 0, 1: 0}
		for _, peer := range r.Peers {
			s := of(peer)
			if s.Outcome != nodehealth.OK {
				continue
			}
			n++
			sum += s.Latency.Seconds()
			for le := range buckets {
				if s.Latency.Seconds() <= le {
					buckets[le]++
				}
			}
		}
		ch <- prometheus.MustNewConstHistogram(p.latency, n, sum, buckets, probe)
	}
}
