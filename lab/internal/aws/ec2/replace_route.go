package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func replaceRoute() query.Action {
	return query.Action{
		Name:   "ReplaceRoute",
		Params: routeParams(),
		Needs:  on([2]string{"route-table", "RouteTableId"}),
		Run: func(call *query.Call) (any, error) {
			table, route, err := routeOf(call)
			if err != nil {
				return nil, err
			}
			return done{true}, call.Cloud.ReplaceRoute(call.Context, table, route)
		},
	}
}
