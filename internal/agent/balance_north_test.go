package agent

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/internal/loadbalancer"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// inPlace has services as where weft does kube-proxy's work: two want one node port, one has a port for health checks,
// and one the node's own address.
func (r *rig) inPlace(ready bool, hints []discoveryv1.ForZone) {
	r.cluster.mu.Lock()
	r.cluster.balanced = func(t *loadbalancer.Table) {
		for i, name := range []string{"old", "new", "local", "thief"} {
			s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(i), 0))}}
			s.Spec.Type, s.Spec.ClusterIP = corev1.ServiceTypeNodePort, fmt.Sprintf("10.100.1.%d", i+1)
			s.Spec.Ports = []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, NodePort: 30080}}
			switch name {
			case "local":
				s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeLoadBalancer, 30081
				s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 31000
			case "thief":
				s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeClusterIP, 0
				s.Spec.ExternalIPs = []string{"10.20.0.10"}
			}
			t.SetService(s)
		}
		port, unnamed, proto, node := int32(8080), "", corev1.ProtocolTCP, "node-1"
		es := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4,
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "local-1", Labels: map[string]string{discoveryv1.LabelServiceName: "local"}},
			Ports:      []discoveryv1.EndpointPort{{Name: &unnamed, Port: &port, Protocol: &proto}}}
		for i := range 2 {
			e := discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.20.0.%d", 100+i)}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
			if hints != nil {
				e.Hints = &discoveryv1.EndpointHints{ForZones: hints[i : i+1]}
			}
			es.Endpoints = append(es.Endpoints, e)
		}
		t.SetSlice(es)
	}
	r.cluster.mu.Unlock()
	r.cluster.setService("servicecidr kubernetes")
}

func TestServicesInKubeProxysPlace(t *testing.T) {
	r := newRig(t)
	r.giveCgroup()
	r.conf.KubeProxyReplacement = true
	r.metrics = "127.0.0.1:9962"
	r.inPlace(true, nil)
	r.start()
	// What can't be served is told on the service that hasn't it.
	nstest.Eventually(t, 30*time.Second, "events", func() error {
		for _, part := range []string{
			"Service default/new: NotServed: 0.0.0.0:30080/TCP: isn't served as NodePort: default/old has it as NodePort",
			"Service default/thief: NotServed: 10.20.0.10:80/TCP: isn't served, as it is the address of",
		} {
			if !r.cluster.warned(part) {
				return fmt.Errorf("no event %q", part)
			}
		}
		return nil
	})
	health := func() (int, error) {
		resp, err := http.Get("http://127.0.0.1:31000/")
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	answers := func(want int) {
		t.Helper()
		nstest.Eventually(t, 30*time.Second, "the health check", func() error {
			if code, err := health(); err != nil || code != want {
				return fmt.Errorf("answered %d (%w), expected %d", code, err, want)
			}
			return nil
		})
	}
	answers(http.StatusOK)
	r.inPlace(false, nil)
	answers(http.StatusServiceUnavailable)
	// A node that learns its zone late has its services by it.
	r.inPlace(true, []discoveryv1.ForZone{{Name: "zone-x"}, {Name: "zone-y"}})
	backends := func(want int) {
		t.Helper()
		nstest.Eventually(t, 30*time.Second, "the tables", func() error {
			state, err := r.balancer.Load().Held()
			if err != nil {
				return err
			}
			for k, h := range state.Frontends {
				if strings.HasPrefix(k.String(), "10.100.1.3:80") && len(h.Backends) == want {
					return nil
				}
			}
			return fmt.Errorf("found %v, expected %d backends", state.Frontends, want)
		})
	}
	backends(2)
	r.cluster.mu.Lock()
	nn, cn := r.cluster.nn.DeepCopy(), r.cluster.cn.DeepCopy()
	r.cluster.mu.Unlock()
	nn.Spec.AvailabilityZone = "zone-y"
	r.cluster.set(nn, cn)
	backends(1)
	r.must(errors.Join(os.Remove(filepath.Join(r.bpf, "maps", "weft_lb_own")), os.Remove(filepath.Join(r.bpf, "links", "sock_connect4"))))
	nstest.Eventually(t, 30*time.Second, "pins come back", func() error {
		if _, err := os.Stat(filepath.Join(r.bpf, "links", "sock_connect4")); err != nil {
			return err
		}
		_, err := os.Stat(filepath.Join(r.bpf, "maps", "weft_lb_own"))
		return err
	})
	found := r.scrape()
	for key, want := range map[string]float64{"weft_services": 4, "weft_services_problems": 2, "weft_services_entries{kind=frontends}": 7, "weft_services_health_ports_failed": 0} {
		if v, ok := found[key]; !ok || v != want {
			t.Errorf("%s is %v (there: %v), expected %v", key, v, ok, want)
		}
	}
	if found["weft_services_sync_seconds_count"] < 1 {
		t.Errorf("no delay was measured: %v", found["weft_services_sync_seconds_count"])
	}
	r.stop()
	if code, err := health(); err == nil {
		t.Errorf("the health check answered %d without an agent", code)
	}
}
