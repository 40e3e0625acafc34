package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func deleteRoute() query.Action {
	return query.Action{
		Name:   "DeleteRoute",
		Params: []string{"RouteTableId", "DestinationCidrBlock"},
		Needs:  on([2]string{"route-table", "RouteTableId"}),
		Run: func(call *query.Call) (any, error) {
			table, route, err := routeOf(call)
			if err != nil {
				return nil, err
			}
			return done{true}, call.Cloud.DeleteRoute(call.Context, table, route.Destination)
		},
	}
}
