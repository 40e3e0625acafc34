package service

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

// What is kept of a service is all that decides which frontends it has, who has an address, and what is told.
func TestStripKeepsWhatDecides(t *testing.T) {
	local, seconds, class := corev1.ServiceInternalTrafficPolicyLocal, int32(7), "someone/else"
	full := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u", CreationTimestamp: metav1.NewTime(time.Unix(7, 0)),
		Annotations: map[string]string{loadbalancer.AnnotationAlgorithm: "maglev", "large": "x"}}}
	full.Spec = corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "172.20.0.1", ClusterIPs: []string{"172.20.0.1"}, ExternalIPs: []string{"203.0.113.9", "x"},
		Ports:           []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080, Protocol: corev1.ProtocolTCP}},
		SessionAffinity: corev1.ServiceAffinityClientIP, SessionAffinityConfig: &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}},
		InternalTrafficPolicy: &local, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal, HealthCheckNodePort: 31000,
		LoadBalancerSourceRanges: []string{"192.0.2.0/24"}, LoadBalancerClass: &class, Selector: map[string]string{"app": "web"},
	}
	full.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}, {Hostname: "lb"}}
	node := loadbalancer.Node{Name: "n1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}, Settings: loadbalancer.Settings{NorthSouth: true}}
	take := func(s *corev1.Service, taken map[netip.Addr]string) []loadbalancer.Change {
		table := loadbalancer.NewTable()
		older := full.DeepCopy()
		older.Name, older.CreationTimestamp, older.Spec.ClusterIP, older.Spec.ClusterIPs = "older", metav1.NewTime(time.Unix(6, 0)), "172.20.0.2", []string{"172.20.0.2"}
		older.Status, older.Spec.Ports[0].NodePort = corev1.ServiceStatus{}, 0
		table.SetService(older)
		table.SetService(s)
		table.SetTaken(taken)
		out := table.Take(node)
		for i := range out {
			out[i].Since = time.Time{}
		}
		return out
	}
	for _, taken := range []map[netip.Addr]string{nil, {netip.MustParseAddr("203.0.113.1"): "node n2"}} {
		want, got := take(full.DeepCopy(), taken), take(Strip(&full), taken)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("of what is kept follows\n%+v\nof the service itself\n%+v", got, want)
		}
		if web := want[1]; web.Service.Name != "web" || len(web.Frontends) < 3 || len(web.Problems) < 2 || web.Health == nil || !web.Frontends[0].Maglev {
			t.Errorf("the service has %+v: too little to compare", web)
		}
	}
	if kept := Strip(&full); kept.Spec.Selector != nil || kept.Annotations["large"] != "" {
		t.Errorf("kept is also %+v", kept)
	}
}
