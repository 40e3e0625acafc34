package service

import (
	"net/netip"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestAddresses(t *testing.T) {
	vip, proxy := corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy
	for name, test := range map[string]struct {
		in   corev1.Service
		want []netip.Addr
	}{
		"cluster": {in: corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.100.0.1", ClusterIPs: []string{"10.100.0.1", "fd00::1"}}},
			want: addrs("10.100.0.1", "fd00::1")},
		"headless": {in: corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}}}},
		"another name": {in: corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "10.0.0.1",
			ExternalIPs: []string{"10.0.0.1"}}}},
		"external": {in: corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.100.0.1", ExternalIPs: []string{"203.0.113.5", "10.100.0.1"}}},
			want: addrs("10.100.0.1", "203.0.113.5")},
		"load balancers": {in: corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.100.0.1"},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{
				{IP: "203.0.113.5"}, {Hostname: "lb.example.com"}, {IP: "203.0.113.6", IPMode: &vip}, {IP: "203.0.113.7", IPMode: &proxy}}}}},
			want: addrs("10.100.0.1", "203.0.113.5", "203.0.113.6")},
		"not yet given": {in: corev1.Service{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Addresses(&test.in); !reflect.DeepEqual(got, test.want) {
				t.Errorf("addresses are %v, expected %v", got, test.want)
			}
			if got := Addresses(Strip(&test.in)); !reflect.DeepEqual(got, test.want) {
				t.Errorf("addresses of what is kept are %v, expected %v", got, test.want)
			}
		})
	}
}

func TestRanges(t *testing.T) {
	in := networkingv1.ServiceCIDR{Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.100.0.0/16", "fd00::/108", "x"}}}
	want := []netip.Prefix{netip.MustParsePrefix("10.100.0.0/16"), netip.MustParsePrefix("fd00::/108")}
	if got := Ranges(&in); !reflect.DeepEqual(got, want) {
		t.Errorf("ranges are %v, expected %v", got, want)
	}
}

func TestTable(t *testing.T) {
	table := NewTable()
	told := func() bool {
		select {
		case <-table.Changed():
			return true
		default:
			return false
		}
	}
	table.Set("a", Hosts(addrs("10.0.0.2", "10.0.0.1")))
	table.Set("b", Hosts(addrs("10.0.0.2")))
	if !told() || told() {
		t.Error("expected one token for two changes")
	}
	if got := table.All(); !reflect.DeepEqual(got, Hosts(addrs("10.0.0.1", "10.0.0.2"))) {
		t.Errorf("table has %v", got)
	}
	table.Set("b", Hosts(addrs("10.0.0.2")))
	table.Set("c", nil)
	if told() {
		t.Error("a token without a change")
	}
	table.Set("a", nil)
	if got := table.All(); !told() || !reflect.DeepEqual(got, Hosts(addrs("10.0.0.2"))) {
		t.Errorf("after one has gone the table has %v", got)
	}
}
