package collect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/weft-cni/weft/internal/flow"
	"github.com/weft-cni/weft/internal/why/vpc"
)

// describer is what is asked of EC2; nothing of it changes anything.
type describer interface {
	ec2.DescribeNetworkInterfacesAPIClient
	ec2.DescribeSecurityGroupsAPIClient
	ec2.DescribeRouteTablesAPIClient
	ec2.DescribeNetworkAclsAPIClient
}

// askEC2Within bounds all questions together: they only add to what the nodes say.
const askEC2Within = 20 * time.Second

// EC2 asks with the credentials of the AWS SDK's standard environment, which are the person's own.
func EC2(ctx context.Context, region, vpcID string, addrs []netip.Addr, enis []string) (*vpc.Network, error) {
	ctx, cancel := context.WithTimeout(ctx, askEC2Within)
	defer cancel()
	var options []func(*config.LoadOptions) error
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("the AWS SDK's configuration: %w", err)
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return nil, errors.New("there are no AWS credentials: set AWS_PROFILE or log in, as for the aws command")
	}
	return describe(ctx, ec2.NewFromConfig(cfg), vpcID, addrs, enis)
}

// describe asks for the ENIs first, then for what belongs to them. What may not be read is in Unknown.
func describe(ctx context.Context, api describer, vpcID string, addrs []netip.Addr, enis []string) (*vpc.Network, error) {
	n := &vpc.Network{}
	var values []string
	for _, a := range addrs {
		values = append(values, a.String())
	}
	filters := [][]types.Filter{{{Name: aws.String("addresses.private-ip-address"), Values: values}}}
	if len(enis) > 0 {
		filters = append(filters, []types.Filter{{Name: aws.String("network-interface-id"), Values: enis}})
	}
	for _, f := range filters {
		if vpcID != "" {
			f = append(f, types.Filter{Name: aws.String("vpc-id"), Values: []string{vpcID}})
		}
		out, err := api.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{Filters: f})
		if err != nil {
			return nil, denied("DescribeNetworkInterfaces", err)
		}
		for _, i := range out.NetworkInterfaces {
			if id := aws.ToString(i.NetworkInterfaceId); !slices.ContainsFunc(n.Interfaces, func(x vpc.Interface) bool { return x.ID == id }) {
				n.Interfaces = append(n.Interfaces, toInterface(i))
			}
		}
	}
	var groups, subnets []string
	for _, i := range n.Interfaces {
		groups = append(groups, i.Groups...)
		subnets = append(subnets, i.Subnet)
	}
	slices.Sort(groups)
	slices.Sort(subnets)
	groups, subnets = slices.Compact(groups), slices.Compact(subnets)
	if len(n.Interfaces) == 0 {
		return n, nil
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"security groups", func() error { return describeGroups(ctx, api, n, groups) }},
		{"route tables", func() error { return describeRoutes(ctx, api, n, vpcID, subnets) }},
		{"network ACLs", func() error { return describeACLs(ctx, api, n, subnets) }},
	} {
		if err := step.do(); err != nil {
			n.Unknown = append(n.Unknown, fmt.Sprintf("%s: %v", step.what, err))
		}
	}
	return n, nil
}

// denied says which right is missing.
func denied(action string, err error) error {
	var api smithy.APIError
	if errors.As(err, &api) && strings.Contains(api.ErrorCode(), "Unauthorized") {
		return fmt.Errorf("your AWS credentials may not call ec2:%s", action)
	}
	if api != nil {
		return fmt.Errorf("ec2:%s: %s: %s", action, api.ErrorCode(), api.ErrorMessage())
	}
	return fmt.Errorf("ec2:%s: %w", action, err)
}

func toInterface(i types.NetworkInterface) vpc.Interface {
	out := vpc.Interface{
		ID: aws.ToString(i.NetworkInterfaceId), Subnet: aws.ToString(i.SubnetId), SourceCheck: aws.ToBool(i.SourceDestCheck),
		Attached: i.Attachment != nil && i.Attachment.Status == types.AttachmentStatusAttached,
	}
	for _, a := range i.PrivateIpAddresses {
		if addr, err := netip.ParseAddr(aws.ToString(a.PrivateIpAddress)); err == nil {
			out.Addresses = append(out.Addresses, addr)
		}
	}
	for _, a := range i.Ipv6Addresses {
		if addr, err := netip.ParseAddr(aws.ToString(a.Ipv6Address)); err == nil {
			out.Addresses = append(out.Addresses, addr)
		}
	}
	for _, g := range i.Groups {
		out.Groups = append(out.Groups, aws.ToString(g.GroupId))
	}
	return out
}

func describeGroups(ctx context.Context, api describer, n *vpc.Network, ids []string) error {
	out, err := api.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: ids})
	if err != nil {
		return denied("DescribeSecurityGroups", err)
	}
	for _, g := range out.SecurityGroups {
		n.Groups = append(n.Groups, vpc.Group{
			ID: aws.ToString(g.GroupId), Name: aws.ToString(g.GroupName), Ingress: toRules(g.IpPermissions), Egress: toRules(g.IpPermissionsEgress),
		})
	}
	return nil
}

// protocolName is EC2's name or number of a protocol in our words.
func protocolName(s string) string {
	if name, err := flow.ParseProtocol(s); err == nil {
		return name
	}
	return s // -1
}

