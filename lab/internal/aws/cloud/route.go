package cloud

import (
	"context"
	"net/netip"
	"slices"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
)

// changeRoutes lets fn change the routes of a table. i is where the destination's route is, or -1.
func (c *Cloud) changeRoutes(ctx context.Context, table string, destination netip.Prefix, fn func(m *Model, t *RouteTable, i int) error) error {
	return c.change(ctx, func(m *Model) error {
		t := m.RouteTables[table]
		if t == nil {
			return notFound("InvalidRouteTableID.NotFound", "The routeTable ID '%s' does not exist", table)
		}
		return fn(m, t, slices.IndexFunc(t.Routes, func(r Route) bool { return r.Destination == destination }))
	})
}

// checkTarget refuses a route to what isn't there, and one that the lab's network doesn't follow.
func (m *Model) checkTarget(t *RouteTable, r Route) error {
	v := m.VPCs[t.VPCID]
	switch {
	case (r.Gateway == "") == (r.NATGateway == ""):
		return apierror.New("InvalidParameterCombination", "The request must contain exactly one of gatewayId, natGatewayId, networkInterfaceId, vpcPeeringConnectionId or transitGatewayId")
	case r.Gateway != "" && r.Gateway != v.Gateway:
		return notFound("InvalidGatewayID.NotFound", "The gateway ID '%s' does not exist", r.Gateway)
	case r.NATGateway != "" && r.NATGateway != v.NATGateway:
		return notFound("InvalidNatGatewayID.NotFound", "The natGateway ID '%s' does not exist", r.NATGateway)
	case r.Destination.Bits() != 0:
		return apierror.New("UnsupportedOperation", "The lab's network follows default routes only: the destination is %s, expected 0.0.0.0/0", r.Destination)
	}
	return nil
}

// CreateRoute adds a route.
func (c *Cloud) CreateRoute(ctx context.Context, table string, r Route) error {
	return c.changeRoutes(ctx, table, r.Destination, func(m *Model, t *RouteTable, i int) error {
		if i >= 0 {
			return apierror.New("RouteAlreadyExists", "The route identified by %s already exists.", r.Destination)
		}
		if err := m.checkTarget(t, r); err != nil {
			return err
		}
		t.Routes = append(t.Routes, r)
		return nil
	})
}

// ReplaceRoute gives a route another target.
func (c *Cloud) ReplaceRoute(ctx context.Context, table string, r Route) error {
	return c.changeRoutes(ctx, table, r.Destination, func(m *Model, t *RouteTable, i int) error {
		if i < 0 {
			return apierror.New("InvalidParameterValue", "There is no route defined for '%s' in the route table. Use CreateRoute instead.", r.Destination)
		}
		if err := m.checkTarget(t, r); err != nil {
			return err
		}
		t.Routes = slices.Clone(t.Routes)
		t.Routes[i] = r
		return nil
	})
}

// DeleteRoute takes a route away. The VPC's own stays.
func (c *Cloud) DeleteRoute(ctx context.Context, table string, destination netip.Prefix) error {
	return c.changeRoutes(ctx, table, destination, func(_ *Model, t *RouteTable, i int) error {
		switch {
		case i < 0:
			return notFound("InvalidRoute.NotFound", "no route with destination-cidr-block %s in route table %s", destination.String(), table)
		case t.Routes[i].Gateway == "local":
			return apierror.New("InvalidParameterValue", "cannot remove local route %s in route table %s", destination, table)
		}
		t.Routes = slices.Delete(slices.Clone(t.Routes), i, i+1)
		return nil
	})
}
