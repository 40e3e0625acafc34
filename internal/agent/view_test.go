package agent

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/masquerade"
)

func node() *v1alpha1.NodeNetwork {
	return &v1alpha1.NodeNetwork{ObjectMeta: metav1.ObjectMeta{Name: "n", Generation: 7}, Spec: v1alpha1.NodeNetworkSpec{
		InstanceID: "i-1", InstanceType: "m5.large", MaxInterfaces: 3, MaxAddressesPerInterface: 10,
		Interfaces: []v1alpha1.Interface{
			{ID: "eni-0", MAC: "0A:00:00:00:00:01", SubnetID: "s1", SubnetCIDR: "10.0.0.0/24", PrimaryAddress: "10.0.0.10", Managed: true,
				Addresses: []v1alpha1.Address{{Address: "10.0.0.11", Generation: 1}}},
			{ID: "eni-1", MAC: "0a:00:00:00:00:02", DeviceIndex: 1, SubnetID: "s2", SubnetCIDR: "10.0.1.0/24", PrimaryAddress: "10.0.1.10", Managed: true,
				Addresses: []v1alpha1.Address{{Address: "10.0.1.11", Generation: 2}}},
			{ID: "eni-x", MAC: "0a:00:00:00:00:03", DeviceIndex: 2, SubnetID: "s1", SubnetCIDR: "10.0.0.0/24", PrimaryAddress: "10.0.0.30",
				Addresses: []v1alpha1.Address{{Address: "10.0.0.31", Generation: 3}}},
		},
	}}
}

func cluster() *v1alpha1.ClusterNetwork {
	return &v1alpha1.ClusterNetwork{Status: v1alpha1.ClusterNetworkStatus{
		VPCCIDRs: []string{"10.0.0.0/16"},
		Subnets:  []v1alpha1.Subnet{{ID: "s1", DefaultRoute: v1alpha1.RouteInternetGateway}, {ID: "s2", DefaultRoute: v1alpha1.RouteTransitGateway}},
	}}
}

func TestCompute(t *testing.T) {
	v, err := compute(config.Default(), masquerade.Exceptions{}, "i-1", node(), cluster())
	if err != nil {
		t.Fatal(err)
	}
	if len(v.desired.Interfaces) != 2 || len(v.assigned) != 2 || len(v.owners) != 4 || v.generation != 7 {
		t.Fatalf("view is %+v", v)
	}
	first, second := v.desired.Interfaces[0], v.desired.Interfaces[1]
	if first.MAC != "0a:00:00:00:00:01" || first.Router != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("first interface is %+v", first)
	}
	if first.MasqueradeTo != first.Primary || second.MasqueradeTo != second.Primary {
		t.Errorf("masquerade to %s and %s, expected the primary ENI's and, behind a transit gateway, its own", first.MasqueradeTo, second.MasqueradeTo)
	}
	if v.capacity != 18 {
		t.Errorf("capacity is %d, expected 2 interfaces of 9: one is somebody else's", v.capacity)
	}
	cfg := config.Default()
	cfg.ENI.FirstInterfaceIndex = 1
	v, err = compute(cfg, masquerade.Exceptions{}, "i-1", node(), cluster())
	if err != nil || len(v.assigned) != 1 || v.assigned[0].DeviceIndex != 1 || v.capacity != 9 {
		t.Errorf("with first interface index 1: %v, %+v", err, v)
	}
}

func TestComputeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*v1alpha1.NodeNetwork, *v1alpha1.ClusterNetwork)
		notYet bool
		part   string
	}{
		"another instance": {func(n *v1alpha1.NodeNetwork, _ *v1alpha1.ClusterNetwork) { n.Spec.InstanceID = "i-2" }, true, "i-2"},
		"no interfaces":    {func(n *v1alpha1.NodeNetwork, _ *v1alpha1.ClusterNetwork) { n.Spec.Interfaces = nil }, true, "interfaces"},
		"no primary":       {func(n *v1alpha1.NodeNetwork, _ *v1alpha1.ClusterNetwork) { n.Spec.Interfaces = n.Spec.Interfaces[1:] }, true, "index 0"},
		"no CIDRs":         {func(_ *v1alpha1.NodeNetwork, c *v1alpha1.ClusterNetwork) { c.Status.VPCCIDRs = nil }, true, "CIDRs"},
		"bad CIDR":         {func(_ *v1alpha1.NodeNetwork, c *v1alpha1.ClusterNetwork) { c.Status.VPCCIDRs = []string{"10.0.0.0"} }, false, "10.0.0.0"},
		"bad MAC":          {func(n *v1alpha1.NodeNetwork, _ *v1alpha1.ClusterNetwork) { n.Spec.Interfaces[1].MAC = "eth1" }, false, "eni-1"},
		"bad subnet": {func(n *v1alpha1.NodeNetwork, _ *v1alpha1.ClusterNetwork) {
			n.Spec.Interfaces[1].SubnetCIDR = "fd00::/64"
		}, false, "fd00::/64"},
		"bad address": {func(n *v1alpha1.NodeNetwork, _ *v1alpha1.ClusterNetwork) {
			n.Spec.Interfaces[0].Addresses[0].Address = "x"
		}, false, `"x"`},
		"address on 2 ENIs": {func(n *v1alpha1.NodeNetwork, _ *v1alpha1.ClusterNetwork) {
			n.Spec.Interfaces[1].Addresses[0].Address = "10.0.0.11"
		}, false, "10.0.0.11"},
	} {
		nn, cn := node(), cluster()
		c.change(nn, cn)
		_, err := compute(config.Default(), masquerade.Exceptions{}, "i-1", nn, cn)
		if err == nil || errors.Is(err, errNotYet) != c.notYet || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := compute(config.Default(), masquerade.Exceptions{}, "i-1", nil, nil); !errors.Is(err, errNotYet) {
		t.Errorf("without objects: %v", err)
	}
}

func TestWhyNoAddress(t *testing.T) {
	nn := node()
	if got := whyNoAddress(nn, 18); !strings.Contains(got, "operator") {
		t.Errorf("with room: %s", got)
	}
	if got := whyNoAddress(nn, 2); !strings.Contains(got, "m5.large") || !strings.Contains(got, "2 addresses") {
		t.Errorf("at the limit: %s", got)
	}
	nn.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAddressesAssigned, Status: metav1.ConditionFalse, Reason: "InsufficientFreeAddressesInSubnet", Message: "subnet-1 is full"}}
	if got := whyNoAddress(nn, 2); !strings.Contains(got, "InsufficientFreeAddressesInSubnet: subnet-1 is full") {
		t.Errorf("with the operator's condition: %s", got)
	}
	nn.Status.Conditions[0].Reason, nn.Status.Conditions[0].Message = "InstanceLimit", "m5.large allows 3 interfaces"
	if got := whyNoAddress(nn, 2); got != "m5.large allows 3 interfaces" {
		t.Errorf("at the operator's limit: %s", got)
	}
}

func FuzzPodOf(f *testing.F) {
	f.Add("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u")
	f.Add(";;=;K8S_POD_NAME")
	f.Fuzz(func(t *testing.T, args string) {
		p := podOf(args)
		if p.Name != "" && !strings.Contains(args, "K8S_POD_NAME=") {
			t.Errorf("pod %q out of %q", p.Name, args)
		}
	})
}
