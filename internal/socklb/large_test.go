package socklb

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

func slice(service, name string, first, count int) *discoveryv1.EndpointSlice {
	port, unnamed, proto := int32(8080), "", corev1.ProtocolTCP
	out := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4,
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		Ports:      []discoveryv1.EndpointPort{{Name: &unnamed, Port: &port, Protocol: &proto}}}
	for i := range count {
		n := first + i
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{Addresses: []string{netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}).String()}})
	}
	return out
}

func clusterService(n int) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("s", n)}}
	s.Spec.ClusterIP = netip.AddrFrom4([4]byte{172, 20, byte(n >> 8), byte(n)}).String()
	s.Spec.Ports = []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}
	return s
}

// Ten thousand endpoints of one service, in slices of a thousand, with affinity and Maglev's table: all are there, and
// one that goes is one slot.
func TestTenThousandEndpoints(t *testing.T) {
	b := open(t, testConfig(t))
	tab := loadbalancer.NewTable()
	node := loadbalancer.Node{Name: "n1"}
	s := clusterService(1)
	s.Spec.SessionAffinity, s.Annotations = corev1.ServiceAffinityClientIP, map[string]string{loadbalancer.AnnotationAlgorithm: "maglev"}
	tab.SetService(s)
	for i := range 10 {
		tab.SetSlice(slice("s1", fmt.Sprint("s1-", i), i*1000, 1000))
	}
	if failed := b.Apply(tab.Take(node)); len(failed) > 0 {
		t.Fatal(failed)
	}
	if n := count(t, b); n != [3]int{1, 10000, 10000} {
		t.Errorf("frontends, slots and members are %v", n)
	}
	tab.SetSlice(slice("s1", "s1-7", 7000, 999))
	if failed := b.Apply(tab.Take(node)); len(failed) > 0 {
		t.Fatal(failed)
	}
	if n := count(t, b); n != [3]int{1, 9999, 9999} {
		t.Errorf("frontends, slots and members are %v", n)
	}
	tab.DeleteService(loadbalancer.Name{Namespace: "default", Name: "s1"})
	if failed := b.Apply(tab.Take(node)); len(failed) > 0 {
		t.Fatal(failed)
	}
	if n := count(t, b); n != [3]int{} {
		t.Errorf("frontends, slots and members are %v", n)
	}
}

// Two thousand services of five endpoints, from nothing and for one change: few enough for an emulated machine. Times are told, not judged: make scale
// measures twenty thousand.
func TestManyServices(t *testing.T) {
	const services = 2000
	b := open(t, testConfig(t))
	tab, node := loadbalancer.NewTable(), loadbalancer.Node{Name: "n1"}
	for i := range services {
		tab.SetService(clusterService(i))
		tab.SetSlice(slice(fmt.Sprint("s", i), fmt.Sprint("s", i, "-x"), i*5, 5))
	}
	pass := func() (took time.Duration, writes uint64) {
		t.Helper()
		before, err := b.Stats()
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if failed := b.Apply(tab.Take(node)); len(failed) > 0 {
			t.Fatal(failed)
		}
		took = time.Since(begin)
		after, err := b.Stats()
		if err != nil {
			t.Fatal(err)
		}
		return took, after.Writes - before.Writes
	}
	took, writes := pass()
	if n := count(t, b); n != [3]int{services, 5 * services, 0} || writes != 6*services {
		t.Errorf("frontends, slots and members are %v with %d writes", n, writes)
	}
	t.Logf("from nothing: %s, %d writes", took, writes)
	tab.SetSlice(slice("s777", "s777-x", 777*5+1, 5))
	if took, writes = pass(); writes != 1 {
		t.Errorf("%d writes for one other backend, expected 1", writes)
	}
	t.Logf("one backend is another: %s, %d writes", took, writes)
	tab.MarkAll()
	if took, writes = pass(); writes != 0 {
		t.Errorf("%d writes for nothing", writes)
	}
	t.Logf("all looked at again: %s", took)
}