func toRules(permissions []types.IpPermission) []vpc.Rule {
	var out []vpc.Rule
	for _, p := range permissions {
		r := vpc.Rule{Protocol: protocolName(aws.ToString(p.IpProtocol)), From: -1, To: -1}
		if p.FromPort != nil {
			r.From, r.To = int(*p.FromPort), int(aws.ToInt32(p.ToPort))
		}
		for _, x := range p.IpRanges {
			if prefix, err := netip.ParsePrefix(aws.ToString(x.CidrIp)); err == nil {
				r.Prefixes = append(r.Prefixes, prefix)
			}
		}
		for _, x := range p.Ipv6Ranges {
			if prefix, err := netip.ParsePrefix(aws.ToString(x.CidrIpv6)); err == nil {
				r.Prefixes = append(r.Prefixes, prefix)
			}
		}
		for _, x := range p.UserIdGroupPairs {
			r.Groups = append(r.Groups, aws.ToString(x.GroupId))
		}
		for _, x := range p.PrefixListIds {
			r.Lists = append(r.Lists, aws.ToString(x.PrefixListId))
		}
		out = append(out, r)
	}
	return out
}

// describeRoutes reads each subnet's table; one that none is associated with has the VPC's main one.
func describeRoutes(ctx context.Context, api describer, n *vpc.Network, vpcID string, subnets []string) error {
	var filter []types.Filter
	if vpcID != "" {
		filter = []types.Filter{{Name: aws.String("vpc-id"), Values: []string{vpcID}}}
	}
	out, err := api.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: filter})
	if err != nil {
		return denied("DescribeRouteTables", err)
	}
	find := func(match func(types.RouteTableAssociation) bool) *types.RouteTable {
		i := slices.IndexFunc(out.RouteTables, func(t types.RouteTable) bool { return slices.ContainsFunc(t.Associations, match) })
		if i < 0 {
			return nil
		}
		return &out.RouteTables[i]
	}
	for _, subnet := range subnets {
		t := find(func(a types.RouteTableAssociation) bool { return aws.ToString(a.SubnetId) == subnet })
		if t == nil {
			t = find(func(a types.RouteTableAssociation) bool { return aws.ToBool(a.Main) })
		}
		if t != nil {
			n.Routes = append(n.Routes, toTable(*t, subnet))
		}
	}
	return nil
}

func toTable(t types.RouteTable, subnet string) vpc.RouteTable {
	out := vpc.RouteTable{ID: aws.ToString(t.RouteTableId), Subnet: subnet}
	for _, r := range t.Routes {
		route := vpc.Route{Blackhole: r.State == types.RouteStateBlackhole}
		for _, cidr := range []*string{r.DestinationCidrBlock, r.DestinationIpv6CidrBlock} {
			if p, err := netip.ParsePrefix(aws.ToString(cidr)); err == nil {
				route.Prefix = p
			}
		}
		for _, target := range []*string{r.GatewayId, r.NatGatewayId, r.TransitGatewayId, r.VpcPeeringConnectionId, r.NetworkInterfaceId, r.EgressOnlyInternetGatewayId, r.InstanceId, r.LocalGatewayId, r.CarrierGatewayId} {
			if target != nil {
				route.Target = *target
			}
		}
		if r.DestinationPrefixListId != nil {
			out.Lists = append(out.Lists, *r.DestinationPrefixListId)
		}
		if route.Prefix.IsValid() {
			out.Routes = append(out.Routes, route)
		}
	}
	return out
}

func describeACLs(ctx context.Context, api describer, n *vpc.Network, subnets []string) error {
	out, err := api.DescribeNetworkAcls(ctx, &ec2.DescribeNetworkAclsInput{
		Filters: []types.Filter{{Name: aws.String("association.subnet-id"), Values: subnets}},
	})
	if err != nil {
		return denied("DescribeNetworkAcls", err)
	}
	for _, a := range out.NetworkAcls {
		for _, as := range a.Associations {
			subnet := aws.ToString(as.SubnetId)
			if !slices.Contains(subnets, subnet) {
				continue
			}
			acl := vpc.ACL{ID: aws.ToString(a.NetworkAclId), Subnet: subnet}
			for _, e := range a.Entries {
				if entry, ok := toEntry(e); ok && aws.ToBool(e.Egress) {
					acl.Egress = append(acl.Egress, entry)
				} else if ok {
					acl.Ingress = append(acl.Ingress, entry)
				}
			}
			for _, list := range [][]vpc.Entry{acl.Ingress, acl.Egress} {
				slices.SortFunc(list, func(x, y vpc.Entry) int { return x.Number - y.Number })
			}
			n.ACLs = append(n.ACLs, acl)
		}
	}
	return nil
}

func toEntry(e types.NetworkAclEntry) (vpc.Entry, bool) {
	cidr := aws.ToString(e.CidrBlock)
	if cidr == "" {
		cidr = aws.ToString(e.Ipv6CidrBlock)
	}
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return vpc.Entry{}, false
	}
	out := vpc.Entry{
		Number: int(aws.ToInt32(e.RuleNumber)), Allow: e.RuleAction == types.RuleActionAllow, Protocol: protocolName(aws.ToString(e.Protocol)),
		From: -1, To: -1, Prefix: prefix,
	}
	if e.PortRange != nil {
		out.From, out.To = int(aws.ToInt32(e.PortRange.From)), int(aws.ToInt32(e.PortRange.To))
	}
	return out, true
}
