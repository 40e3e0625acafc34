package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func routeParams() []string {
	return []string{"RouteTableId", "DestinationCidrBlock", "GatewayId", "NatGatewayId"}
}

// routeOf reads what the actions on one route have in common.
func routeOf(call *query.Call) (table string, route cloud.Route, err error) {
	table = call.Params.Required("RouteTableId")
	call.Params.Required("DestinationCidrBlock")
	if err := call.Params.Err(); err != nil {
		return "", route, err
	}
	if err := tableKind().check(table); err != nil {
		return "", route, err
	}
	route = cloud.Route{
		Destination: call.Params.Prefix("DestinationCidrBlock"), Gateway: call.Params.String("GatewayId"), NATGateway: call.Params.String("NatGatewayId"),
	}
	return table, route, call.Params.Err()
}
