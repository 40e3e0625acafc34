package operator

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/ec2"
)

func TestSurroundings(t *testing.T) {
	w := newWorld(t)
	if done, err := w.around.Sync(t.Context()); done || err != nil {
		t.Fatalf("without a node: %v, %v", done, err)
	}
	if cn := w.cluster(); cn.Spec.ClusterName != "demo" || cn.Status.StaleSince != nil {
		t.Errorf("%+v", cn)
	}
	w.addNode("n1", 1, "m5.large", "subnet-a")
	control := w.sim.AddInterface("subnet-b", "Amazon EKS demo", "", 0, nil)
	w.sim.AddInterface("subnet-b", "Amazon EKS other", "", 0, nil)
	if done, err := w.around.Sync(t.Context()); !done || err != nil {
		t.Fatalf("%v, %v", done, err)
	}
	status := w.cluster().Status
	if status.VPCID != "vpc-1" || status.Region != "us-west-2" || !slices.Equal(status.VPCCIDRs, []string{"100.64.0.0/16", "192.168.0.0/16"}) {
		t.Errorf("%+v", status)
	}
	routes := map[string]v1alpha1.SubnetRoute{}
	for _, s := range status.Subnets {
		routes[s.ID] = s.DefaultRoute
	}
	want := map[string]v1alpha1.SubnetRoute{"subnet-a": "NATGateway", "subnet-a2": "NATGateway", "subnet-apub": "InternetGateway", "subnet-b": "NATGateway"}
	if diff := cmp.Diff(want, routes); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if len(status.Peers) != 0 {
		t.Errorf("peers %v, expected none", status.Peers)
	}
	if len(status.ControlPlane) != 1 || len(status.Conditions) != 0 {
		t.Errorf("control plane %v, conditions %+v", status.ControlPlane, status.Conditions)
	}

	// A peering that comes while it runs.
	w.sim.AddRouteTable("vpc-1", ec2.RouteTable{ID: "rtb-b", Subnets: []string{"subnet-b"}, Routes: []ec2.Route{
		{Destination: "10.50.0.0/16", Target: "pcx-1", Active: true}, {Destination: "0.0.0.0/0", Target: "nat-1", Active: true}}})
	w.clock = w.clock.Add(time.Minute)
	if _, err := w.around.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if peers := w.cluster().Status.Peers; !slices.Equal(peers, []string{"10.50.0.0/16"}) {
		t.Errorf("peers are %v, expected the peering's", peers)
	}
	// Without the right to read routes what was known stands.
	w.sim.Deny(ec2.ActionDescribeRouteTables)
	w.clock = w.clock.Add(time.Minute)
	if _, err := w.around.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if peers := w.cluster().Status.Peers; len(peers) != 1 {
		t.Errorf("peers are %v without the right to read routes, expected those known", peers)
	}

	// Facts that can't be read stay, and their age is told.
	w.sim.Deny(ec2.ActionDescribeVPCs)
	w.clock = w.clock.Add(time.Minute)
	if _, err := w.around.Sync(t.Context()); err == nil {
		t.Error("no error")
	}
	since := w.cluster().Status.StaleSince
	if since == nil || len(w.cluster().Status.Subnets) != 4 {
		t.Fatalf("%+v", w.cluster().Status)
	}
	w.clock = w.clock.Add(time.Minute)
	_, _ = w.around.Sync(t.Context())
	if !w.cluster().Status.StaleSince.Equal(since) {
		t.Error("staleSince moved")
	}
	w.sim.Allow(ec2.ActionDescribeVPCs)
	if _, err := w.around.Sync(t.Context()); err != nil || w.cluster().Status.StaleSince != nil {
		t.Errorf("%v, %+v", err, w.cluster().Status.StaleSince)
	}

	// A control plane that vanishes is believed the second time.
	if err := w.sim.DeleteInterface(t.Context(), control); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1, 0} {
		if _, err := w.around.Sync(t.Context()); err != nil || len(w.cluster().Status.ControlPlane) != want {
			t.Errorf("read %d: %v, %v", i, err, w.cluster().Status.ControlPlane)
		}
	}
}

// What the guide's policy doesn't allow is named, and nothing else is wrong.
func TestGuidePolicy(t *testing.T) {
	w := newWorld(t)
	w.sim.Deny(ec2.ActionUnassignAddresses, ec2.ActionDescribeRouteTables)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	w.addPods("n1", 12)
	w.settle("n1")
	if done, err := w.around.Sync(t.Context()); !done || err != nil {
		t.Fatalf("%v, %v", done, err)
	}
	status := w.cluster().Status
	var kinds []string
	for _, c := range status.Conditions {
		kinds = append(kinds, c.Type)
		if c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "ec2:"+c.Type) {
			t.Errorf("%+v", c)
		}
	}
	slices.Sort(kinds)
	if diff := cmp.Diff([]string{"DescribeRouteTables", "UnassignPrivateIpAddresses"}, kinds); diff != "" {
		t.Errorf("features off (-want +got):\n%s", diff)
	}
	for _, s := range status.Subnets {
		if s.DefaultRoute != v1alpha1.RouteUnknown {
			t.Errorf("%+v", s)
		}
	}
	if status.StaleSince != nil {
		t.Error("facts count as stale because of an optional action")
	}
	if c := w.condition("n1"); c.Status != metav1.ConditionTrue || w.addresses("n1") != 20 {
		t.Errorf("%+v, %d addresses", c, w.addresses("n1"))
	}
	w.sim.Allow(ec2.ActionUnassignAddresses, ec2.ActionDescribeRouteTables)
	w.clock = w.clock.Add(probeInterval)
	if _, err := w.around.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := w.cluster().Status.Conditions; len(c) != 0 {
		t.Errorf("after the grant: %+v", c)
	}
}

