package loadbalancer

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Whatever a service says of itself: frontends are addresses that can be in the tables, each once, and none is what
// means something of its own on every node.
func FuzzResolve(f *testing.F) {
	f.Add("172.20.0.1", "203.0.113.1", "203.0.113.2", "192.0.2.0/24", "10.0.0.1", "maglev", int32(80), int32(30080), int32(8080), "TCP", uint8(1))
	f.Add("fd00::1", "::ffff:127.0.0.1", "169.254.169.254", "::/0", "fe80::1%eth0", "x", int32(70000), int32(-1), int32(0), "ICMP", uint8(2))
	f.Add("None", "", "0.0.0.0", " 10.0.0.0/33", "::", "", int32(0), int32(65536), int32(65535), "", uint8(3))
	f.Fuzz(func(t *testing.T, cluster, vip, external, source, backend, algorithm string, port, nodePort, target int32, protocol string, bits uint8) {
		s := service(func(s *corev1.Service) {
			s.Annotations = map[string]string{AnnotationAlgorithm: algorithm}
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Spec.ClusterIP, s.Spec.ClusterIPs = cluster, []string{cluster, external}
			s.Spec.ExternalIPs = []string{external, vip, external}
			s.Spec.LoadBalancerSourceRanges = []string{source}
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: vip}, {IP: backend}}
			p := corev1.ServicePort{Name: "http", Port: port, NodePort: nodePort, Protocol: corev1.Protocol(protocol)}
			s.Spec.Ports = []corev1.ServicePort{p, p}
			if bits&1 != 0 {
				s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			}
		})
		es := endpointSlice("a", target, endpoint(backend, on("n1")), endpoint(vip))
		es.Ports[0].Protocol = ptr(corev1.Protocol(protocol))
		if bits&2 != 0 {
			es.AddressType = discoveryv1.AddressTypeIPv6
		}
		tab := NewTable()
		tab.SetService(s)
		tab.SetSlice(Strip(es))
		for _, c := range tab.Take(outside) {
			seen := map[Key]bool{}
			if len(c.Problems) > MaxProblems {
				t.Errorf("%d problems", len(c.Problems))
			}
			for _, f := range c.Frontends {
				a := f.Address.Addr()
				if !a.IsValid() || a.Zone() != "" || a.Is4In6() || f.Address.Port() == 0 || seen[f.Key()] {
					t.Errorf("frontend %s", f.Key())
				}
				if seen[f.Key()] = true; f.Kind != NodePort && f.Kind != ClusterIP && special(a) {
					t.Errorf("%s as %s", f.Key(), f.Kind)
				}
				if !slices.Contains([]corev1.Protocol{"TCP", "UDP", "SCTP"}, f.Address.Protocol) {
					t.Errorf("protocol %s", f.Address.Protocol)
				}
				for _, b := range f.Backends {
					if !b.IsValid() || b.Port() == 0 || b.Addr().Is4() != a.Is4() {
						t.Errorf("backend %s of %s", b, f.Key())
					}
				}
				if slices.ContainsFunc(f.Ranges, func(p netip.Prefix) bool { return !p.IsValid() || p != p.Masked() }) {
					t.Errorf("ranges %v", f.Ranges)
				}
			}
		}
	})
}
