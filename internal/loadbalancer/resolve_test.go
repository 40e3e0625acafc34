package loadbalancer

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func ptr[T any](v T) *T { return &v }

func addrPorts(texts ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range texts {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

var here = Node{Name: "n1", Zone: "a"}

func service(change func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "172.20.0.10", ClusterIPs: []string{"172.20.0.10"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}},
	}
	if change != nil {
		change(s)
	}
	return s
}

func endpointSlice(name string, port int32, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints,
		Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(port), Protocol: ptr(corev1.ProtocolTCP)}},
	}
}

type state func(*discoveryv1.Endpoint)

func ready(v bool) state { return func(e *discoveryv1.Endpoint) { e.Conditions.Ready = &v } }

func terminating(serving bool) state {
	return func(e *discoveryv1.Endpoint) {
		e.Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: &serving, Terminating: ptr(true)}
	}
}

func on(node string) state { return func(e *discoveryv1.Endpoint) { e.NodeName = &node } }

func forZones(zones ...string) state {
	return func(e *discoveryv1.Endpoint) {
		if e.Hints == nil {
			e.Hints = &discoveryv1.EndpointHints{}
		}
		for _, z := range zones {
			e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: z})
		}
	}
}

func forNodes(nodes ...string) state {
	return func(e *discoveryv1.Endpoint) {
		if e.Hints == nil {
			e.Hints = &discoveryv1.EndpointHints{}
		}
		for _, n := range nodes {
			e.Hints.ForNodes = append(e.Hints.ForNodes, discoveryv1.ForNode{Name: n})
		}
	}
}

func endpoint(addr string, states ...state) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{addr}}
	for _, s := range states {
		s(&e)
	}
	return e
}

