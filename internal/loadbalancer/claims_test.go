package loadbalancer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var outside = Node{Name: "n1", Settings: Settings{NorthSouth: true}}

// state is what follows from all changes so far.
type kept map[Name]Change

func (k kept) take(t *Table, n Node) []Name {
	var names []Name
	for _, c := range t.Take(n) {
		names = append(names, c.Service)
		c.Since = time.Time{}
		if delete(k, c.Service); len(c.Frontends) > 0 || len(c.Problems) > 0 || c.Health != nil {
			k[c.Service] = c
		}
	}
	return names
}

// owner is who has the address.
func (k kept) owner(text string, p corev1.Protocol) string {
	at := Address{netip.MustParseAddrPort(text), p}
	var who []string
	for name, c := range k {
		if slices.ContainsFunc(c.Frontends, func(f Frontend) bool { return f.Address == at && f.Scope == Cluster }) {
			who = append(who, name.Name)
		}
	}
	slices.Sort(who)
	return strings.Join(who, " ")
}

func (k kept) told(name string) string { return told(k[Name{"default", name}].Problems) }

func aged(name string, seconds int, change func(*corev1.Service)) *corev1.Service {
	return service(func(s *corev1.Service) {
		s.Name, s.CreationTimestamp = name, metav1.NewTime(time.Unix(int64(seconds), 0))
		s.Spec.ClusterIP = "172.20.1." + fmt.Sprint(seconds)
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		change(s)
	})
}

func external(ips ...string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.ExternalIPs = ips }
}

func nodePort(n int32) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Ports[0].NodePort = n }
}

func TestTheOldestHasIt(t *testing.T) {
	tab, k := NewTable(), kept{}
	tab.SetService(aged("b", 20, external("203.0.113.1")))
	k.take(tab, outside)
	if got := k.owner("203.0.113.1:80", corev1.ProtocolTCP); got != "b" {
		t.Fatalf("the address has %q, expected b", got)
	}
	// Older than who has it; and one of the same age, second by name.
	tab.SetService(aged("a", 10, external("203.0.113.1")))
	tab.SetService(aged("c", 10, func(s *corev1.Service) {
		s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.ExternalIPs = "172.20.1.30", []string{"172.20.1.30"}, []string{"203.0.113.1"}
	}))
	k.take(tab, outside)
	if got := k.owner("203.0.113.1:80", corev1.ProtocolTCP); got != "a" {
		t.Errorf("the address has %q, expected a", got)
	}
	for _, loser := range []string{"b", "c"} {
		if want := "203.0.113.1:80/TCP: isn't served as ExternalIP: default/a has it as ExternalIP"; k.told(loser) != want {
			t.Errorf("of %s is told %q, expected %q", loser, k.told(loser), want)
		}
	}
	// Whom it is taken from keeps the rest, and gets it back.
	if got := k.owner("172.20.1.20:80", corev1.ProtocolTCP); got != "b" {
		t.Errorf("b's own address has %q", got)
	}
	tab.DeleteService(Name{"default", "a"})
	k.take(tab, outside)
	if got := k.owner("203.0.113.1:80", corev1.ProtocolTCP); got != "c" || k.told("c") != "" {
		t.Errorf("once a is gone the address has %q, of c is told %q; expected c", got, k.told("c"))
	}
	// A ClusterIP isn't lost to an external address, however old.
	tab.SetService(aged("thief", 1, external("172.20.1.20")))
	k.take(tab, outside)
	if got := k.owner("172.20.1.20:80", corev1.ProtocolTCP); got != "b" {
		t.Errorf("b's ClusterIP has %q", got)
	}
	if got := k.told("thief"); !strings.Contains(got, "default/b has it as ClusterIP") {
		t.Errorf("told is %q", got)
	}
}

