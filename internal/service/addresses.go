package service

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

// Addresses are those at which s is reached, but for its node ports: cluster, external and load balancer
// addresses, each once. What isn't an address is left out: the API server has checked it.
func Addresses(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	add := func(text string) {
		a, err := netip.ParseAddr(text)
		if err != nil || a.IsUnspecified() || a.Zone() != "" {
			return // "None" for one
		}
		if a = a.Unmap(); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	add(s.Spec.ClusterIP)
	for _, a := range s.Spec.ClusterIPs {
		add(a)
	}
	for _, a := range s.Spec.ExternalIPs {
		add(a)
	}
	for _, i := range s.Status.LoadBalancer.Ingress {
		// An address of mode Proxy isn't served by the nodes: packets to it go to the load balancer.
		if i.IPMode == nil || *i.IPMode == corev1.LoadBalancerIPModeVIP {
			add(i.IP)
		}
	}
	return out
}

// Ranges are those that c gives addresses of services from.
func Ranges(c *networkingv1.ServiceCIDR) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range c.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// Strip leaves of s what Addresses and loadbalancer.Resolve read, and what tells one service from another: a
// node keeps every service of the cluster.
func Strip(s *corev1.Service) *corev1.Service {
	out := &corev1.Service{}
	out.Namespace, out.Name, out.UID, out.ResourceVersion = s.Namespace, s.Name, s.UID, s.ResourceVersion
	out.CreationTimestamp = s.CreationTimestamp
	for _, a := range []string{loadbalancer.AnnotationAlgorithm, loadbalancer.AnnotationAlgorithmCilium} {
		if v, ok := s.Annotations[a]; ok {
			if out.Annotations == nil {
				out.Annotations = map[string]string{}
			}
			out.Annotations[a] = v
		}
	}
	for _, l := range []string{loadbalancer.LabelOtherProxy, corev1.IsHeadlessService} {
		if v, ok := s.Labels[l]; ok {
			if out.Labels == nil {
				out.Labels = map[string]string{}
			}
			out.Labels[l] = v
		}
	}
	out.Spec.Type, out.Spec.Ports = s.Spec.Type, s.Spec.Ports
	out.Spec.SessionAffinity, out.Spec.SessionAffinityConfig = s.Spec.SessionAffinity, s.Spec.SessionAffinityConfig
	out.Spec.InternalTrafficPolicy, out.Spec.ExternalTrafficPolicy = s.Spec.InternalTrafficPolicy, s.Spec.ExternalTrafficPolicy
	out.Spec.LoadBalancerSourceRanges, out.Spec.HealthCheckNodePort = s.Spec.LoadBalancerSourceRanges, s.Spec.HealthCheckNodePort
	out.Spec.ClusterIP, out.Spec.ClusterIPs, out.Spec.ExternalIPs = s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.ExternalIPs
	for _, i := range s.Status.LoadBalancer.Ingress {
		out.Status.LoadBalancer.Ingress = append(out.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: i.IP, IPMode: i.IPMode})
	}
	return out
}
