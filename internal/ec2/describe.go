package ec2

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

const (
	maxFilterValues = 100 // EC2 takes 200
	pageSize        = 1000
	typesPageSize   = 100
)

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}

// chunks cuts values to what one filter takes; no values make one empty chunk.
func chunks(values []string) [][]string {
	if len(values) == 0 {
		return [][]string{nil}
	}
	return slices.Collect(slices.Chunk(values, maxFilterValues))
}

// DescribeInstances finds those of the instances that EC2 knows.
func (c *Client) DescribeInstances(ctx context.Context, ids []string) ([]Instance, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var out []Instance
	for _, chunk := range chunks(ids) {
		p := sdk.NewDescribeInstancesPaginator(c.sdk, &sdk.DescribeInstancesInput{
			Filters: []types.Filter{filter("instance-id", chunk...)}, MaxResults: aws.Int32(pageSize),
		})
		for p.HasMorePages() {
			page, err := p.NextPage(ctx)
			if err != nil {
				return nil, wrap(ActionDescribeInstances, err)
			}
			for _, r := range page.Reservations {
				for _, i := range r.Instances {
					out = append(out, instance(i))
				}
			}
		}
	}
	return out, nil
}

func instance(i types.Instance) Instance {
	out := Instance{ID: aws.ToString(i.InstanceId), Type: string(i.InstanceType), VPCID: aws.ToString(i.VpcId), Subnet: aws.ToString(i.SubnetId)}
	if i.State != nil {
		out.State = string(i.State.Name)
	}
	if i.Placement != nil {
		out.Zone = aws.ToString(i.Placement.AvailabilityZone)
	}
	return out
}

// DescribeInstanceTypes returns the limits of the types.
func (c *Client) DescribeInstanceTypes(ctx context.Context, names []string) ([]InstanceType, error) {
	if len(names) == 0 {
		return nil, nil
	}
	var out []InstanceType
	for _, chunk := range chunks(names) {
		p := sdk.NewDescribeInstanceTypesPaginator(c.sdk, &sdk.DescribeInstanceTypesInput{
			Filters: []types.Filter{filter("instance-type", chunk...)}, MaxResults: aws.Int32(typesPageSize),
		})
		for p.HasMorePages() {
			page, err := p.NextPage(ctx)
			if err != nil {
				return nil, wrap(ActionDescribeInstanceTypes, err)
			}
			for _, t := range page.InstanceTypes {
				out = append(out, instanceType(t))
			}
		}
	}
	return out, nil
}

// instanceType takes the default card's number of interfaces: the type's own is the sum over all cards.
func instanceType(t types.InstanceTypeInfo) InstanceType {
	out := InstanceType{Name: string(t.InstanceType)}
	n := t.NetworkInfo
	if n == nil {
		return out
	}
	out.Interfaces = int(aws.ToInt32(n.MaximumNetworkInterfaces))
	out.AddressesPerInterface = int(aws.ToInt32(n.Ipv4AddressesPerInterface))
	for _, card := range n.NetworkCards {
		if aws.ToInt32(card.NetworkCardIndex) == aws.ToInt32(n.DefaultNetworkCardIndex) && card.MaximumNetworkInterfaces != nil {
			out.Interfaces = int(*card.MaximumNetworkInterfaces)
		}
	}
	return out
}

// DescribeInterfaces returns the ENIs that match.
func (c *Client) DescribeInterfaces(ctx context.Context, q InterfaceQuery) ([]Interface, error) {
	var fixed []types.Filter
	add := func(name, value string) {
		if value != "" {
			fixed = append(fixed, filter(name, value))
		}
	}
	add("vpc-id", q.VPCID)
	add("status", q.Status)
	add("description", q.Description)
	for _, k := range sortedKeys(q.Tags) {
		fixed = append(fixed, filter("tag:"+k, q.Tags[k]))
	}
	var out []Interface
	for _, ids := range chunks(q.IDs) {
		for _, attached := range chunks(q.InstanceIDs) {
			for _, made := range chunks(q.MadeFor) {
				filters := slices.Clone(fixed)
				for name, values := range map[string][]string{"network-interface-id": ids, "attachment.instance-id": attached, "tag:" + TagInstance: made} {
					if len(values) > 0 {
						filters = append(filters, filter(name, values...))
					}
				}
				found, err := c.describeInterfaces(ctx, filters)
				if err != nil {
					return nil, err
				}
				out = append(out, found...)
			}
		}
	}
	return out, nil
}

func (c *Client) describeInterfaces(ctx context.Context, filters []types.Filter) ([]Interface, error) {
	if len(filters) == 0 {
		return nil, fmt.Errorf("ec2:%s: a query without a condition", ActionDescribeInterfaces)
	}
	p := sdk.NewDescribeNetworkInterfacesPaginator(c.sdk, &sdk.DescribeNetworkInterfacesInput{Filters: filters, MaxResults: aws.Int32(pageSize)})
	var out []Interface
	for p.HasMorePages() {
		page, err := p.NextPage(ctx)
		if err != nil {
			return nil, wrap(ActionDescribeInterfaces, err)
		}
		for _, i := range page.NetworkInterfaces {
			e, err := networkInterface(i)
			if err != nil {
				return nil, &Error{Action: ActionDescribeInterfaces, Kind: ErrUncertain, Err: err}
			}
			out = append(out, e)
		}
	}
	return out, nil
}