func TestDuplicateNodePort(t *testing.T) {
	tab, k := NewTable(), kept{}
	tab.SetService(aged("old", 1, nodePort(30080)))
	tab.SetService(aged("new", 2, nodePort(30080)))
	udp := aged("udp", 3, nodePort(30080))
	udp.Spec.Ports[0].Protocol = corev1.ProtocolUDP
	tab.SetService(udp)
	tab.SetHostPorts([]HostPort{
		{Pod: Name{"default", "web"}, Port: 30080, Protocol: corev1.ProtocolTCP, Backend: netip.MustParseAddrPort("10.0.0.1:80")},
		{Pod: Name{"default", "web"}, HostIP: netip.MustParseAddr("10.9.9.9"), Port: 30080, Protocol: corev1.ProtocolTCP, Backend: netip.MustParseAddrPort("10.0.0.1:80")},
	})
	k.take(tab, outside)
	if a, b := k.owner("0.0.0.0:30080", corev1.ProtocolTCP), k.owner("0.0.0.0:30080", corev1.ProtocolUDP); a != "old" || b != "udp" {
		t.Errorf("the port has %q by TCP and %q by UDP, expected old and udp", a, b)
	}
	if got := k.owner("10.9.9.9:30080", corev1.ProtocolTCP); got != "pod/web" {
		t.Errorf("the host port at an address has %q", got)
	}
	if got := k.told("pod/web"); got != "0.0.0.0:30080/TCP: isn't served as HostPort: default/old has it as NodePort" {
		t.Errorf("of the host port is told %q", got)
	}
	tab.SetHostPorts(nil)
	tab.DeleteService(Name{"default", "old"})
	k.take(tab, outside)
	if a, b := k.owner("0.0.0.0:30080", corev1.ProtocolTCP), k.owner("10.9.9.9:30080", corev1.ProtocolTCP); a != "new" || b != "" {
		t.Errorf("after that they have %q and %q, expected new and nobody", a, b)
	}
}

func TestTakenAddresses(t *testing.T) {
	tab, k := NewTable(), kept{}
	tab.SetService(aged("a", 1, external("10.0.0.1", "10.0.0.2", "203.0.113.1")))
	slice := endpointSlice("s", 8080, endpoint("10.0.0.2"), endpoint("203.0.113.1"))
	slice.Labels[discoveryv1.LabelServiceName] = "other"
	slice.Endpoints[0].TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: "x"}
	slice = Strip(slice)
	tab.SetSlice(slice)
	tab.SetTaken(map[netip.Addr]string{netip.MustParseAddr("10.0.0.1"): "node n7"})
	k.take(tab, outside)
	if a, b, c := k.owner("10.0.0.1:80", "TCP"), k.owner("10.0.0.2:80", "TCP"), k.owner("203.0.113.1:80", "TCP"); a != "" || b != "" || c != "a" {
		t.Errorf("a node's address has %q, a pod's %q, that of an endpoint which is no pod %q; expected only the last to be served", a, b, c)
	}
	if got := k.told("a"); !strings.Contains(got, "10.0.0.1:80/TCP: isn't served, as it is the address of node n7") || !strings.Contains(got, "10.0.0.2:80/TCP: isn't served, as it is the address of a pod") {
		t.Errorf("told is %q", got)
	}
	tab.SetTaken(nil)
	tab.DeleteSlice(Name{"default", "s"})
	k.take(tab, outside)
	if a, b := k.owner("10.0.0.1:80", "TCP"), k.owner("10.0.0.2:80", "TCP"); a != "a" || b != "a" || k.told("a") != "" {
		t.Errorf("once nobody has them they are served by %q and %q, told is %q", a, b, k.told("a"))
	}
}

