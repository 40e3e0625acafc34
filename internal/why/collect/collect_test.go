package collect

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/flow"
	"github.com/weft-cni/weft/internal/inspect"
	"github.com/weft-cni/weft/internal/loadbalancer"
	"github.com/weft-cni/weft/internal/why"
	"github.com/weft-cni/weft/internal/why/vpc"
)

func onePod(name, node, ip string, phase corev1.PodPhase) corev1.Pod {
	return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{PodIP: ip, Phase: phase}}
}

func TestParties(t *testing.T) {
	node := v1alpha1.NodeNetwork{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	node.Spec.Interfaces = []v1alpha1.Interface{{ID: "eni-1", PrimaryAddress: "10.0.1.2", Addresses: []v1alpha1.Address{{Address: "10.0.1.5"}, {Address: "10.0.1.6"}}}}
	node.Status.UsedAddresses = []v1alpha1.UsedAddress{{Address: "10.0.1.5", Pod: "shop/web"}, {Address: "10.0.1.6", Pod: "shop/old"}}
	k := &cluster{
		pods:     []corev1.Pod{onePod("web", "n1", "10.0.1.5", "Running"), onePod("lost", "n1", "10.0.1.9", "Running"), onePod("done", "n1", "10.0.1.6", "Succeeded")},
		nodes:    []v1alpha1.NodeNetwork{node},
		services: []corev1.Service{{Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.100.0.10"}}}},
		hosts:    map[netip.Addr]string{netip.MustParseAddr("10.0.1.2"): "n1"},
	}
	k.network.Status.VPCCIDRs = []string{"10.0.0.0/16"}
	addr := netip.MustParseAddr
	for _, tc := range []struct {
		end  why.End
		name string
		addr string
		want why.Party
	}{
		{why.End{Pod: "shop/web"}, "shop/web", "10.0.1.5", why.Party{Kind: why.KindPod, Node: "n1", Phase: "Running", ENI: "eni-1"}},
		{why.End{Addr: addr("10.0.1.5")}, "shop/web", "10.0.1.5", why.Party{Kind: why.KindPod, Node: "n1", Phase: "Running", ENI: "eni-1"}},
		{why.End{Pod: "shop/lost"}, "shop/lost", "10.0.1.9", why.Party{Kind: why.KindPod, Node: "n1", Phase: "Running"}},
		{why.End{Addr: addr("10.0.1.6")}, "", "10.0.1.6", why.Party{Kind: why.KindFree, Node: "n1", ENI: "eni-1", LastPod: "shop/old"}},
		{why.End{Pod: "shop/none"}, "shop/none", "", why.Party{}},
		{why.End{Addr: addr("10.0.1.2")}, "", "10.0.1.2", why.Party{Kind: why.KindNode, Node: "n1", ENI: "eni-1"}},
		{why.End{Addr: addr("10.100.0.10")}, "", "10.100.0.10", why.Party{Kind: why.KindService}},
		{why.End{Addr: addr("10.0.9.9")}, "", "10.0.9.9", why.Party{Kind: why.KindInside}},
		{why.End{Addr: addr("1.1.1.1")}, "", "1.1.1.1", why.Party{Kind: why.KindOutside}},
	} {
		end := tc.end
		p := k.party(&end)
		if p != tc.want || end.Pod != tc.name || end.Addr.IsValid() && end.Addr.String() != tc.addr {
			t.Errorf("%v: %+v and %v, expected %+v and %s %s", tc.end, p, end, tc.want, tc.name, tc.addr)
		}
	}
}

func TestServiceOfAnAnswer(t *testing.T) {
	x := inspect.Explanation{Frontend: inspect.Frontend{Service: "shop/db", Held: &inspect.Balance{Flags: []string{"refuse"}}}, Nobody: "none",
		Endpoints: []loadbalancer.Verdict{{Endpoint: "10.0.0.1:80", Chosen: true}, {Endpoint: "10.0.0.2:80"}}}
	got, err := newService("n1", []inspect.Explanation{x}, nil)
	if err != nil || got.Name != "shop/db" || !slices.Equal(got.Backends, []string{"10.0.0.1:80"}) || !got.Refused || got.Nobody != "none" {
		t.Errorf("found %+v, %v", got, err)
	}
	if got, err := newService("n1", nil, fmt.Errorf("node n1: %w", agentapi.NotFound("no frontend"))); err != nil || got.Absent != "no frontend" {
		t.Errorf("not found: %+v, %v", got, err)
	}
	if got, err := newService("n1", nil, agentapi.Unavailable("starting")); err == nil || got != nil {
		t.Errorf("starting: %+v, %v", got, err)
	}
}

func TestDropsOfTheFlow(t *testing.T) {
	q := why.Question{Protocol: "tcp", Port: 80}
	for _, tc := range []struct {
		r    flow.Record
		want bool
	}{
		{flow.Record{Protocol: "tcp", To: flow.Side{Port: 80}}, true},
		{flow.Record{Type: flow.Drop, Protocol: "tcp", From: flow.Side{Port: 80}}, true},
		{flow.Record{Type: flow.Close, Protocol: "tcp", From: flow.Side{Port: 80}}, false},
		{flow.Record{Protocol: "tcp", To: flow.Side{Port: 81}}, false},
		{flow.Record{Protocol: "udp", To: flow.Side{Port: 80}}, false},
		{flow.Record{Protocol: "icmp", ICMP: "3/4"}, true},
		{flow.Record{Protocol: "icmp", ICMP: "8/0"}, false},
		{flow.Record{Protocol: "icmp", ICMP: "3/4", From: flow.Side{Addr: netip.MustParseAddr("10.66.6.6")}}, false},
	} {
		if got := about(tc.r, q); got != tc.want {
			t.Errorf("%+v: %v, expected %v", tc.r, got, tc.want)
		}
	}
}

// fakeEC2 answers as EC2 does, with one ENI.
type fakeEC2 struct{ refuse string }

func (f fakeEC2) err(action string) error {
	if f.refuse == action {
		return &smithy.GenericAPIError{Code: "UnauthorizedOperation", Message: "You are not authorized"}
	}
	return nil
}

func (f fakeEC2) DescribeNetworkInterfaces(_ context.Context, in *ec2.DescribeNetworkInterfacesInput, _ ...func(*ec2.Options)) (*ec2.DescribeNetworkInterfacesOutput, error) {
	return &ec2.DescribeNetworkInterfacesOutput{NetworkInterfaces: []types.NetworkInterface{{
		NetworkInterfaceId: aws.String("eni-1"), SubnetId: aws.String("subnet-1"), SourceDestCheck: aws.Bool(true),
		PrivateIpAddresses: []types.NetworkInterfacePrivateIpAddress{{PrivateIpAddress: aws.String("10.0.1.5")}},
		Ipv6Addresses:      []types.NetworkInterfaceIpv6Address{{Ipv6Address: aws.String("fd00::5")}},
		Groups:             []types.GroupIdentifier{{GroupId: aws.String("sg-1")}},
		Attachment:         &types.NetworkInterfaceAttachment{Status: types.AttachmentStatusAttached},
	}}}, f.err("DescribeNetworkInterfaces")
}

func (f fakeEC2) DescribeSecurityGroups(_ context.Context, in *ec2.DescribeSecurityGroupsInput, _ ...func(*ec2.Options)) (*ec2.DescribeSecurityGroupsOutput, error) {
	return &ec2.DescribeSecurityGroupsOutput{SecurityGroups: []types.SecurityGroup{{GroupId: aws.String(in.GroupIds[0]), GroupName: aws.String("nodes"),
		IpPermissions: []types.IpPermission{{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(80), ToPort: aws.Int32(81),
			IpRanges: []types.IpRange{{CidrIp: aws.String("10.0.0.0/8")}}, UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: aws.String("sg-9")}}, PrefixListIds: []types.PrefixListId{{PrefixListId: aws.String("pl-1")}}}},
		IpPermissionsEgress: []types.IpPermission{{IpProtocol: aws.String("-1"), Ipv6Ranges: []types.Ipv6Range{{CidrIpv6: aws.String("::/0")}}}},
	}}}, f.err("DescribeSecurityGroups")
}

func (f fakeEC2) DescribeRouteTables(context.Context, *ec2.DescribeRouteTablesInput, ...func(*ec2.Options)) (*ec2.DescribeRouteTablesOutput, error) {
	return &ec2.DescribeRouteTablesOutput{RouteTables: []types.RouteTable{
		{RouteTableId: aws.String("rtb-other"), Associations: []types.RouteTableAssociation{{SubnetId: aws.String("subnet-9")}}},
		{RouteTableId: aws.String("rtb-main"), Associations: []types.RouteTableAssociation{{Main: aws.Bool(true)}}, Routes: []types.Route{
			{DestinationCidrBlock: aws.String("10.0.0.0/16"), GatewayId: aws.String("local")},
			{DestinationCidrBlock: aws.String("10.9.0.0/16"), VpcPeeringConnectionId: aws.String("pcx-1"), State: types.RouteStateBlackhole},
			{DestinationPrefixListId: aws.String("pl-s3"), GatewayId: aws.String("vpce-1")},
		}},
	}}, f.err("DescribeRouteTables")
}

func (f fakeEC2) DescribeNetworkAcls(context.Context, *ec2.DescribeNetworkAclsInput, ...func(*ec2.Options)) (*ec2.DescribeNetworkAclsOutput, error) {
	entry := func(n int32, egress bool, action types.RuleAction) types.NetworkAclEntry {
		return types.NetworkAclEntry{RuleNumber: aws.Int32(n), Egress: aws.Bool(egress), RuleAction: action, Protocol: aws.String("6"), CidrBlock: aws.String("0.0.0.0/0"), PortRange: &types.PortRange{From: aws.Int32(1), To: aws.Int32(9)}}
	}
	return &ec2.DescribeNetworkAclsOutput{NetworkAcls: []types.NetworkAcl{{NetworkAclId: aws.String("acl-1"),
		Associations: []types.NetworkAclAssociation{{SubnetId: aws.String("subnet-1")}, {SubnetId: aws.String("subnet-7")}},
		Entries:      []types.NetworkAclEntry{entry(200, false, types.RuleActionDeny), entry(100, false, types.RuleActionAllow), entry(5, true, types.RuleActionAllow)},
	}}}, f.err("DescribeNetworkAcls")
}

func TestDescribe(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr("10.0.1.5")}
	n, err := describe(t.Context(), fakeEC2{}, "vpc-1", addrs, []string{"eni-1"})
	if err != nil {
		t.Fatal(err)
	}
	i := n.Interfaces[0]
	if len(n.Interfaces) != 1 || !i.SourceCheck || !i.Attached || len(i.Addresses) != 2 || i.Groups[0] != "sg-1" {
		t.Errorf("interfaces are %+v", n.Interfaces)
	}
	r := n.Groups[0].Ingress[0]
	if r.Protocol != "tcp" || r.From != 80 || r.To != 81 || r.Prefixes[0].String() != "10.0.0.0/8" || r.Groups[0] != "sg-9" || r.Lists[0] != "pl-1" {
		t.Errorf("rule is %+v", r)
	}
	if e := n.Groups[0].Egress[0]; e.Protocol != "-1" || e.From != -1 {
		t.Errorf("rule is %+v", e)
	}
	if len(n.Routes) != 1 || n.Routes[0].ID != "rtb-main" || n.Routes[0].Subnet != "subnet-1" || !n.Routes[0].Routes[1].Blackhole || n.Routes[0].Lists[0] != "pl-s3" {
		t.Errorf("routes are %+v: expected the main table for a subnet that has none of its own", n.Routes)
	}
	if a := n.ACLs; len(a) != 1 || a[0].Ingress[0].Number != 100 || a[0].Ingress[0].Protocol != "tcp" || a[0].Ingress[0].To != 9 || len(a[0].Egress) != 1 {
		t.Errorf("ACLs are %+v", a)
	}
	var _ *vpc.Network = n
}

func TestDescribeWithoutRights(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr("10.0.1.5")}
	if _, err := describe(t.Context(), fakeEC2{"DescribeNetworkInterfaces"}, "", addrs, nil); err == nil || !strings.Contains(err.Error(), "may not call ec2:DescribeNetworkInterfaces") {
		t.Errorf("without the first right: %v", err)
	}
	for what, action := range map[string]string{"security groups": "DescribeSecurityGroups", "route tables": "DescribeRouteTables", "network ACLs": "DescribeNetworkAcls"} {
		n, err := describe(t.Context(), fakeEC2{action}, "", addrs, nil)
		if err != nil || !slices.ContainsFunc(n.Unknown, func(s string) bool { return strings.HasPrefix(s, what+": ") && strings.Contains(s, action) }) {
			t.Errorf("without %s: %+v, %v; expected that it is said", action, n.Unknown, err)
		}
	}
}
