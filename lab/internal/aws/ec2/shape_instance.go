package ec2

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
)

type stateXML struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

func newState(name string) stateXML {
	code := map[string]int{cloud.Pending: 0, cloud.Running: 16, cloud.ShuttingDown: 32, cloud.Terminated: 48, "stopping": 64, "stopped": 80}
	return stateXML{code[name], name}
}

type placementXML struct {
	AZ      string `xml:"availabilityZone"`
	AZID    string `xml:"availabilityZoneId"`
	Group   string `xml:"groupName"`
	Tenancy string `xml:"tenancy"`
}

type monitoringXML struct {
	State string `xml:"state"`
}

type profileXML struct {
	ARN string `xml:"arn"`
	ID  string `xml:"id"`
}

type metadataXML struct {
	State    string `xml:"state"`
	Tokens   string `xml:"httpTokens"`
	HopLimit int    `xml:"httpPutResponseHopLimit"`
	Endpoint string `xml:"httpEndpoint"`
	IPv6     string `xml:"httpProtocolIpv6"`
	Tags     string `xml:"instanceMetadataTags"`
}

func newMetadataXML(o cloud.Metadata, state string) *metadataXML {
	tags := "disabled"
	if o.InstanceTags {
		tags = "enabled"
	}
	return &metadataXML{State: state, Tokens: o.HTTPTokens, HopLimit: o.HopLimit, Endpoint: o.HTTPEndpoint, IPv6: "disabled", Tags: tags}
}

type reasonXML struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

type instanceENIXML struct {
	ID              string          `xml:"networkInterfaceId"`
	SubnetID        string          `xml:"subnetId"`
	VPCID           string          `xml:"vpcId"`
	Description     string          `xml:"description"`
	OwnerID         string          `xml:"ownerId"`
	Status          string          `xml:"status"`
	MAC             string          `xml:"macAddress"`
	PrivateIP       string          `xml:"privateIpAddress"`
	PrivateDNSName  string          `xml:"privateDnsName"`
	SourceDestCheck bool            `xml:"sourceDestCheck"`
	Groups          []groupXML      `xml:"groupSet>item"`
	Attachment      attachmentXML   `xml:"attachment"`
	Association     *associationXML `xml:"association,omitempty"`
	Addresses       []addressXML    `xml:"privateIpAddressesSet>item"`
	Prefixes        []prefixXML     `xml:"ipv4PrefixSet>item"`
	InterfaceType   string          `xml:"interfaceType"`
}

type instanceXML struct {
	ID              string           `xml:"instanceId"`
	ImageID         string           `xml:"imageId"`
	State           stateXML         `xml:"instanceState"`
	PrivateDNSName  string           `xml:"privateDnsName"`
	DNSName         string           `xml:"dnsName"`
	Reason          string           `xml:"reason"`
	LaunchIndex     int              `xml:"amiLaunchIndex"`
	Type            string           `xml:"instanceType"`
	LaunchTime      string           `xml:"launchTime"`
	Placement       placementXML     `xml:"placement"`
	Monitoring      monitoringXML    `xml:"monitoring"`
	SubnetID        string           `xml:"subnetId,omitempty"`
	VPCID           string           `xml:"vpcId,omitempty"`
	PrivateIP       string           `xml:"privateIpAddress,omitempty"`
	PublicIP        string           `xml:"ipAddress,omitempty"`
	SourceDestCheck *bool            `xml:"sourceDestCheck,omitempty"`
	Groups          []groupXML       `xml:"groupSet>item"`
	StateReason     *reasonXML       `xml:"stateReason,omitempty"`
	Architecture    string           `xml:"architecture"`
	RootDeviceType  string           `xml:"rootDeviceType"`
	RootDeviceName  string           `xml:"rootDeviceName"`
	Virtualization  string           `xml:"virtualizationType"`
	ClientToken     string           `xml:"clientToken"`
	Tags            []tagXML         `xml:"tagSet>item"`
	Hypervisor      string           `xml:"hypervisor"`
	ENIs            []instanceENIXML `xml:"networkInterfaceSet>item"`
	Profile         *profileXML      `xml:"iamInstanceProfile,omitempty"`
	EBSOptimized    bool             `xml:"ebsOptimized"`
	ENA             bool             `xml:"enaSupport"`
	Metadata        *metadataXML     `xml:"metadataOptions,omitempty"`
}

func newInstanceXML(m *cloud.Model, i *cloud.Instance) instanceXML {
	t, _ := cloud.TypeByName(i.Type)
	out := instanceXML{
		ID: i.ID, ImageID: i.ImageID, State: newState(i.State), Reason: i.Reason, Type: i.Type, LaunchTime: when(i.LaunchTime),
		Placement:  placementXML{AZ: i.AZ, AZID: m.ZoneID(i.AZ), Tenancy: "default"},
		Monitoring: monitoringXML{"disabled"}, Architecture: t.Arch, RootDeviceType: "ebs", RootDeviceName: "/dev/xvda",
		Virtualization: "hvm", ClientToken: i.Token, Tags: tagsXML(i.Tags), Hypervisor: "xen", EBSOptimized: t.Hypervisor != "xen", ENA: true,
		Metadata: newMetadataXML(i.Metadata, "applied"),
	}
	if p := m.InstanceProfile[i.Profile]; p != nil {
		out.Profile = &profileXML{ARN: p.ARN, ID: p.ID}
	}
	if i.State == cloud.ShuttingDown || i.State == cloud.Terminated {
		out.StateReason = &reasonXML{"Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown"}
	}
	if i.State == cloud.Terminated {
		// What is gone has no network any more, though it is still listed.
		return out
	}
	check := true
	out.SubnetID, out.VPCID, out.SourceDestCheck = i.SubnetID, i.VPCID, &check
	out.PrivateIP, out.PrivateDNSName = i.PrivateIP.String(), cloud.PrivateDNSName(m.Region, i.PrivateIP)
	if i.PublicIP.IsValid() {
		out.PublicIP, out.DNSName = i.PublicIP.String(), cloud.PublicDNSName(m.Region, i.PublicIP)
	}
	for n, e := range m.InstanceENIs(i.ID) {
		if n == 0 {
			out.Groups, check = groupsXML(m, e.Groups), e.SourceDestCheck
		}
		x := newENIXML(m, e)
		a := *x.Attachment
		a.InstanceID, a.InstanceOwner = "", ""
		out.ENIs = append(out.ENIs, instanceENIXML{
			ID: x.ID, SubnetID: x.SubnetID, VPCID: x.VPCID, Description: x.Description, OwnerID: x.OwnerID, Status: x.Status, MAC: x.MAC,
			PrivateIP: x.PrivateIP, PrivateDNSName: x.PrivateDNSName, SourceDestCheck: x.SourceDestCheck, Groups: x.Groups, Attachment: a,
			Association: x.Association, Addresses: x.Addresses, Prefixes: x.Prefixes, InterfaceType: x.InterfaceType,
		})
	}
	return out
}

