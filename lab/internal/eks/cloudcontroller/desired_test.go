package cloudcontroller

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func running() Instance {
	return Instance{
		ProviderID: "aws:///us-west-2a/i-0a", State: Running, Type: "m5.large",
		InternalIPs: []netip.Addr{netip.MustParseAddr("192.168.1.10")}, ExternalIP: netip.MustParseAddr("203.0.113.7"),
		PrivateDNS: "ip-192-168-1-10.us-west-2.compute.internal", PublicDNS: "ec2-203-0-113-7.us-west-2.compute.amazonaws.com",
		Region: "us-west-2", Zone: "us-west-2a", ZoneID: "usw2-az1",
	}
}

func with(change func(*Instance)) Instance {
	i := running()
	change(&i)
	return i
}

// registered is a node as a kubelet with an external cloud provider registers it.
func registered() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "ip-192-168-1-10.us-west-2.compute.internal", UID: "1", Labels: map[string]string{"own": "label"}},
		Spec: corev1.NodeSpec{
			ProviderID: "aws:///us-west-2a/i-0a",
			Taints: []corev1.Taint{
				{Key: "node.cloudprovider.kubernetes.io/uninitialized", Value: "true", Effect: corev1.TaintEffectNoSchedule},
				{Key: "node.cilium.io/agent-not-ready", Value: "true", Effect: corev1.TaintEffectNoExecute},
			},
		},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.1.10"}}},
	}
}

func TestDesired(t *testing.T) {
	got, status, rest := desired(registered(), running())
	if !status || !rest {
		t.Errorf("a node just registered: status %t, rest %t; expected both to change", status, rest)
	}
	want := registered()
	want.Labels = map[string]string{
		"own": "label", "topology.kubernetes.io/region": "us-west-2", "topology.kubernetes.io/zone": "us-west-2a",
		"node.kubernetes.io/instance-type": "m5.large", "topology.k8s.aws/zone-id": "usw2-az1",
		"failure-domain.beta.kubernetes.io/region": "us-west-2", "failure-domain.beta.kubernetes.io/zone": "us-west-2a",
		"beta.kubernetes.io/instance-type": "m5.large",
	}
	want.Spec.Taints = want.Spec.Taints[1:]
	want.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: "192.168.1.10"},
		{Type: corev1.NodeExternalIP, Address: "203.0.113.7"},
		{Type: corev1.NodeInternalDNS, Address: "ip-192-168-1-10.us-west-2.compute.internal"},
		{Type: corev1.NodeHostName, Address: "ip-192-168-1-10.us-west-2.compute.internal"},
		{Type: corev1.NodeExternalDNS, Address: "ec2-203-0-113-7.us-west-2.compute.amazonaws.com"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("node (-want +got):\n%s", d)
	}
	if _, status, rest := desired(got, running()); status || rest {
		t.Errorf("a second time: status %t, rest %t; expected no change", status, rest)
	}
}

func TestDesiredChanges(t *testing.T) {
	done, _, _ := desired(registered(), running())
	for name, tt := range map[string]struct {
		node         func(*corev1.Node)
		instance     Instance
		status, rest bool
		check        func(*corev1.Node) bool
	}{
		"public address taken away": {
			instance: with(func(i *Instance) { i.ExternalIP, i.PublicDNS = netip.Addr{}, "" }), status: true,
			check: func(n *corev1.Node) bool { return len(n.Status.Addresses) == 3 },
		},
		"pods' addresses are not the node's": {
			node:     func(n *corev1.Node) { n.Annotations = map[string]string{nodeIP: "192.168.1.10"} },
			instance: with(func(i *Instance) { i.InternalIPs = append(i.InternalIPs, netip.MustParseAddr("192.168.1.99")) }),
			check:    func(n *corev1.Node) bool { return len(n.Status.Addresses) == 5 },
		},
		"a node ip that the instance hasn't": {
			node:     func(n *corev1.Node) { n.Annotations = map[string]string{nodeIP: "10.0.0.1"} },
			instance: with(func(i *Instance) { i.InternalIPs = append(i.InternalIPs, netip.MustParseAddr("192.168.1.99")) }),
			status:   true,
			check:    func(n *corev1.Node) bool { return len(n.Status.Addresses) == 6 },
		},
		"cloud knows no address": {
			instance: with(func(i *Instance) {
				i.InternalIPs, i.ExternalIP, i.PrivateDNS, i.PublicDNS = nil, netip.Addr{}, "", ""
			}),
			check: func(n *corev1.Node) bool { return len(n.Status.Addresses) == 5 },
		},
		"no provider id yet": {
			node: func(n *corev1.Node) { n.Spec.ProviderID = "" }, instance: running(), rest: true,
			check: func(n *corev1.Node) bool { return n.Spec.ProviderID == "aws:///us-west-2a/i-0a" },
		},
		"another provider id is left": {
			node: func(n *corev1.Node) { n.Spec.ProviderID = "aws:///x/i-1" }, instance: running(),
			check: func(n *corev1.Node) bool { return n.Spec.ProviderID == "aws:///x/i-1" },
		},
		"label changed by someone": {
			node: func(n *corev1.Node) { n.Labels["topology.kubernetes.io/zone"] = "elsewhere" }, instance: running(), rest: true,
			check: func(n *corev1.Node) bool { return n.Labels["topology.kubernetes.io/zone"] == "us-west-2a" },
		},
		"no labels at all": {
			node: func(n *corev1.Node) { n.Labels = nil }, instance: running(), rest: true,
			check: func(n *corev1.Node) bool { return len(n.Labels) == 7 },
		},
		"unknown zone id makes no empty label": {
			node: func(n *corev1.Node) { delete(n.Labels, "topology.k8s.aws/zone-id") }, instance: with(func(i *Instance) { i.ZoneID = "" }),
			check: func(n *corev1.Node) bool { _, has := n.Labels["topology.k8s.aws/zone-id"]; return !has },
		},
		"stopped": {
			instance: with(func(i *Instance) { i.State = Stopped }), rest: true,
			check: func(n *corev1.Node) bool { return len(n.Spec.Taints) == 2 && n.Spec.Taints[1].Key == shutdown },
		},
		"started again": {
			node:     func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: shutdown}) },
			instance: running(), rest: true,
			check: func(n *corev1.Node) bool { return len(n.Spec.Taints) == 1 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			node := done.DeepCopy()
			if tt.node != nil {
				tt.node(node)
			}
			got, status, rest := desired(node, tt.instance)
			if status != tt.status || rest != tt.rest {
				t.Errorf("status %t, rest %t; expected %t, %t", status, rest, tt.status, tt.rest)
			}
			if !tt.check(got) {
				t.Errorf("node is %+v", got)
			}
			if _, status, rest := desired(got, tt.instance); status || rest {
				t.Errorf("a second time changes it again: status %t, rest %t", status, rest)
			}
		})
	}
}
