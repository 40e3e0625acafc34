package agent

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/loadbalancer"
)

func TestServiceSettings(t *testing.T) {
	c := config.Default()
	if s := serviceSettings(c); !reflect.DeepEqual(s, loadbalancer.Settings{}) {
		t.Errorf("beside kube-proxy they are %+v", s)
	}
	c.KubeProxyReplacement, c.BPF.LBExternalClusterIP, c.ServiceNoBackendResponse = true, true, config.NoBackendDrop
	c.LoadBalancer = config.LoadBalancer{Algorithm: config.AlgorithmMaglev}
	c.NodePort.Addresses = []string{"10.0.0.0/8"}
	want := loadbalancer.Settings{NorthSouth: true, WithoutHints: true, ClusterIPOutside: true, Silent: true, Maglev: true,
		NodePortAddresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	if s := serviceSettings(c); !reflect.DeepEqual(s, want) {
		t.Errorf("they are %+v, expected %+v", s, want)
	}
}

func TestHostPorts(t *testing.T) {
	at := netip.MustParseAddr
	got := hostPorts([]endpoint.Endpoint{
		{Pod: "shop/web", Address: at("10.0.0.9"), HostPorts: []endpoint.HostPort{{Port: 8080, Target: 80, Protocol: "TCP"}, {Address: at("10.0.0.1"), Port: 53, Target: 5353, Protocol: "UDP"}}},
		{Pod: "shop/none", Address: at("10.0.0.10")},
		{Key: endpoint.Key{ContainerID: "abc"}, Address: at("10.0.0.11"), HostPorts: []endpoint.HostPort{{Port: 1, Target: 2, Protocol: "TCP"}}},
	})
	want := []loadbalancer.HostPort{
		{Pod: loadbalancer.Name{Namespace: "shop", Name: "web"}, Port: 8080, Protocol: "TCP", Backend: netip.MustParseAddrPort("10.0.0.9:80")},
		{Pod: loadbalancer.Name{Namespace: "shop", Name: "web"}, HostIP: at("10.0.0.1"), Port: 53, Protocol: "UDP", Backend: netip.MustParseAddrPort("10.0.0.9:5353")},
		{Pod: loadbalancer.Name{Name: "abc"}, Port: 1, Protocol: "TCP", Backend: netip.MustParseAddrPort("10.0.0.11:2")},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("they are %+v, expected %+v", got, want)
	}
}
