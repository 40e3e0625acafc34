package ec2

import (
	"net/netip"
	"strconv"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
)

type associationXML struct {
	PublicIP      string `xml:"publicIp"`
	PublicDNSName string `xml:"publicDnsName"`
	IPOwnerID     string `xml:"ipOwnerId"`
}

type addressXML struct {
	PrivateIP      string          `xml:"privateIpAddress"`
	PrivateDNSName string          `xml:"privateDnsName,omitempty"`
	Primary        bool            `xml:"primary"`
	Association    *associationXML `xml:"association,omitempty"`
}

type prefixXML struct {
	Prefix string `xml:"ipv4Prefix"`
}

type attachmentXML struct {
	ID                  string `xml:"attachmentId"`
	InstanceID          string `xml:"instanceId,omitempty"`
	InstanceOwner       string `xml:"instanceOwnerId,omitempty"`
	DeviceIndex         int    `xml:"deviceIndex"`
	NetworkCard         int    `xml:"networkCardIndex"`
	Status              string `xml:"status"`
	AttachTime          string `xml:"attachTime"`
	DeleteOnTermination bool   `xml:"deleteOnTermination"`
}

type eniXML struct {
	ID               string          `xml:"networkInterfaceId"`
	SubnetID         string          `xml:"subnetId"`
	VPCID            string          `xml:"vpcId"`
	AZ               string          `xml:"availabilityZone,omitempty"`
	AZID             string          `xml:"availabilityZoneId,omitempty"`
	Description      string          `xml:"description"`
	OwnerID          string          `xml:"ownerId"`
	RequesterID      string          `xml:"requesterId,omitempty"`
	RequesterManaged *bool           `xml:"requesterManaged,omitempty"`
	Status           string          `xml:"status"`
	MAC              string          `xml:"macAddress"`
	PrivateIP        string          `xml:"privateIpAddress"`
	PrivateDNSName   string          `xml:"privateDnsName,omitempty"`
	SourceDestCheck  bool            `xml:"sourceDestCheck"`
	Groups           []groupXML      `xml:"groupSet>item"`
	Attachment       *attachmentXML  `xml:"attachment,omitempty"`
	Association      *associationXML `xml:"association,omitempty"`
	Tags             []tagXML        `xml:"tagSet>item"`
	Addresses        []addressXML    `xml:"privateIpAddressesSet>item"`
	Prefixes         []prefixXML     `xml:"ipv4PrefixSet>item"`
	InterfaceType    string          `xml:"interfaceType"`
}

func associationOf(m *cloud.Model, a cloud.Address, managed bool) *associationXML {
	if !a.Public.IsValid() {
		return nil
	}
	owner := "amazon"
	if managed {
		owner = m.Account
	}
	return &associationXML{PublicIP: a.Public.String(), PublicDNSName: cloud.PublicDNSName(m.Region, a.Public), IPOwnerID: owner}
}

func newENIXML(m *cloud.Model, e *cloud.ENI) eniXML {
	managed := e.Requester != ""
	out := eniXML{
		ID: e.ID, SubnetID: e.SubnetID, VPCID: e.VPCID, AZ: e.AZ, AZID: m.ZoneID(e.AZ), Description: e.Description, OwnerID: m.Account,
		RequesterManaged: &managed, Status: e.Status(), MAC: e.MAC, PrivateIP: e.Primary().String(),
		PrivateDNSName: cloud.PrivateDNSName(m.Region, e.Primary()), SourceDestCheck: e.SourceDestCheck, Groups: groupsXML(m, e.Groups),
		Tags: tagsXML(e.Tags), InterfaceType: "interface",
	}
	if managed {
		out.RequesterID = e.Requester
	}
	for i, a := range e.Addresses {
		out.Addresses = append(out.Addresses, addressXML{
			PrivateIP: a.IP.String(), PrivateDNSName: cloud.PrivateDNSName(m.Region, a.IP), Primary: i == 0, Association: associationOf(m, a, false),
		})
	}
	if len(e.Addresses) > 0 {
		out.Association = associationOf(m, e.Addresses[0], false)
	}
	for _, p := range e.Prefixes {
		out.Prefixes = append(out.Prefixes, prefixXML{p.String()})
	}
	if a := e.Attachment; a != nil {
		out.Attachment = &attachmentXML{
			ID: a.ID, InstanceID: a.InstanceID, InstanceOwner: a.InstanceOwner, DeviceIndex: a.DeviceIndex, NetworkCard: a.NetworkCard,
			Status: a.Status, AttachTime: when(a.Since), DeleteOnTermination: a.DeleteOnTermination,
		}
	}
	return out
}

