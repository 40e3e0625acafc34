package ec2

import (
	"slices"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func describeAvailabilityZones() query.Action {
	type zone struct {
		Name   string `xml:"zoneName"`
		State  string `xml:"zoneState"`
		Region string `xml:"regionName"`
		ID     string `xml:"zoneId"`
		Group  string `xml:"groupName"`
		Border string `xml:"networkBorderGroup"`
		OptIn  string `xml:"optInStatus"`
		Type   string `xml:"zoneType"`
	}
	type answer struct {
		Set []zone `xml:"availabilityZoneInfo>item"`
	}
	return query.Action{
		Name:   "DescribeAvailabilityZones",
		Params: []string{"Filter", "ZoneName", "ZoneId", "AllAvailabilityZones"},
		Run: func(call *query.Call) (any, error) {
			var all []cloud.Zone
			call.Cloud.Read(func(m *cloud.Model) { all = m.Zones() })
			for param, get := range map[string]func(cloud.Zone) string{
				"ZoneName": func(z cloud.Zone) string { return z.Name }, "ZoneId": func(z cloud.Zone) string { return z.ID },
			} {
				want := call.Params.List(param)
				for _, w := range want {
					if !slices.ContainsFunc(all, func(z cloud.Zone) bool { return get(z) == w }) {
						return nil, apierror.New("InvalidParameterValue", "Invalid availability zone: [%s]", w)
					}
				}
				if len(want) > 0 {
					all = slices.DeleteFunc(all, func(z cloud.Zone) bool { return !slices.Contains(want, get(z)) })
				}
			}
			region := call.Cloud.Region()
			l := listing[cloud.Zone]{
				id: func(z cloud.Zone) string { return z.Name },
				fields: map[string]func(cloud.Zone) []string{
					"zone-name": func(z cloud.Zone) []string { return one(z.Name) }, "zone-id": func(z cloud.Zone) []string { return one(z.ID) },
					"region-name": func(cloud.Zone) []string { return one(region) }, "state": func(cloud.Zone) []string { return one("available") },
					"group-name": func(cloud.Zone) []string { return one(region + "-zg-1") }, "zone-type": func(cloud.Zone) []string { return one("availability-zone") },
					"opt-in-status": func(cloud.Zone) []string { return one("opt-in-not-required") },
				},
			}
			list, err := l.filter(call.Params, all)
			var out answer
			for _, z := range list {
				out.Set = append(out.Set, zone{z.Name, "available", region, z.ID, region + "-zg-1", region, "opt-in-not-required", "availability-zone"})
			}
			return out, err
		},
	}
}
