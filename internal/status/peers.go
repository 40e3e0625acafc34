package status

import (
	"fmt"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/nodehealth"
)

// nodeHealth is the component's name.
const nodeHealth = "node health"

// unreached is a node that others don't reach.
type unreached struct {
	by   []string
	last v1alpha1.UnreachedPeer // what the first of them saw
	// since is when the first of them lost it.
	since time.Time
}

// peers says which nodes the others don't reach. Where one node reaches none, it is that one's trouble.
func (e *evaluation) peers() {
	if !e.HealthChecking {
		e.report.Components = append(e.report.Components, Component{Name: nodeHealth, State: Disabled})
		return
	}
	down, there := map[string]bool{}, map[string]bool{}
	for i := range e.Nodes {
		there[e.Nodes[i].Name] = true
		down[e.Nodes[i].Name] = nodeDown(&e.Nodes[i])
	}
	agents := 0
	for _, n := range e.NodeNetworks {
		if there[n.Name] && n.Status.AgentVersion != "" {
			agents++
		}
	}
	lost := map[string]*unreached{}
	lonely := map[string]int32{}
	for _, n := range e.NodeNetworks {
		if !there[n.Name] || down[n.Name] {
			continue // what it said is of before
		}
		if len(n.Status.Unreached) > 1 && int(n.Status.UnreachedPeers) >= agents-1 {
			lonely[n.Name] = n.Status.UnreachedPeers
			continue
		}
		for _, p := range n.Status.Unreached {
			if !there[p.Node] {
				continue
			}
			u := lost[p.Node]
			if u == nil {
				u = &unreached{last: p, since: p.Since.Time}
				lost[p.Node] = u
			}
			u.by = append(u.by, n.Name)
			if p.Since.Time.Before(u.since) {
				u.since = p.Since.Time
			}
		}
	}
	detail := fmt.Sprintf("%d/%d nodes reachable", agents-len(union(lost, lonely)), agents)
	if agents == 0 {
		detail = "no agent has reported yet"
	}
	c := Component{Name: nodeHealth, State: OK, Detail: detail}
	if len(lost)+len(lonely) > 0 {
		c.State = Failed
	}
	e.report.Components = append(e.report.Components, c)
	for _, node := range sortedKeys(lonely) {
		e.warn("node "+node, fmt.Sprintf("reaches none of %d other nodes", lonely[node]), advice(e.networks[node].Status.Unreached[0]))
	}
	for _, node := range sortedKeys(lost) {
		if lonely[node] > 0 {
			continue
		}
		u := lost[node]
		sort.Strings(u.by)
		do := advice(u.last)
		if down[node] {
			do = "the node is NotReady: see kubectl describe node " + node
		}
		e.warn("node "+node, fmt.Sprintf("is not reached from %s since %s (%s)", strings.Join(first(u.by, 3), ", "),
			u.since.UTC().Format("2006-01-02 15:04:05 UTC"),
			nodehealth.Seen(nodehealth.Outcome(u.last.ICMP), nodehealth.Outcome(u.last.TCP), contract.NodeHealthPort)), do)
	}
}

func advice(p v1alpha1.UnreachedPeer) string {
	return nodehealth.Advice(nodehealth.Outcome(p.ICMP), nodehealth.Outcome(p.TCP), contract.NodeHealthPort)
}

func union(lost map[string]*unreached, lonely map[string]int32) map[string]bool {
	out := map[string]bool{}
	for n := range lost {
		out[n] = true
	}
	for n := range lonely {
		out[n] = true
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func nodeDown(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status != corev1.ConditionTrue
		}
	}
	return false
}