func TestClusterNameStays(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	if _, err := w.around.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.around.Cluster = "renamed"
	if _, err := w.around.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := meta.FindStatusCondition(w.cluster().Status.Conditions, "ClusterName"); c == nil || !strings.Contains(c.Message, `installed as "demo"`) {
		t.Errorf("%+v", c)
	}
	if got, err := clusterName(t.Context(), w.client, "renamed"); got != "demo" || err != nil {
		t.Errorf("ENIs would be tagged %q, %v", got, err)
	}
}

func TestTaint(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	w.settle("n1")
	other := corev1.Taint{Key: "dedicated", Value: "db", Effect: corev1.TaintEffectNoSchedule}
	taints := func() []string {
		var n corev1.Node
		if err := w.client.Get(t.Context(), client.ObjectKey{Name: "n1"}, &n); err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, x := range n.Spec.Taints {
			out = append(out, x.Key)
		}
		return out
	}
	taint := func(more ...corev1.Taint) {
		var n corev1.Node
		if err := w.client.Get(t.Context(), client.ObjectKey{Name: "n1"}, &n); err != nil {
			t.Fatal(err)
		}
		n.Spec.Taints = append(n.Spec.Taints, more...)
		if err := w.client.Update(t.Context(), &n); err != nil {
			t.Fatal(err)
		}
	}
	reconcileTaint := func() {
		if _, err := w.taints.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: "n1"}}); err != nil {
			t.Fatal(err)
		}
	}
	ready := func(instanceID string, status metav1.ConditionStatus) {
		w.agent("n1", func(s *v1alpha1.NodeNetworkStatus) {
			s.InstanceID = instanceID
			meta.SetStatusCondition(&s.Conditions, metav1.Condition{Type: v1alpha1.ConditionReady, Status: status, Reason: "Test"})
		})
	}
	taint(other)
	start := w.cfg.AgentNotReadyTaintKey
	for _, c := range []struct {
		name     string
		instance string
		status   metav1.ConditionStatus
		gone     bool
	}{
		{"no agent", "", metav1.ConditionFalse, false},
		{"not ready", instance(1), metav1.ConditionFalse, false},
		{"ready said of another instance", instance(2), metav1.ConditionTrue, false},
		{"ready", instance(1), metav1.ConditionTrue, true},
	} {
		ready(c.instance, c.status)
		reconcileTaint()
		if gone := !slices.Contains(taints(), start); gone != c.gone {
			t.Errorf("%s: taint gone: %v", c.name, gone)
		}
	}
	taint(corev1.Taint{Key: start, Effect: corev1.TaintEffectNoExecute})
	reconcileTaint()
	if got := taints(); !slices.Equal(got, []string{"dedicated"}) {
		t.Errorf("after it came back: %v", got)
	}
}

func TestRelease(t *testing.T) {
	for _, c := range []struct {
		name   string
		denied []string
		left   int
		lines  []string
	}{
		{"everything", nil, 0, []string{"deleted eni-", "unassigned 9 addresses"}},
		{"the guide's policy", []string{ec2.ActionUnassignAddresses}, 1, []string{"deleted eni-", "not given back: 9 addresses", "ec2:UnassignPrivateIpAddresses", "they go when the instance ends"}},
		{"no detach", []string{ec2.ActionDetachInterface}, 2, []string{"not given back: eni-", "ec2:DetachNetworkInterface", "unassigned 9 addresses"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.addNode("n1", 1, "m5.large", "subnet-a")
			w.addPods("n1", 12)
			w.settle("n1")
			foreign := w.sim.AddInterface("subnet-a", "theirs", "", 0, nil)
			if _, err := w.around.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.sim.Deny(c.denied...)
			var out bytes.Buffer
			r := &Release{Client: w.client, EC2: w.sim, Cluster: "demo", Out: &out, Timeout: time.Minute, Poll: time.Millisecond, Now: func() time.Time {
				return w.clock
			}}
			w.sim.DetachDelay = 0
			left, err := r.Run(t.Context())
			if err != nil || left != c.left {
				t.Errorf("left %d, %v, want %d\n%s", left, err, c.left, out.String())
			}
			for _, l := range c.lines {
				if !strings.Contains(out.String(), l) {
					t.Errorf("%q isn't in\n%s", l, out.String())
				}
			}
			if !slices.ContainsFunc(w.sim.Interfaces(), func(e ec2.Interface) bool { return e.ID == foreign }) {
				t.Error("somebody else's ENI was deleted")
			}
			// An operator that still runs makes nothing anew.
			w.nodes.Inventory.Doubt(instance(1))
			before := len(w.sim.Mutations())
			if _, err := w.once("n1"); err != nil {
				t.Fatal(err)
			}
			if len(w.sim.Mutations()) != before {
				t.Error("the operator takes again what was given back")
			}
			w.check()
		})
	}
}