// eniFilters are the filters of DescribeNetworkInterfaces.
func eniFilters(m *cloud.Model) map[string]func(*cloud.ENI) []string {
	attached := func(get func(*cloud.Attachment) []string) func(*cloud.ENI) []string {
		return func(e *cloud.ENI) []string {
			if e.Attachment == nil {
				return nil
			}
			return get(e.Attachment)
		}
	}
	addresses := func(get func(i int, a cloud.Address) []string) func(*cloud.ENI) []string {
		return func(e *cloud.ENI) []string {
			var out []string
			for i, a := range e.Addresses {
				out = append(out, get(i, a)...)
			}
			return out
		}
	}
	text := func(a netip.Addr) []string {
		if !a.IsValid() {
			return nil
		}
		return []string{a.String()}
	}
	public := addresses(func(_ int, a cloud.Address) []string { return text(a.Public) })
	publicName := addresses(func(_ int, a cloud.Address) []string {
		if !a.Public.IsValid() {
			return nil
		}
		return []string{cloud.PublicDNSName(m.Region, a.Public)}
	})
	return map[string]func(*cloud.ENI) []string{
		"attachment.attachment-id":         attached(func(a *cloud.Attachment) []string { return one(a.ID) }),
		"attachment.attach-time":           attached(func(a *cloud.Attachment) []string { return one(when(a.Since)) }),
		"attachment.delete-on-termination": attached(func(a *cloud.Attachment) []string { return yes(a.DeleteOnTermination) }),
		"attachment.device-index":          attached(func(a *cloud.Attachment) []string { return one(strconv.Itoa(a.DeviceIndex)) }),
		"attachment.instance-id":           attached(func(a *cloud.Attachment) []string { return one(a.InstanceID) }),
		"attachment.instance-owner-id":     attached(func(a *cloud.Attachment) []string { return one(a.InstanceOwner) }),
		"attachment.network-card-index":    attached(func(a *cloud.Attachment) []string { return one(strconv.Itoa(a.NetworkCard)) }),
		"attachment.status":                attached(func(a *cloud.Attachment) []string { return one(a.Status) }),
		"addresses.association.owner-id": addresses(func(_ int, a cloud.Address) []string {
			if !a.Public.IsValid() {
				return nil
			}
			return []string{"amazon"}
		}),
		"addresses.association.public-ip": public,
		"addresses.primary":               addresses(func(i int, _ cloud.Address) []string { return yes(i == 0) }),
		"addresses.private-ip-address":    addresses(func(_ int, a cloud.Address) []string { return text(a.IP) }),
		"association.association-id":      func(*cloud.ENI) []string { return nil },
		"association.allocation-id":       func(*cloud.ENI) []string { return nil },
		"association.ip-owner-id": addresses(func(i int, a cloud.Address) []string {
			if i != 0 || !a.Public.IsValid() {
				return nil
			}
			return []string{"amazon"}
		}),
		"association.public-ip":       public,
		"association.public-dns-name": publicName,
		"availability-zone":           func(e *cloud.ENI) []string { return one(e.AZ) },
		"availability-zone-id":        func(e *cloud.ENI) []string { return one(m.ZoneID(e.AZ)) },
		"description":                 func(e *cloud.ENI) []string { return []string{e.Description} },
		"group-id":                    func(e *cloud.ENI) []string { return e.Groups },
		"group-name": func(e *cloud.ENI) []string {
			var out []string
			for _, g := range groupsXML(m, e.Groups) {
				out = append(out, g.GroupName)
			}
			return out
		},
		"interface-type": func(*cloud.ENI) []string { return one("interface") },
		"ipv4-prefixes.ipv4-prefix": func(e *cloud.ENI) []string {
			var out []string
			for _, p := range e.Prefixes {
				out = append(out, p.String())
			}
			return out
		},
		"ipv6-addresses.ipv6-address": func(*cloud.ENI) []string { return nil },
		"mac-address":                 func(e *cloud.ENI) []string { return one(e.MAC) },
		"network-interface-id":        func(e *cloud.ENI) []string { return one(e.ID) },
		"operator.managed":            func(*cloud.ENI) []string { return yes(false) },
		"operator.principal":          func(*cloud.ENI) []string { return nil },
		"owner-id":                    func(*cloud.ENI) []string { return one(m.Account) },
		"private-dns-name":            func(e *cloud.ENI) []string { return one(cloud.PrivateDNSName(m.Region, e.Primary())) },
		"private-ip-address":          addresses(func(_ int, a cloud.Address) []string { return text(a.IP) }),
		"requester-id":                func(e *cloud.ENI) []string { return one(e.Requester) },
		"requester-managed":           func(e *cloud.ENI) []string { return yes(e.Requester != "") },
		"source-dest-check":           func(e *cloud.ENI) []string { return yes(e.SourceDestCheck) },
		"status":                      func(e *cloud.ENI) []string { return one(e.Status()) },
		"subnet-id":                   func(e *cloud.ENI) []string { return one(e.SubnetID) },
		"vpc-id":                      func(e *cloud.ENI) []string { return one(e.VPCID) },
	}
}