func TestResolve(t *testing.T) {
	local := corev1.ServiceInternalTrafficPolicyLocal
	for name, test := range map[string]struct {
		service *corev1.Service
		slices  []*discoveryv1.EndpointSlice
		want    []netip.AddrPort
		refuse  bool
		none    bool // no frontend at all
	}{
		"ready ones, unknown is ready": {slices: []*discoveryv1.EndpointSlice{
			endpointSlice("a", 8080, endpoint("10.0.0.2"), endpoint("10.0.0.1", ready(true)), endpoint("10.0.0.3", ready(false)))},
			want: addrPorts("10.0.0.1:8080", "10.0.0.2:8080")},
		"a named port with two numbers": {slices: []*discoveryv1.EndpointSlice{
			endpointSlice("a", 8080, endpoint("10.0.0.1")), endpointSlice("b", 9090, endpoint("10.0.0.2"))},
			want: addrPorts("10.0.0.1:8080", "10.0.0.2:9090")},
		"an endpoint in two slices": {slices: []*discoveryv1.EndpointSlice{
			endpointSlice("a", 8080, endpoint("10.0.0.1")), endpointSlice("b", 8080, endpoint("10.0.0.1"))},
			want: addrPorts("10.0.0.1:8080")},
		"nobody":          {refuse: true},
		"nobody is ready": {slices: []*discoveryv1.EndpointSlice{endpointSlice("a", 8080, endpoint("10.0.0.1", ready(false)))}, refuse: true},
		"those that are going, as the last resort": {slices: []*discoveryv1.EndpointSlice{
			endpointSlice("a", 8080, endpoint("10.0.0.1", terminating(true)), endpoint("10.0.0.2", terminating(false)))},
			want: addrPorts("10.0.0.1:8080")},
		"not while one is ready": {slices: []*discoveryv1.EndpointSlice{
			endpointSlice("a", 8080, endpoint("10.0.0.1", terminating(true)), endpoint("10.0.0.2"))},
			want: addrPorts("10.0.0.2:8080")},
		"local": {service: service(func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local }),
			slices: []*discoveryv1.EndpointSlice{endpointSlice("a", 8080, endpoint("10.0.0.1", on("n1")), endpoint("10.0.0.2", on("n2")), endpoint("10.0.0.3"))},
			want:   addrPorts("10.0.0.1:8080")},
		"local, here only one that is going": {service: service(func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local }),
			slices: []*discoveryv1.EndpointSlice{endpointSlice("a", 8080, endpoint("10.0.0.1", terminating(true), on("n1")), endpoint("10.0.0.2", on("n2")))},
			want:   addrPorts("10.0.0.1:8080")},
		"local and none here: not refused": {service: service(func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = &local }),
			slices: []*discoveryv1.EndpointSlice{endpointSlice("a", 8080, endpoint("10.0.0.2", on("n2")))}},
		"the zone's": {slices: []*discoveryv1.EndpointSlice{
			endpointSlice("a", 8080, endpoint("10.0.0.1", forZones("a")), endpoint("10.0.0.2", forZones("b")), endpoint("10.0.0.3", forZones("b", "a")))},
			want: addrPorts("10.0.0.1:8080", "10.0.0.3:8080")},
		"one without a hint: all": {slices: []*discoveryv1.EndpointSlice{
			endpointSlice("a", 8080, endpoint("10.0.0.1", forZones("a")), endpoint("10.0.0.2"))},
			want: addrPorts("10.0.0.1:8080", "10.0.0.2:8080")},
		"no hint for this zone: all": {slices: []*discoveryv1.EndpointSlice{
			endpointSlice("a", 8080, endpoint("10.0.0.1", forZones("b")), endpoint("10.0.0.2", forZones("c")))},
			want: addrPorts("10.0.0.1:8080", "10.0.0.2:8080")},
		"the node's before the zone's": {slices: []*discoveryv1.EndpointSlice{
			endpointSlice("a", 8080, endpoint("10.0.0.1", forZones("a"), forNodes("n1")), endpoint("10.0.0.2", forZones("a"), forNodes("n2")))},
			want: addrPorts("10.0.0.1:8080")},
		"none on the node: the zone's": {slices: []*discoveryv1.EndpointSlice{
			endpointSlice("a", 8080, endpoint("10.0.0.1", forZones("a"), forNodes("n3")), endpoint("10.0.0.2", forZones("b"), forNodes("n2")))},
			want: addrPorts("10.0.0.1:8080")},
		"hints of those that aren't ready don't count": {slices: []*discoveryv1.EndpointSlice{
			endpointSlice("a", 8080, endpoint("10.0.0.1", forZones("a")), endpoint("10.0.0.2", ready(false)))},
			want: addrPorts("10.0.0.1:8080")},
		"headless":       {service: service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} }), none: true},
		"by name":        {service: service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), none: true},
		"no address yet": {service: service(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil }), none: true},
		"another proxy's": {service: service(func(s *corev1.Service) { s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "x"} }),
			none: true},
		"labelled headless":   {service: service(func(s *corev1.Service) { s.Labels = map[string]string{"service.kubernetes.io/headless": ""} }), none: true},
		"a port that is none": {service: service(func(s *corev1.Service) { s.Spec.Ports[0].Port = 70000 }), none: true},
		"other family, other protocol, no number, no address, hostile ones": {slices: []*discoveryv1.EndpointSlice{
			{AddressType: discoveryv1.AddressTypeIPv6, Endpoints: []discoveryv1.Endpoint{endpoint("fd00::1")}, Ports: endpointSlice("", 1).Ports},
			{AddressType: discoveryv1.AddressTypeFQDN, Endpoints: []discoveryv1.Endpoint{endpoint("example.com")}, Ports: endpointSlice("", 1).Ports},
			{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{endpoint("10.0.0.1")},
				Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(1)), Protocol: ptr(corev1.ProtocolUDP)}}},
			{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{endpoint("10.0.0.1")}, Ports: []discoveryv1.EndpointPort{{Name: ptr("http")}}},
			{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{}, endpoint("nonsense"), endpoint("fd00::2"), endpoint("fe80::1%eth0")},
				Ports: endpointSlice("", 1).Ports},
			endpointSlice("bad", 70000, endpoint("10.0.0.9"))},
			refuse: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := test.service
			if s == nil {
				s = service(nil)
			}
			got := Resolve(here, s, test.slices)
			if test.none {
				if len(got) > 0 {
					t.Fatalf("frontends %v, expected none", got)
				}
				return
			}
			if len(got) != 1 {
				t.Fatalf("frontends %v, expected one", got)
			}
			if !slices.Equal(got[0].Backends, test.want) || got[0].Refuse != test.refuse {
				t.Errorf("backends %v, refuse %v; expected %v, %v", got[0].Backends, got[0].Refuse, test.want, test.refuse)
			}
		})
	}
}

func TestResolveFields(t *testing.T) {
	s := service(func(s *corev1.Service) {
		s.Spec.ClusterIPs = []string{"172.20.0.10", "fd00:1::10"}
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP})
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	})
	var got []string
	for _, f := range Resolve(here, s, nil) {
		if f.Affinity != 3*time.Hour || f.Service != (Name{"default", "web"}) {
			t.Errorf("frontend %+v, expected three hours' affinity, the API's default", f)
		}
		got = append(got, f.Address.String()+" "+f.Port)
	}
	want := []string{"172.20.0.10:80/TCP http", "172.20.0.10:53/UDP dns", "[fd00:1::10]:80/TCP http", "[fd00:1::10]:53/UDP dns"}
	if !slices.Equal(got, want) {
		t.Errorf("frontends %v, expected %v", got, want)
	}
	s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(10))}}
	if f := Resolve(here, s, nil)[0]; f.Affinity != 10*time.Second {
		t.Errorf("affinity %s, expected 10s", f.Affinity)
	}
}
