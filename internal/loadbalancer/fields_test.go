package loadbalancer

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

func told(problems []Problem) string {
	var out []string
	for _, p := range problems {
		out = append(out, p.String())
	}
	return strings.Join(out, "\n")
}

// north is a service of every kind.
func north(change func(*corev1.Service)) *corev1.Service {
	return service(func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		s.Spec.Ports[0].NodePort = 30080
		s.Spec.ExternalIPs = []string{"203.0.113.9"}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}, {Hostname: "lb.example.com"}}
		if change != nil {
			change(s)
		}
	})
}

func TestSettings(t *testing.T) {
	for name, test := range map[string]struct {
		settings Settings
		service  *corev1.Service
		want     []string
		problems []string // parts of the text
	}{
		"beside kube-proxy": {want: []string{"172.20.0.10:80/TCP ClusterIP"}},
		"in its place": {settings: Settings{NorthSouth: true}, want: []string{"172.20.0.10:80/TCP ClusterIP",
			"0.0.0.0:30080/TCP NodePort outside", "203.0.113.1:80/TCP LoadBalancer outside", "203.0.113.9:80/TCP ExternalIP outside"}},
		"ClusterIPs from outside": {settings: Settings{ClusterIPOutside: true}, want: []string{"172.20.0.10:80/TCP ClusterIP outside"}},
		"without this and that": {settings: Settings{NorthSouth: true, WithoutNodePorts: true, WithoutExternalIPs: true},
			want: []string{"172.20.0.10:80/TCP ClusterIP", "203.0.113.1:80/TCP LoadBalancer outside"}},
		"node ports at some addresses": {settings: Settings{NorthSouth: true, NodePortAddresses: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")}},
			service: north(func(s *corev1.Service) { s.Spec.ExternalIPs, s.Status.LoadBalancer.Ingress = nil, nil }),
			want:    []string{"172.20.0.10:80/TCP ClusterIP", "10.0.1.5:30080/TCP NodePort outside"}},
		"local": {settings: Settings{NorthSouth: true},
			service: north(func(s *corev1.Service) {
				s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
				s.Spec.ExternalIPs, s.Status.LoadBalancer.Ingress = nil, nil
			}),
			want: []string{"172.20.0.10:80/TCP ClusterIP", "0.0.0.0:30080/TCP NodePort own", "0.0.0.0:30080/TCP from outside NodePort outside"}},
		"one address twice": {settings: Settings{NorthSouth: true, WithoutNodePorts: true},
			service: north(func(s *corev1.Service) {
				s.Spec.ExternalIPs = []string{"203.0.113.1", "172.20.0.10", "203.0.113.1"}
			}),
			want: []string{"172.20.0.10:80/TCP ClusterIP", "203.0.113.1:80/TCP LoadBalancer outside"}},
		"addresses that are everybody's, and none": {settings: Settings{NorthSouth: true, WithoutNodePorts: true},
			service: north(func(s *corev1.Service) {
				s.Spec.ExternalIPs = []string{"127.0.0.1", "169.254.169.254", "224.0.0.1", "x", "::ffff:203.0.113.7"}
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "::1"}, {IP: "0.0.0.0"}}
			}),
			want:     []string{"172.20.0.10:80/TCP ClusterIP", "203.0.113.7:80/TCP ExternalIP outside"},
			problems: []string{"127.0.0.1", "169.254.169.254", "224.0.0.1", `"x"`, "::1", "0.0.0.0"}},
		"a family without ClusterIP": {settings: Settings{NorthSouth: true, WithoutNodePorts: true},
			service: north(func(s *corev1.Service) {
				s.Spec.ExternalIPs = []string{"2001:db8::1"}
				s.Status = corev1.ServiceStatus{}
			}),
			want: []string{"172.20.0.10:80/TCP ClusterIP"}, problems: []string{"2001:db8::1 isn't served: the service has no ClusterIP of its family"}},
		"ports that are none": {settings: Settings{NorthSouth: true},
			service: north(func(s *corev1.Service) {
				s.Spec.ExternalIPs, s.Status = nil, corev1.ServiceStatus{}
				s.Spec.Ports = []corev1.ServicePort{{Port: 0}, {Port: 70000}, {Port: -1}, {Port: 80, NodePort: 70000}, {Port: 81, NodePort: -5}, {Port: 82, Protocol: "ICMP"}}
			}),
			want:     []string{"172.20.0.10:80/TCP ClusterIP", "172.20.0.10:81/TCP ClusterIP"},
			problems: []string{"port 0 isn't served", "port 70000", "port -1", "node port 70000", "node port -5", `"ICMP"`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := test.service
			if s == nil {
				s = north(nil)
			}
			n := here
			n.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("10.0.1.5"), netip.MustParseAddr("fd00:3::5")}
			n.Settings = test.settings
			frontends, problems := resolve(n, s, nil)
			var got []string
			for _, f := range frontends {
				text := f.Key().String() + " " + f.Kind.String()
				if f.Outside {
					text += " outside"
				}
				if f.OutsideOwn {
					text += " own"
				}
				got = append(got, text)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("frontends\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			for _, part := range test.problems {
				if !strings.Contains(told(problems), part) {
					t.Errorf("nothing is told of %s:\n%s", part, told(problems))
				}
			}
			if len(problems) != len(test.problems) {
				t.Errorf("%d problems, expected %d:\n%s", len(problems), len(test.problems), told(problems))
			}
		})
	}
}

