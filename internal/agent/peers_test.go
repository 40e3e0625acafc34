package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/nodehealth"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// TestPeers has the router for a node whose agent isn't there: it is seen in the API and in the status, and
// this node answers.
func TestPeers(t *testing.T) {
	r := newRig(t)
	r.conf.NodeHealth.Interval = metav1.Duration{Duration: time.Second}
	r.conf.NodeHealth.Timeout = metav1.Duration{Duration: 500 * time.Millisecond}
	r.cluster.setPeers(nodehealth.Peer{Node: "other", Addr: netip.MustParseAddr("10.20.0.1")})
	r.start()
	var report nodehealth.Report
	nstest.Eventually(t, 30*time.Second, "the other node counts as not reached", func() error {
		var b bytes.Buffer
		if err := agentapi.NewClient(paths{run: r.dir + "/run"}.api()).Get(t.Context(), "/v1/peers", &b); err != nil {
			return err
		}
		report = nodehealth.Report{}
		if err := json.Unmarshal(b.Bytes(), &report); err != nil {
			return err
		}
		if len(report.Peers) != 1 || report.Peers[0].TCP.Outcome != nodehealth.Refused || report.Peers[0].ICMP.Outcome != nodehealth.OK {
			return fmt.Errorf("%s", b.Bytes())
		}
		return nil
	})
	nstest.Eventually(t, 10*time.Second, "the status says so", func() error {
		r.cluster.mu.Lock()
		defer r.cluster.mu.Unlock()
		if s := r.cluster.status; s.UnreachedPeers != 1 || len(s.Unreached) != 1 || s.Unreached[0].Node != "other" || s.Unreached[0].TCP != "refused" {
			return fmt.Errorf("%d %+v", s.UnreachedPeers, s.Unreached)
		}
		return nil
	})
	resp, err := http.Get(fmt.Sprintf("http://%s:4240/", report.Address))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "ok\n" {
		t.Errorf("answer is %q, %v", b, err)
	}
}

func TestPeerOf(t *testing.T) {
	now := metav1.Now()
	whole := v1alpha1.NodeNetwork{
		Spec:   v1alpha1.NodeNetworkSpec{Interfaces: []v1alpha1.Interface{{DeviceIndex: 1, PrimaryAddress: "10.0.0.9"}, {PrimaryAddress: "10.0.0.5", Addresses: []v1alpha1.Address{{Address: "10.0.0.6"}}}}},
		Status: v1alpha1.NodeNetworkStatus{AgentVersion: "v1", UsedAddresses: []v1alpha1.UsedAddress{{Address: "10.0.0.6"}}},
	}
	for _, tc := range []struct {
		name   string
		change func(*v1alpha1.NodeNetwork)
		want   string
	}{
		{"whole", func(*v1alpha1.NodeNetwork) {}, "10.0.0.5"},
		{"never had an agent", func(n *v1alpha1.NodeNetwork) { n.Status.AgentVersion = "" }, ""},
		{"being deleted", func(n *v1alpha1.NodeNetwork) { n.DeletionTimestamp = &now }, ""},
		{"no interfaces yet", func(n *v1alpha1.NodeNetwork) { n.Spec.Interfaces = nil }, ""},
		{"no address", func(n *v1alpha1.NodeNetwork) { n.Spec.Interfaces[1].PrimaryAddress = "x" }, ""},
	} {
		n := whole.DeepCopy()
		tc.change(n)
		for _, one := range []*v1alpha1.NodeNetwork{n, stripPeer(n)} {
			addr, ok := peerOf(one)
			if got := strings.TrimPrefix(addr.String(), "invalid IP"); ok != (tc.want != "") || ok && got != tc.want {
				t.Errorf("%s: %q, %v, expected %q", tc.name, got, ok, tc.want)
			}
		}
		if s := stripPeer(n); len(s.Status.UsedAddresses) > 0 || len(s.Spec.Interfaces) > 1 {
			t.Errorf("%s: stripped, it still has %+v", tc.name, s)
		}
	}
}
