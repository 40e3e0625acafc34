package ec2

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
)

func TestRoutes(t *testing.T) {
	r := newRig(t, nil)
	ctx := t.Context()
	table := func() types.RouteTable {
		t.Helper()
		out, err := r.ec2.DescribeRouteTables(ctx, &sdk.DescribeRouteTablesInput{
			Filters: []types.Filter{{Name: aws.String("association.subnet-id"), Values: []string{r.node.SubnetID}}}})
		if err != nil || len(out.RouteTables) != 1 {
			t.Fatalf("%v, %+v", err, out)
		}
		return out.RouteTables[0]
	}
	isolated := func() (yes bool) {
		r.cloud.Read(func(m *cloud.Model) {
			for _, s := range m.FabricState().Subnets {
				yes = yes || s.ID == r.node.SubnetID && s.Isolated
			}
		})
		return yes
	}
	all, id := aws.String("0.0.0.0/0"), table().RouteTableId
	was := table().Routes[1]
	if *was.DestinationCidrBlock != *all || isolated() {
		t.Fatalf("the node's subnet has no default route: %+v", table().Routes)
	}
	var nat *string
	every, err := r.ec2.DescribeRouteTables(ctx, &sdk.DescribeRouteTablesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range every.RouteTables {
		for _, route := range x.Routes {
			if route.NatGatewayId != nil {
				nat = route.NatGatewayId
			}
		}
	}
	if _, err = r.ec2.ReplaceRoute(ctx, &sdk.ReplaceRouteInput{RouteTableId: id, DestinationCidrBlock: all, NatGatewayId: nat}); err != nil {
		t.Fatal(err)
	}
	if got := table().Routes[1]; aws.ToString(got.NatGatewayId) != *nat || got.GatewayId != nil {
		t.Errorf("the route is %+v, expected one by %s", got, *nat)
	}
	if _, err = r.ec2.DeleteRoute(ctx, &sdk.DeleteRouteInput{RouteTableId: id, DestinationCidrBlock: all}); err != nil {
		t.Fatal(err)
	}
	if len(table().Routes) != 1 || !isolated() {
		t.Errorf("routes are %+v, isolated: %v; expected the local one and isolation", table().Routes, isolated())
	}
	_, err = r.ec2.DeleteRoute(ctx, &sdk.DeleteRouteInput{RouteTableId: id, DestinationCidrBlock: all})
	wantCode(t, err, "InvalidRoute.NotFound")
	_, err = r.ec2.DeleteRoute(ctx, &sdk.DeleteRouteInput{RouteTableId: id, DestinationCidrBlock: table().Routes[0].DestinationCidrBlock})
	wantCode(t, err, "InvalidParameterValue")
	_, err = r.ec2.ReplaceRoute(ctx, &sdk.ReplaceRouteInput{RouteTableId: id, DestinationCidrBlock: all, NatGatewayId: nat})
	wantCode(t, err, "InvalidParameterValue")
	_, err = r.ec2.CreateRoute(ctx, &sdk.CreateRouteInput{RouteTableId: id, DestinationCidrBlock: all})
	wantCode(t, err, "InvalidParameterCombination")
	_, err = r.ec2.CreateRoute(ctx, &sdk.CreateRouteInput{RouteTableId: id, DestinationCidrBlock: all, GatewayId: aws.String("igw-00000000000000000")})
	wantCode(t, err, "InvalidGatewayID.NotFound")
	_, err = r.ec2.CreateRoute(ctx, &sdk.CreateRouteInput{RouteTableId: aws.String("rtb-00000000000000000"), DestinationCidrBlock: all, NatGatewayId: nat})
	wantCode(t, err, "InvalidRouteTableID.NotFound")
	_, err = r.ec2.CreateRoute(ctx, &sdk.CreateRouteInput{RouteTableId: id, DestinationCidrBlock: aws.String("all"), NatGatewayId: nat})
	wantCode(t, err, "InvalidParameterValue")
	create := &sdk.CreateRouteInput{RouteTableId: id, DestinationCidrBlock: all, GatewayId: was.GatewayId}
	if _, err = r.ec2.CreateRoute(ctx, create); err != nil {
		t.Fatal(err)
	}
	if isolated() {
		t.Error("isolated with a default route")
	}
	_, err = r.ec2.CreateRoute(ctx, create)
	wantCode(t, err, "RouteAlreadyExists")
}