func TestSourceRanges(t *testing.T) {
	n := here
	n.Settings.NorthSouth = true
	n.Addresses = []netip.Addr{netip.MustParseAddr("10.1.0.5")}
	for name, test := range map[string]struct {
		ranges     []string
		restricted bool
		want       string
		host       bool
		problem    string
	}{
		"none": {},
		"some, of one family": {ranges: []string{" 192.0.2.0/24 ", "10.1.0.7/16", "10.1.0.0/16", "2001:db8::/32"}, restricted: true,
			want: "[10.1.0.0/16 192.0.2.0/24]", host: true},
		"of the other family": {ranges: []string{"2001:db8::/32"}, restricted: true, want: "[]"},
		"nonsense":            {ranges: []string{"everybody"}, restricted: true, want: "[]", problem: "everybody"},
	} {
		t.Run(name, func(t *testing.T) {
			s := north(func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = test.ranges })
			frontends, problems := resolve(n, s, nil)
			for _, f := range frontends {
				if f.Kind != LoadBalancer {
					if f.Restricted || f.Ranges != nil {
						t.Errorf("%s at %s is restricted, expected the load balancer's address alone to be", f.Kind, f.Address)
					}
					continue
				}
				got := strings.ReplaceAll(strings.TrimSpace(strings.Trim(strings.Join(texts(f.Ranges), " "), " ")), "  ", " ")
				if f.Restricted != test.restricted || "["+got+"]" != orBrackets(test.want) || f.HostAllowed != test.host {
					t.Errorf("restricted %v to %v, the host allowed %v; expected %v, %s, %v", f.Restricted, f.Ranges, f.HostAllowed, test.restricted, test.want, test.host)
				}
			}
			if !strings.Contains(told(problems), test.problem) || (test.problem == "") != (len(problems) == 0) {
				t.Errorf("told is %q, expected %q", told(problems), test.problem)
			}
		})
	}
}

func texts(ps []netip.Prefix) []string {
	var out []string
	for _, p := range ps {
		out = append(out, p.String())
	}
	return out
}

func orBrackets(s string) string {
	if s == "" {
		return "[]"
	}
	return s
}

