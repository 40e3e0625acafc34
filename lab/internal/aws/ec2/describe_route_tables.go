package ec2

import (
	"maps"
	"slices"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func describeRouteTables() query.Action {
	type route struct {
		Destination string `xml:"destinationCidrBlock"`
		Gateway     string `xml:"gatewayId,omitempty"`
		NATGateway  string `xml:"natGatewayId,omitempty"`
		State       string `xml:"state"`
		Origin      string `xml:"origin"`
	}
	type state struct {
		State string `xml:"state"`
	}
	type association struct {
		ID     string `xml:"routeTableAssociationId"`
		Table  string `xml:"routeTableId"`
		Subnet string `xml:"subnetId,omitempty"`
		Main   bool   `xml:"main"`
		State  state  `xml:"associationState"`
	}
	type table struct {
		ID           string        `xml:"routeTableId"`
		VPCID        string        `xml:"vpcId"`
		OwnerID      string        `xml:"ownerId"`
		Routes       []route       `xml:"routeSet>item"`
		Associations []association `xml:"associationSet>item"`
		Tags         []tagXML      `xml:"tagSet>item"`
	}
	type answer struct {
		Set       []table `xml:"routeTableSet>item"`
		NextToken string  `xml:"nextToken,omitempty"`
	}
	return query.Action{
		Name:   "DescribeRouteTables",
		Params: []string{"Filter", "RouteTableId", "MaxResults", "NextToken"},
		Run: func(call *query.Call) (any, error) {
			var out answer
			var err error
			call.Cloud.Read(func(m *cloud.Model) {
				var list []*cloud.RouteTable
				list, out.NextToken, err = tableListing(m).selected(call.Params, cloud.Sorted(m.RouteTables))
				for _, t := range list {
					x := table{ID: t.ID, VPCID: t.VPCID, OwnerID: m.Account, Tags: tagsXML(t.Tags)}
					for _, r := range t.Routes {
						origin := "CreateRoute"
						if r.Gateway == "local" {
							origin = "CreateRouteTable"
						}
						x.Routes = append(x.Routes, route{Destination: r.Destination.String(), Gateway: r.Gateway, NATGateway: r.NATGateway, State: "active", Origin: origin})
					}
					if t.Main {
						x.Associations = append(x.Associations, association{ID: t.MainAssociation, Table: t.ID, Main: true, State: state{"associated"}})
					}
					for _, id := range slices.Sorted(maps.Keys(t.Subnets)) {
						x.Associations = append(x.Associations, association{ID: id, Table: t.ID, Subnet: t.Subnets[id], State: state{"associated"}})
					}
					out.Set = append(out.Set, x)
				}
			})
			return out, err
		},
	}
}

func tableListing(m *cloud.Model) listing[*cloud.RouteTable] {
	routes := func(get func(cloud.Route) string) func(*cloud.RouteTable) []string {
		return func(t *cloud.RouteTable) []string {
			var out []string
			for _, r := range t.Routes {
				out = append(out, one(get(r))...)
			}
			return out
		}
	}
	return listing[*cloud.RouteTable]{
		kind: tableKind(), idParam: "RouteTableId", plural: "RouteTableIds", low: 5, high: 100,
		id: func(t *cloud.RouteTable) string { return t.ID }, tags: func(t *cloud.RouteTable) map[string]string { return t.Tags },
		fields: map[string]func(*cloud.RouteTable) []string{
			"association.main": func(t *cloud.RouteTable) []string {
				var out []string
				if t.Main {
					out = append(out, "true")
				}
				if len(t.Subnets) > 0 {
					out = append(out, "false")
				}
				return out
			},
			// Only what a subnet names itself: those of the main table are found by association.main alone.
			"association.subnet-id": func(t *cloud.RouteTable) []string { return slices.Collect(maps.Values(t.Subnets)) },
			"association.route-table-association-id": func(t *cloud.RouteTable) []string {
				return append(slices.Collect(maps.Keys(t.Subnets)), one(t.MainAssociation)...)
			},
			"association.route-table-id":   func(t *cloud.RouteTable) []string { return one(t.ID) },
			"association.gateway-id":       func(*cloud.RouteTable) []string { return nil },
			"owner-id":                     func(*cloud.RouteTable) []string { return one(m.Account) },
			"route-table-id":               func(t *cloud.RouteTable) []string { return one(t.ID) },
			"route.destination-cidr-block": routes(func(r cloud.Route) string { return r.Destination.String() }),
			"route.gateway-id":             routes(func(r cloud.Route) string { return r.Gateway }),
			"route.nat-gateway-id":         routes(func(r cloud.Route) string { return r.NATGateway }),
			"route.transit-gateway-id":     func(*cloud.RouteTable) []string { return nil },
			"route.state":                  func(*cloud.RouteTable) []string { return one("active") },
			"vpc-id":                       func(t *cloud.RouteTable) []string { return one(t.VPCID) },
		},
	}
}