func instanceFilters(m *cloud.Model) map[string]func(*cloud.Instance) []string {
	text := func(i *cloud.Instance, a netip.Addr) []string {
		if i.State == cloud.Terminated || !a.IsValid() {
			return nil
		}
		return []string{a.String()}
	}
	live := func(get func(*cloud.Instance) string) func(*cloud.Instance) []string {
		return func(i *cloud.Instance) []string {
			if i.State == cloud.Terminated {
				return nil
			}
			return one(get(i))
		}
	}
	fields := map[string]func(*cloud.Instance) []string{
		"architecture":        func(i *cloud.Instance) []string { t, _ := cloud.TypeByName(i.Type); return one(t.Arch) },
		"availability-zone":   func(i *cloud.Instance) []string { return one(i.AZ) },
		"client-token":        func(i *cloud.Instance) []string { return one(i.Token) },
		"dns-name":            live(func(i *cloud.Instance) string { return publicName(m, i) }),
		"group-id":            func(i *cloud.Instance) []string { return primaryGroups(m, i) },
		"hypervisor":          func(*cloud.Instance) []string { return one("xen") },
		"image-id":            func(i *cloud.Instance) []string { return one(i.ImageID) },
		"instance-id":         func(i *cloud.Instance) []string { return one(i.ID) },
		"instance-state-code": func(i *cloud.Instance) []string { return one(strconv.Itoa(newState(i.State).Code)) },
		"instance-state-name": func(i *cloud.Instance) []string { return one(i.State) },
		"instance-type":       func(i *cloud.Instance) []string { return one(i.Type) },
		"instance-lifecycle":  func(*cloud.Instance) []string { return nil },
		"ip-address":          func(i *cloud.Instance) []string { return text(i, i.PublicIP) },
		"iam-instance-profile.arn": func(i *cloud.Instance) []string {
			if p := m.InstanceProfile[i.Profile]; p != nil {
				return one(p.ARN)
			}
			return nil
		},
		"launch-time":                                  func(i *cloud.Instance) []string { return one(when(i.LaunchTime)) },
		"metadata-options.http-tokens":                 func(i *cloud.Instance) []string { return one(i.Metadata.HTTPTokens) },
		"metadata-options.http-put-response-hop-limit": func(i *cloud.Instance) []string { return one(strconv.Itoa(i.Metadata.HopLimit)) },
		"owner-id":           func(*cloud.Instance) []string { return one(m.Account) },
		"private-dns-name":   live(func(i *cloud.Instance) string { return cloud.PrivateDNSName(m.Region, i.PrivateIP) }),
		"private-ip-address": func(i *cloud.Instance) []string { return text(i, i.PrivateIP) },
		"reservation-id":     func(i *cloud.Instance) []string { return one(i.Reservation) },
		"subnet-id":          live(func(i *cloud.Instance) string { return i.SubnetID }),
		"vpc-id":             live(func(i *cloud.Instance) string { return i.VPCID }),
		"tenancy":            func(*cloud.Instance) []string { return one("default") },
	}
	eni := eniFilters(m)
	for filter, field := range map[string]string{
		"network-interface.network-interface-id": "network-interface-id", "network-interface.addresses.private-ip-address": "addresses.private-ip-address",
		"network-interface.addresses.primary": "addresses.primary", "network-interface.attachment.attachment-id": "attachment.attachment-id",
		"network-interface.attachment.device-index": "attachment.device-index", "network-interface.attachment.status": "attachment.status",
		"network-interface.description": "description", "network-interface.group-id": "group-id", "network-interface.mac-address": "mac-address",
		"network-interface.status": "status", "network-interface.subnet-id": "subnet-id", "network-interface.vpc-id": "vpc-id",
		"network-interface.private-dns-name": "private-dns-name", "network-interface.source-dest-check": "source-dest-check",
	} {
		get := eni[field]
		fields[filter] = func(i *cloud.Instance) []string {
			var out []string
			for _, e := range m.InstanceENIs(i.ID) {
				out = append(out, get(e)...)
			}
			return out
		}
	}
	fields["instance.group-id"] = fields["group-id"]
	return fields
}

func publicName(m *cloud.Model, i *cloud.Instance) string {
	if !i.PublicIP.IsValid() {
		return ""
	}
	return cloud.PublicDNSName(m.Region, i.PublicIP)
}

func primaryGroups(m *cloud.Model, i *cloud.Instance) []string {
	if list := m.InstanceENIs(i.ID); len(list) > 0 {
		return slices.Clone(list[0].Groups)
	}
	return nil
}
