package loadbalancer

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// A HealthCheck is what load balancers ask a node about a service whose traffic stays on the node that it comes to.
type HealthCheck struct {
	Port  uint16
	Local int // endpoints of this node that are ready
}

func healthCheck(n Node, s *corev1.Service, endpoints []*discoveryv1.EndpointSlice) *HealthCheck {
	port := s.Spec.HealthCheckNodePort
	if !n.Settings.NorthSouth || !Serves(s) || s.Spec.Type != corev1.ServiceTypeLoadBalancer ||
		s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal || port < 1 || port > 65535 {
		return nil
	}
	// A pod with addresses of both families is one.
	local := map[discoveryv1.AddressType]map[string]bool{}
	out := &HealthCheck{Port: uint16(port)}
	for _, slice := range endpoints {
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if e.NodeName == nil || *e.NodeName != n.Name || len(e.Addresses) == 0 || e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			if local[slice.AddressType] == nil {
				local[slice.AddressType] = map[string]bool{}
			}
			local[slice.AddressType][e.Addresses[0]] = true
			out.Local = max(out.Local, len(local[slice.AddressType]))
		}
	}
	return out
}