// However the table came to know what it knows, what it tells is the same; and nobody has what another has.
func TestTableInAnyOrder(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 11))
		tab, k := NewTable(), kept{}
		services, endpoints := map[Name]*corev1.Service{}, map[Name]*discoveryv1.EndpointSlice{}
		var ports []HostPort
		taken := map[netip.Addr]string{}
		for range 40 {
			name := Name{"default", fmt.Sprint("s", r.IntN(6))}
			switch r.IntN(9) {
			case 0, 1, 2, 3:
				s := aged(name.Name, 1+r.IntN(3), external([][]string{nil, {"203.0.113.1"}, {"203.0.113.2", "10.0.0.1"}, {"10.0.0.2", "172.20.1.2"}}[r.IntN(4)]...))
				s.Spec.Ports[0].NodePort = []int32{0, 30080, 30081}[r.IntN(3)]
				if r.IntN(3) == 0 {
					s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
				}
				services[name] = s
				tab.SetService(s)
			case 4:
				delete(services, name)
				tab.DeleteService(name)
			case 5:
				es := endpointSlice("e"+name.Name, 8080, endpoint(fmt.Sprint("10.0.0.", 1+r.IntN(4)), on("n1")))
				es.Labels[discoveryv1.LabelServiceName] = fmt.Sprint("s", r.IntN(6))
				if r.IntN(2) == 0 {
					es.Endpoints[0].TargetRef = &corev1.ObjectReference{Kind: "Pod"}
				}
				endpoints[Name{"default", es.Name}] = es
				tab.SetSlice(es)
			case 6:
				delete(endpoints, Name{"default", "e" + name.Name})
				tab.DeleteSlice(Name{"default", "e" + name.Name})
			case 7:
				ports = nil
				for i := range r.IntN(3) {
					ports = append(ports, HostPort{Pod: Name{"default", fmt.Sprint("p", i)}, Port: 30080 + uint16(r.IntN(2)), Protocol: corev1.ProtocolTCP, Backend: netip.MustParseAddrPort("10.0.0.9:80")})
				}
				tab.SetHostPorts(ports)
			case 8:
				taken = map[netip.Addr]string{}
				if r.IntN(2) == 0 {
					taken[netip.MustParseAddr("203.0.113.1")] = "node n3"
				}
				tab.SetTaken(taken)
			}
			if r.IntN(3) > 0 {
				continue
			}
			k.take(tab, outside)
			fresh, want := NewTable(), kept{}
			for _, s := range services {
				fresh.SetService(s)
			}
			for _, e := range endpoints {
				fresh.SetSlice(e)
			}
			fresh.SetHostPorts(ports)
			fresh.SetTaken(taken)
			want.take(fresh, outside)
			if !reflect.DeepEqual(k, want) {
				t.Fatalf("seed %d: known bit by bit\n%+v\nknown at once\n%+v", seed, k, want)
			}
			owners := map[Key]Name{}
			for name, c := range want {
				for _, f := range c.Frontends {
					if other, ok := owners[f.Key()]; ok {
						t.Fatalf("seed %d: %s have %s and %s", seed, f.Key(), other, name)
					}
					owners[f.Key()] = name
				}
			}
			if problems := fresh.Problems(); len(problems) != len(tab.Problems()) {
				t.Fatalf("seed %d: problems %v and %v", seed, problems, tab.Problems())
			}
		}
	}
}

// One change among many services has that one resolved, and is told with when it happened.
func TestTakeIsSmallAndSaysSinceWhen(t *testing.T) {
	tab := NewTable()
	now := time.Now().Add(time.Hour)
	tab.now = func() time.Time { return now }
	for i := range 500 {
		s := aged(fmt.Sprint("s", i), 1, external("203.0.113.1"))
		s.Spec.ClusterIP, s.Spec.ExternalIPs = fmt.Sprintf("172.20.%d.%d", i/256, i%256), nil
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		tab.SetService(s)
	}
	tab.Take(outside)
	at := now.Add(-3 * time.Second)
	trigger := func(at time.Time) *discoveryv1.EndpointSlice {
		es := endpointSlice("e", 8080, endpoint("10.0.0.1"))
		es.Labels[discoveryv1.LabelServiceName] = "s7"
		es.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: at.UTC().Format(time.RFC3339Nano)}
		return Strip(es)
	}
	expect := func(what string, want time.Time) {
		t.Helper()
		got := tab.Take(outside)
		if len(got) != 1 || got[0].Service.Name != "s7" || !got[0].Since.Equal(want) {
			t.Errorf("%s: changes %+v, expected s7 since %s", what, got, want)
		}
	}
	tab.SetSlice(trigger(at))
	expect("told by the controller", at)
	tab.SetSlice(trigger(at))
	expect("the same again, as of a change that the controller dates from nothing", now)
	tab.SetSlice(trigger(now.Add(time.Minute)))
	expect("a clock that is ahead", now)
	tab.SetSlice(trigger(time.Unix(1, 0)))
	expect("before this process", now)
	tab.SetSlice(trigger(at.Add(time.Second)))
	tab.SetSlice(trigger(at.Add(2 * time.Second)))
	expect("twice: the first", at.Add(time.Second))
}
