package agent

import (
	"fmt"
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
	"github.com/weft-cni/weft/internal/socklb"
)

// giveCgroup lets the agent connect the sockets of a control group that nobody is in.
func (r *rig) giveCgroup() {
	r.t.Helper()
	root, err := socklb.FindCgroup("/sys/fs/cgroup")
	if err != nil {
		r.t.Skip("could not run: ", err)
	}
	r.cgroup = filepath.Join(root, fmt.Sprintf("weft-agent-%d", os.Getpid()))
	r.must(os.Mkdir(r.cgroup, 0o755))
	r.t.Cleanup(func() { r.must(os.Remove(r.cgroup)) })
}

// setBalanced has the API server tell of services with so many backends each.
func (r *rig) setBalanced(backends map[string]int) {
	r.cluster.mu.Lock()
	r.cluster.balanced = func(t *loadbalancer.Table) {
		n := 0
		for name, count := range backends {
			n++
			s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
			s.Spec.ClusterIP = fmt.Sprintf("10.100.0.%d", n)
			s.Spec.Ports = []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}
			t.SetService(s)
			port, unnamed, proto := int32(8080), "", corev1.ProtocolTCP
			es := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4,
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
				Ports:      []discoveryv1.EndpointPort{{Name: &unnamed, Port: &port, Protocol: &proto}}}
			for i := range count {
				es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.20.0.%d", 100+i)}})
			}
			t.SetSlice(es)
		}
	}
	r.cluster.mu.Unlock()
	r.cluster.setService("servicecidr kubernetes")
}

func (r *rig) awaitBalanced(frontends, backends int) {
	r.t.Helper()
	nstest.Eventually(r.t, 15*time.Second, "sockets know the services", func() error {
		lb := r.balancer.Load()
		if lb == nil {
			return fmt.Errorf("the programs aren't open")
		}
		s, err := lb.Stats()
		if err == nil && (s.Frontends != frontends || s.Backends != backends) {
			err = fmt.Errorf("%d frontends and %d backends, expected %d and %d", s.Frontends, s.Backends, frontends, backends)
		}
		return err
	})
}

// Changes are followed, and a new agent removes what went while none was there, once it knows all.
func TestServicesReachSockets(t *testing.T) {
	r := newRig(t)
	r.giveCgroup()
	r.setBalanced(map[string]int{"a": 3, "b": 0})
	r.start()
	r.awaitBalanced(2, 3)
	r.setBalanced(map[string]int{"a": 1, "b": 2})
	r.awaitBalanced(2, 3)
	r.stop()
	r.cluster.mu.Lock()
	r.cluster.services, r.cluster.balanced = nil, nil // the API server is silent
	r.cluster.mu.Unlock()
	r.start()
	r.awaitBalanced(2, 3)
	r.setBalanced(map[string]int{"a": 2})
	r.awaitBalanced(1, 2)
}

// A node whose control groups aren't to be had works, and says what that means.
func TestServicesWithoutControlGroups(t *testing.T) {
	r := newRig(t)
	r.setBalanced(map[string]int{"a": 1})
	r.start()
	nstest.Eventually(t, 15*time.Second, "the status says it", func() error {
		d := r.cluster.lastStatus().Datapath
		if d == nil || !strings.Contains(strings.Join(d.Fallbacks, "\n"), "services by kube-proxy instead of at the socket") {
			return fmt.Errorf("datapath %+v, expected a fallback for services", d)
		}
		return nil
	})
}
