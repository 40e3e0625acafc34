package ec2

import (
	"fmt"
	"strconv"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func describeSubnets() query.Action {
	type hostNames struct {
		Type string `xml:"hostnameType"`
		A    bool   `xml:"enableResourceNameDnsARecord"`
		AAAA bool   `xml:"enableResourceNameDnsAAAARecord"`
	}
	type subnet struct {
		ID          string    `xml:"subnetId"`
		ARN         string    `xml:"subnetArn"`
		State       string    `xml:"state"`
		OwnerID     string    `xml:"ownerId"`
		VPCID       string    `xml:"vpcId"`
		CIDR        string    `xml:"cidrBlock"`
		Free        int       `xml:"availableIpAddressCount"`
		AZ          string    `xml:"availabilityZone"`
		AZID        string    `xml:"availabilityZoneId"`
		DefaultAZ   bool      `xml:"defaultForAz"`
		MapPublicIP bool      `xml:"mapPublicIpOnLaunch"`
		AssignIPv6  bool      `xml:"assignIpv6AddressOnCreation"`
		CustomerIP  bool      `xml:"mapCustomerOwnedIpOnLaunch"`
		DNS64       bool      `xml:"enableDns64"`
		IPv6Native  bool      `xml:"ipv6Native"`
		HostNames   hostNames `xml:"privateDnsNameOptionsOnLaunch"`
		Tags        []tagXML  `xml:"tagSet>item"`
	}
	type answer struct {
		Set       []subnet `xml:"subnetSet>item"`
		NextToken string   `xml:"nextToken,omitempty"`
	}
	return query.Action{
		Name:   "DescribeSubnets",
		Params: []string{"Filter", "SubnetId", "MaxResults", "NextToken"},
		Run: func(call *query.Call) (any, error) {
			var out answer
			var err error
			call.Cloud.Read(func(m *cloud.Model) {
				arn := func(s *cloud.Subnet) string {
					return fmt.Sprintf("arn:aws:ec2:%s:%s:subnet/%s", m.Region, m.Account, s.ID)
				}
				l := listing[*cloud.Subnet]{
					kind: subnetKind(), idParam: "SubnetId", plural: "SubnetIds", low: 5, high: 1000,
					id: func(s *cloud.Subnet) string { return s.ID }, tags: func(s *cloud.Subnet) map[string]string { return s.Tags },
					fields: map[string]func(*cloud.Subnet) []string{
						"availability-zone":                 func(s *cloud.Subnet) []string { return one(s.AZ) },
						"availabilityZone":                  func(s *cloud.Subnet) []string { return one(s.AZ) },
						"availability-zone-id":              func(s *cloud.Subnet) []string { return one(m.ZoneID(s.AZ)) },
						"availabilityZoneId":                func(s *cloud.Subnet) []string { return one(m.ZoneID(s.AZ)) },
						"available-ip-address-count":        func(s *cloud.Subnet) []string { return one(strconv.Itoa(s.Free())) },
						"cidr":                              func(s *cloud.Subnet) []string { return one(s.CIDR.String()) },
						"cidrBlock":                         func(s *cloud.Subnet) []string { return one(s.CIDR.String()) },
						"cidr-block":                        func(s *cloud.Subnet) []string { return one(s.CIDR.String()) },
						"default-for-az":                    func(*cloud.Subnet) []string { return yes(false) },
						"defaultForAz":                      func(*cloud.Subnet) []string { return yes(false) },
						"ipv6-native":                       func(*cloud.Subnet) []string { return yes(false) },
						"map-public-ip-on-launch":           func(s *cloud.Subnet) []string { return yes(s.MapPublicIP) },
						"owner-id":                          func(*cloud.Subnet) []string { return one(m.Account) },
						"state":                             func(*cloud.Subnet) []string { return one("available") },
						"subnet-arn":                        func(s *cloud.Subnet) []string { return one(arn(s)) },
						"subnet-id":                         func(s *cloud.Subnet) []string { return one(s.ID) },
						"vpc-id":                            func(s *cloud.Subnet) []string { return one(s.VPCID) },
						"ipv6-cidr-block-association.state": func(*cloud.Subnet) []string { return nil },
					},
				}
				var list []*cloud.Subnet
				list, out.NextToken, err = l.selected(call.Params, cloud.Sorted(m.Subnets))
				for _, s := range list {
					out.Set = append(out.Set, subnet{
						ID: s.ID, ARN: arn(s), State: "available", OwnerID: m.Account, VPCID: s.VPCID, CIDR: s.CIDR.String(), Free: s.Free(), AZ: s.AZ,
						AZID: m.ZoneID(s.AZ), MapPublicIP: s.MapPublicIP, HostNames: hostNames{Type: "ip-name"}, Tags: tagsXML(s.Tags),
					})
				}
			})
			return out, err
		},
	}
}
