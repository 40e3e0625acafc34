// Package cloudcontroller is EKS's cloud controller manager: it tells Kubernetes what the cloud knows of its
// nodes.
package cloudcontroller

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// State is where an instance is in its life.
type State string

// The states that matter to a node.
const (
	Running    State = "running"
	Stopped    State = "stopped"
	Terminated State = "terminated"
)

// Instance is what the cloud knows of a node.
type Instance struct {
	// ProviderID is aws:///ZONE/ID.
	ProviderID string
	State      State
	// InternalIPs are the private addresses, the first interface's primary one first.
	InternalIPs []netip.Addr
	// ExternalIP is the public address, if it has one.
	ExternalIP            netip.Addr
	PrivateDNS, PublicDNS string
	Type                  string // m5.large
	Region, Zone, ZoneID  string // us-west-2, us-west-2a, usw2-az1
}

// uninitialized is the taint that a kubelet with an external cloud provider registers with.
const uninitialized = "node.cloudprovider.kubernetes.io/uninitialized"

// shutdown is the taint of a node whose instance is stopped.
const shutdown = "node.cloudprovider.kubernetes.io/shutdown"

// nodeIP is where a kubelet puts the --node-ip that it was given.
const nodeIP = "alpha.kubernetes.io/provided-node-ip"

// addresses are in the order of AWS's provider. An instance has many private addresses, pods' among them; the
// node's internal one is what its kubelet was told, as in Kubernetes' own node controller.
func addresses(i Instance, provided string) []corev1.NodeAddress {
	var out []corev1.NodeAddress
	add := func(kind corev1.NodeAddressType, address string) {
		if address != "" {
			out = append(out, corev1.NodeAddress{Type: kind, Address: address})
		}
	}
	told, _ := netip.ParseAddr(provided) // invalid, and so in no list, if it is none
	only := slices.Contains(i.InternalIPs, told)
	for _, ip := range i.InternalIPs {
		if only && ip != told {
			continue
		}
		add(corev1.NodeInternalIP, ip.String())
	}
	if i.ExternalIP.IsValid() {
		add(corev1.NodeExternalIP, i.ExternalIP.String())
	}
	add(corev1.NodeInternalDNS, i.PrivateDNS)
	add(corev1.NodeHostName, i.PrivateDNS)
	add(corev1.NodeExternalDNS, i.PublicDNS)
	return out
}

// labels are those of AWS's provider, with the names of old that EKS's nodes still carry.
func labels(i Instance) map[string]string {
	out := map[string]string{
		corev1.LabelTopologyRegion:          i.Region,
		corev1.LabelTopologyZone:            i.Zone,
		corev1.LabelInstanceTypeStable:      i.Type,
		"topology.k8s.aws/zone-id":          i.ZoneID,
		corev1.LabelFailureDomainBetaRegion: i.Region,
		corev1.LabelFailureDomainBetaZone:   i.Zone,
		corev1.LabelInstanceType:            i.Type,
	}
	maps.DeleteFunc(out, func(_, value string) bool { return value == "" })
	return out
}

// desired returns the node as it should be, and whether that differs in its status and in the rest.
func desired(node *corev1.Node, i Instance) (out *corev1.Node, status, rest bool) {
	out = node.DeepCopy()
	if want := addresses(i, out.Annotations[nodeIP]); len(want) > 0 && !slices.Equal(out.Status.Addresses, want) {
		out.Status.Addresses, status = want, true
	}
	if out.Spec.ProviderID == "" && i.ProviderID != "" { // it can be set once, and the kubelet may have
		out.Spec.ProviderID, rest = i.ProviderID, true
	}
	for key, value := range labels(i) {
		if out.Labels[key] != value {
			if out.Labels == nil {
				out.Labels = map[string]string{}
			}
			out.Labels[key], rest = value, true
		}
	}
	before := len(out.Spec.Taints)
	stopped := i.State == Stopped
	out.Spec.Taints = slices.DeleteFunc(out.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == uninitialized || t.Key == shutdown && !stopped
	})
	rest = rest || len(out.Spec.Taints) != before
	if stopped && !slices.ContainsFunc(out.Spec.Taints, func(t corev1.Taint) bool { return t.Key == shutdown }) {
		out.Spec.Taints = append(out.Spec.Taints, corev1.Taint{Key: shutdown, Effect: corev1.TaintEffectNoSchedule})
		rest = true
	}
	return out, status, rest
}

// ready reports whether the node's kubelet says so and is still heard.
func ready(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