func networkInterface(i types.NetworkInterface) (Interface, error) {
	e := Interface{
		ID: aws.ToString(i.NetworkInterfaceId), MAC: aws.ToString(i.MacAddress), SubnetID: aws.ToString(i.SubnetId),
		VPCID: aws.ToString(i.VpcId), Zone: aws.ToString(i.AvailabilityZone), Description: aws.ToString(i.Description),
		Status: string(i.Status), Tags: map[string]string{},
	}
	var err error
	if e.Primary, err = netip.ParseAddr(aws.ToString(i.PrivateIpAddress)); err != nil {
		return Interface{}, fmt.Errorf("%s: address: %w", e.ID, err)
	}
	for _, g := range i.Groups {
		e.Groups = append(e.Groups, aws.ToString(g.GroupId))
	}
	for _, a := range i.PrivateIpAddresses {
		if aws.ToBool(a.Primary) {
			continue
		}
		addr, err := netip.ParseAddr(aws.ToString(a.PrivateIpAddress))
		if err != nil {
			return Interface{}, fmt.Errorf("%s: secondary address: %w", e.ID, err)
		}
		if addr != e.Primary {
			e.Secondary = append(e.Secondary, addr)
		}
	}
	for _, p := range i.Ipv4Prefixes {
		prefix, err := netip.ParsePrefix(aws.ToString(p.Ipv4Prefix))
		if err != nil {
			return Interface{}, fmt.Errorf("%s: prefix: %w", e.ID, err)
		}
		e.Prefixes = append(e.Prefixes, prefix)
	}
	for _, t := range i.TagSet {
		e.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	if a := i.Attachment; a != nil && a.AttachmentId != nil {
		e.Attachment = &Attachment{
			ID: *a.AttachmentId, InstanceID: aws.ToString(a.InstanceId), DeviceIndex: int(aws.ToInt32(a.DeviceIndex)),
			CardIndex: int(aws.ToInt32(a.NetworkCardIndex)), Status: string(a.Status), DeleteOnTermination: aws.ToBool(a.DeleteOnTermination),
		}
	}
	return e, nil
}

// DescribeSubnets returns the VPC's subnets that have an IPv4 block.
func (c *Client) DescribeSubnets(ctx context.Context, vpcID string) ([]Subnet, error) {
	p := sdk.NewDescribeSubnetsPaginator(c.sdk, &sdk.DescribeSubnetsInput{Filters: []types.Filter{filter("vpc-id", vpcID)}, MaxResults: aws.Int32(pageSize)})
	var out []Subnet
	for p.HasMorePages() {
		page, err := p.NextPage(ctx)
		if err != nil {
			return nil, wrap(ActionDescribeSubnets, err)
		}
		for _, s := range page.Subnets {
			cidr, err := netip.ParsePrefix(aws.ToString(s.CidrBlock))
			if err != nil {
				continue // IPv6 only
			}
			out = append(out, Subnet{ID: aws.ToString(s.SubnetId), CIDR: cidr.Masked(), Zone: aws.ToString(s.AvailabilityZone), Free: int(aws.ToInt32(s.AvailableIpAddressCount))})
		}
	}
	return out, nil
}

// DescribeVPC returns the IPv4 blocks that are associated with the VPC.
func (c *Client) DescribeVPC(ctx context.Context, vpcID string) ([]netip.Prefix, error) {
	page, err := c.sdk.DescribeVpcs(ctx, &sdk.DescribeVpcsInput{Filters: []types.Filter{filter("vpc-id", vpcID)}})
	if err != nil {
		return nil, wrap(ActionDescribeVPCs, err)
	}
	var out []netip.Prefix
	add := func(cidr *string) {
		if p, err := netip.ParsePrefix(aws.ToString(cidr)); err == nil && !slices.Contains(out, p.Masked()) {
			out = append(out, p.Masked())
		}
	}
	for _, v := range page.Vpcs {
		for _, a := range v.CidrBlockAssociationSet {
			if a.CidrBlockState == nil || a.CidrBlockState.State == types.VpcCidrBlockStateCodeAssociated || a.CidrBlockState.State == types.VpcCidrBlockStateCodeAssociating {
				add(a.CidrBlock)
			}
		}
		add(v.CidrBlock)
	}
	return out, nil
}

// DescribeRouteTables returns the VPC's route tables.
func (c *Client) DescribeRouteTables(ctx context.Context, vpcID string) ([]RouteTable, error) {
	p := sdk.NewDescribeRouteTablesPaginator(c.sdk, &sdk.DescribeRouteTablesInput{Filters: []types.Filter{filter("vpc-id", vpcID)}, MaxResults: aws.Int32(typesPageSize)})
	var out []RouteTable
	for p.HasMorePages() {
		page, err := p.NextPage(ctx)
		if err != nil {
			return nil, wrap(ActionDescribeRouteTables, err)
		}
		for _, t := range page.RouteTables {
			out = append(out, routeTable(t))
		}
	}
	return out, nil
}

func routeTable(t types.RouteTable) RouteTable {
	out := RouteTable{ID: aws.ToString(t.RouteTableId)}
	for _, a := range t.Associations {
		out.Main = out.Main || aws.ToBool(a.Main)
		if a.SubnetId != nil {
			out.Subnets = append(out.Subnets, *a.SubnetId)
		}
	}
	for _, r := range t.Routes {
		if r.DestinationCidrBlock == nil {
			continue
		}
		target := ""
		for _, id := range []*string{r.GatewayId, r.NatGatewayId, r.TransitGatewayId, r.NetworkInterfaceId, r.InstanceId, r.VpcPeeringConnectionId} {
			if target == "" {
				target = aws.ToString(id)
			}
		}
		out.Routes = append(out.Routes, Route{Destination: *r.DestinationCidrBlock, Target: target, Active: r.State != types.RouteStateBlackhole})
	}
	return out
}

func sortedKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
