package status

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
)

func TestPeers(t *testing.T) {
	since := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	misses := func(s *Snapshot, i int, icmp, tcp string, nodes ...string) {
		st := &s.NodeNetworks[i].Status
		st.UnreachedPeers = int32(len(nodes))
		for _, n := range nodes {
			st.Unreached = append(st.Unreached, v1alpha1.UnreachedPeer{Node: n, Address: "10.0.0.1", ICMP: icmp, TCP: tcp, Since: since})
		}
	}
	for _, tc := range []struct {
		name     string
		change   func(*Snapshot)
		state    State
		detail   string
		warnings []string
	}{
		{"well", func(*Snapshot) {}, OK, "4/4 nodes reachable", nil},
		{"off", func(s *Snapshot) { s.HealthChecking = false }, Disabled, "", nil},
		{"a closed port", func(s *Snapshot) {
			misses(s, 0, "ok", "timed out", "node-3")
			misses(s, 2, "ok", "timed out", "node-3")
		}, Failed, "3/4 nodes reachable", []string{"node node-3: is not reached from node-0, node-2 since 2026-01-02 03:04:05 UTC (ICMP: ok, TCP 4240: timed out) -> the nodes' security groups must allow TCP port 4240"}},
		{"cut off", func(s *Snapshot) {
			misses(s, 0, "timed out", "timed out", "node-1", "node-2", "node-3")
			misses(s, 1, "timed out", "timed out", "node-0")
		}, Failed, "3/4 nodes reachable", []string{"node node-0: reaches none of 3 other nodes -> is the node down?"}},
		{"down", func(s *Snapshot) {
			misses(s, 0, "timed out", "timed out", "node-3")
			misses(s, 3, "timed out", "timed out", "node-1") // said before it went
			s.Nodes[3].Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
		}, Failed, "3/4 nodes reachable", []string{"node node-3: is not reached", "NotReady"}},
		{"a node that is deleted", func(s *Snapshot) { misses(s, 0, "timed out", "timed out", "gone") }, OK, "4/4 nodes reachable", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := healthy(4)
			s.HealthChecking = true
			for i := range s.NodeNetworks {
				s.NodeNetworks[i].Status.AgentVersion = "v1"
			}
			tc.change(&s)
			r := Evaluate(s)
			var c Component
			for _, one := range r.Components {
				if one.Name == nodeHealth {
					c = one
				}
			}
			if c.State != tc.state || c.Detail != tc.detail {
				t.Errorf("component is %+v, expected %s (%s)", c, tc.state, tc.detail)
			}
			var lines []string
			for _, w := range r.Warnings {
				if strings.Contains(w.What, "reach") {
					lines = append(lines, w.Line())
				}
			}
			if all := strings.Join(lines, "\n"); tc.warnings == nil && all != "" {
				t.Errorf("warns: %s", all)
			} else {
				for _, w := range tc.warnings {
					if !strings.Contains(all, w) {
						t.Errorf("warnings are %q, expected %q", all, w)
					}
				}
			}
			if tc.warnings != nil && len(lines) != 1 {
				t.Errorf("%d warnings: %q", len(lines), lines)
			}
		})
	}
}