func TestAlgorithm(t *testing.T) {
	for name, test := range map[string]struct {
		annotations map[string]string
		settings    Settings
		maglev      bool
		problem     string
	}{
		"none":                 {},
		"the node's":           {settings: Settings{Maglev: true}, maglev: true},
		"the service's":        {annotations: map[string]string{AnnotationAlgorithm: "maglev"}, maglev: true},
		"Cilium's":             {annotations: map[string]string{AnnotationAlgorithmCilium: "maglev"}, maglev: true},
		"ours first":           {annotations: map[string]string{AnnotationAlgorithm: "random", AnnotationAlgorithmCilium: "maglev"}},
		"back to random":       {annotations: map[string]string{AnnotationAlgorithm: "random"}, settings: Settings{Maglev: true}},
		"nonsense, the node's": {annotations: map[string]string{AnnotationAlgorithm: "best"}, settings: Settings{Maglev: true}, maglev: true, problem: "best"},
		"least connections":    {annotations: map[string]string{AnnotationAlgorithm: "least-connections"}, problem: "no node knows"},
	} {
		t.Run(name, func(t *testing.T) {
			n := here
			n.Settings = test.settings
			frontends, problems := resolve(n, service(func(s *corev1.Service) { s.Annotations = test.annotations }), nil)
			if frontends[0].Maglev != test.maglev || !strings.Contains(told(problems), test.problem) || (test.problem == "") != (len(problems) == 0) {
				t.Errorf("maglev %v, told %q; expected %v, %q", frontends[0].Maglev, told(problems), test.maglev, test.problem)
			}
		})
	}
}

// What the settings take away is away.
func TestWithout(t *testing.T) {
	n := here
	n.Settings = Settings{Silent: true, WithoutAffinity: true, WithoutHints: true}
	s := service(func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
	f := Resolve(n, s, nil)[0]
	if f.Refuse || f.Affinity != 0 {
		t.Errorf("frontend %+v, expected neither refusal nor affinity", f)
	}
	f = Resolve(n, s, []*discoveryv1.EndpointSlice{endpointSlice("a", 8080, endpoint("10.0.0.1", forZones("a")), endpoint("10.0.0.2", forZones("b")))})[0]
	if len(f.Backends) != 2 {
		t.Errorf("backends %v, expected both: hints aren't followed", f.Backends)
	}
}

func TestHealthCheck(t *testing.T) {
	n := here
	n.Settings.NorthSouth = true
	checked := func(change func(*corev1.Service)) *corev1.Service {
		return north(func(s *corev1.Service) {
			s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 31000
			if change != nil {
				change(s)
			}
		})
	}
	v6 := endpointSlice("v6", 8080, endpoint("fd00::1", on("n1")))
	v6.AddressType = discoveryv1.AddressTypeIPv6
	endpoints := []*discoveryv1.EndpointSlice{
		endpointSlice("a", 8080, endpoint("10.0.0.1", on("n1")), endpoint("10.0.0.2", on("n1"), ready(false)), endpoint("10.0.0.3", on("n2")), endpoint("10.0.0.4")),
		endpointSlice("b", 9090, endpoint("10.0.0.1", on("n1")), endpoint("10.0.0.5", on("n1")), endpoint("10.0.0.6", on("n1"), terminating(true))), v6}
	if got := healthCheck(n, checked(nil), endpoints); got == nil || *got != (HealthCheck{Port: 31000, Local: 2}) {
		t.Errorf("health check %+v, expected 2 local endpoints at 31000", got)
	}
	if got := healthCheck(n, checked(nil), nil); got == nil || got.Local != 0 {
		t.Errorf("health check %+v, expected one without local endpoints", got)
	}
	for name, s := range map[string]*corev1.Service{
		"no port":    checked(func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 0 }),
		"cluster":    checked(func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = "" }),
		"node port":  checked(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }),
		"another's":  checked(func(s *corev1.Service) { s.Labels = map[string]string{LabelOtherProxy: "x"} }),
		"port 70000": checked(func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 70000 }),
	} {
		if got := healthCheck(n, s, endpoints); got != nil {
			t.Errorf("%s: health check %+v, expected none", name, got)
		}
	}
	if got := healthCheck(here, checked(nil), endpoints); got != nil {
		t.Errorf("health check %+v beside kube-proxy, which answers at the port", got)
	}
}
