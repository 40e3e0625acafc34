package ec2

import (
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func describeVPCs() query.Action {
	type state struct {
		State string `xml:"state"`
	}
	type block struct {
		CIDR  string `xml:"cidrBlock"`
		ID    string `xml:"associationId"`
		State state  `xml:"cidrBlockState"`
	}
	type vpc struct {
		ID      string   `xml:"vpcId"`
		OwnerID string   `xml:"ownerId"`
		State   string   `xml:"state"`
		CIDR    string   `xml:"cidrBlock"`
		Blocks  []block  `xml:"cidrBlockAssociationSet>item"`
		DHCP    string   `xml:"dhcpOptionsId"`
		Tenancy string   `xml:"instanceTenancy"`
		Default bool     `xml:"isDefault"`
		Tags    []tagXML `xml:"tagSet>item"`
	}
	type answer struct {
		Set       []vpc  `xml:"vpcSet>item"`
		NextToken string `xml:"nextToken,omitempty"`
	}
	return query.Action{
		Name:   "DescribeVpcs",
		Params: []string{"Filter", "VpcId", "MaxResults", "NextToken"},
		Run: func(call *query.Call) (any, error) {
			var out answer
			var err error
			call.Cloud.Read(func(m *cloud.Model) {
				cidr := func(v *cloud.VPC) []string { return one(v.CIDR.String()) }
				l := listing[*cloud.VPC]{
					kind: vpcKind(), idParam: "VpcId", plural: "VpcIds", low: 5, high: 1000,
					id: func(v *cloud.VPC) string { return v.ID }, tags: func(v *cloud.VPC) map[string]string { return v.Tags },
					fields: map[string]func(*cloud.VPC) []string{
						"cidr":                                   cidr,
						"cidr-block-association.cidr-block":      cidr,
						"cidr-block-association.association-id":  func(v *cloud.VPC) []string { return one(v.AssociateID) },
						"cidr-block-association.state":           func(*cloud.VPC) []string { return one("associated") },
						"dhcp-options-id":                        func(v *cloud.VPC) []string { return one(v.DHCPOptions) },
						"ipv6-cidr-block-association.cidr-block": func(*cloud.VPC) []string { return nil },
						"is-default":                             func(v *cloud.VPC) []string { return yes(v.IsDefault) },
						"isDefault":                              func(v *cloud.VPC) []string { return yes(v.IsDefault) },
						"owner-id":                               func(*cloud.VPC) []string { return one(m.Account) },
						"state":                                  func(*cloud.VPC) []string { return one("available") },
						"vpc-id":                                 func(v *cloud.VPC) []string { return one(v.ID) },
					},
				}
				var list []*cloud.VPC
				list, out.NextToken, err = l.selected(call.Params, cloud.Sorted(m.VPCs))
				for _, v := range list {
					out.Set = append(out.Set, vpc{
						ID: v.ID, OwnerID: m.Account, State: "available", CIDR: v.CIDR.String(), DHCP: v.DHCPOptions, Tenancy: "default", Default: v.IsDefault,
						Blocks: []block{{CIDR: v.CIDR.String(), ID: v.AssociateID, State: state{"associated"}}}, Tags: tagsXML(v.Tags),
					})
				}
			})
			return out, err
		},
	}
}
