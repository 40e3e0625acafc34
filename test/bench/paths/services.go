package paths

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/inspect"
	"github.com/weft-cni/weft/test/bench/traffic"
	"github.com/weft-cni/weft/test/rig"
)

func (n *Network) served() served { return served{far: n.Cross.Address, near: n.Local.Address} }

// serve tells the client's agent of services and waits until it has all of them.
func (n *Network) serve(ctx context.Context, services int) error {
	var all rig.Services
	pods := n.served()
	for i := range services + 1 {
		name, proto, port := fmt.Sprintf("s%d", i), corev1.ProtocolTCP, int32(traffic.Port)
		at := pods.endpoint(i, services)
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "bench", Name: name}}
		s.Spec.ClusterIP = serviceAddress(i).String()
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: port, Protocol: proto}}
		http := "http"
		e := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4,
			ObjectMeta: metav1.ObjectMeta{Namespace: "bench", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			Ports:      []discoveryv1.EndpointPort{{Name: &http, Port: &port, Protocol: &proto}},
			Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{at.Addr().String()}}}}
		all.Services, all.Slices = append(all.Services, s), append(all.Slices, e)
	}
	if err := n.specs[0].PutServices(all); err != nil {
		return err
	}
	client := agentapi.NewClient(n.specs[0].APISocket())
	return rig.Await(ctx, 2*time.Minute, "the agent has the services", func() error {
		var b bytes.Buffer
		if err := client.Get(ctx, "/v1/services", &b); err != nil {
			return err
		}
		have := 0
		for line := range strings.Lines(b.String()) {
			var f inspect.Frontend
			if err := json.Unmarshal([]byte(line), &f); err == nil && f.State == inspect.OK {
				have++
			}
		}
		if have != services+1 {
			return fmt.Errorf("it has %d of %d as they should be", have, services+1)
		}
		return nil
	})
}
