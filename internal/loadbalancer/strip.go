package loadbalancer

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Strip leaves of a slice what Resolve and a Table read, and what tells one slice from another: a node keeps every
// endpoint of the cluster.
func Strip(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{AddressType: s.AddressType, Ports: s.Ports}
	out.Namespace, out.Name, out.UID, out.ResourceVersion = s.Namespace, s.Name, s.UID, s.ResourceVersion
	if owner, ok := s.Labels[discoveryv1.LabelServiceName]; ok {
		out.Labels = map[string]string{discoveryv1.LabelServiceName: owner}
	}
	if at, ok := s.Annotations[corev1.EndpointsLastChangeTriggerTime]; ok {
		out.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: at}
	}
	pod := &corev1.ObjectReference{Kind: "Pod"} // which one doesn't matter
	for _, e := range s.Endpoints {
		kept := discoveryv1.Endpoint{Addresses: e.Addresses[:min(1, len(e.Addresses))], Conditions: e.Conditions, NodeName: e.NodeName, Hints: e.Hints}
		if isPod(&e) {
			kept.TargetRef = pod
		}
		out.Endpoints = append(out.Endpoints, kept)
	}
	return out
}

func isPod(e *discoveryv1.Endpoint) bool { return e.TargetRef != nil && e.TargetRef.Kind == "Pod" }
