package ec2

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

type pairXML struct {
	UserID      string `xml:"userId"`
	GroupID     string `xml:"groupId"`
	Description string `xml:"description,omitempty"`
}

type rangeXML struct {
	CIDR        string `xml:"cidrIp"`
	Description string `xml:"description,omitempty"`
}

type permissionXML struct {
	Protocol string     `xml:"ipProtocol"`
	From     *int       `xml:"fromPort,omitempty"`
	To       *int       `xml:"toPort,omitempty"`
	Groups   []pairXML  `xml:"groups>item"`
	Ranges   []rangeXML `xml:"ipRanges>item"`
}

// permissionsXML puts rules with the same protocol and ports together, as DescribeSecurityGroups shows them.
func permissionsXML(account string, rules []cloud.Rule) []permissionXML {
	out := []permissionXML{}
	index := map[string]int{}
	for _, r := range rules {
		key := r.Protocol + "/" + strconv.Itoa(r.FromPort) + "/" + strconv.Itoa(r.ToPort)
		i, ok := index[key]
		if !ok {
			p := permissionXML{Protocol: r.Protocol}
			if r.Protocol != "-1" {
				p.From, p.To = &r.FromPort, &r.ToPort
			}
			out = append(out, p)
			i = len(out) - 1
			index[key] = i
		}
		if r.Group != "" {
			out[i].Groups = append(out[i].Groups, pairXML{UserID: account, GroupID: r.Group, Description: r.Description})
		} else {
			out[i].Ranges = append(out[i].Ranges, rangeXML{CIDR: r.CIDR.String(), Description: r.Description})
		}
	}
	return out
}

// readRules takes the rules out of a request: the list of permissions, or the flat form of a single one.
func readRules(p *query.Params) ([]cloud.Rule, error) {
	parts := p.Structs("IpPermissions")
	if len(parts) == 0 && (p.Has("IpProtocol") || p.Has("CidrIp")) {
		r, err := ruleOf(p)
		if err != nil {
			return nil, err
		}
		if r.CIDR, err = readCIDR(p.String("CidrIp")); err != nil {
			return nil, err
		}
		return []cloud.Rule{r}, nil
	}
	var out []cloud.Rule
	for _, s := range parts {
		base, err := ruleOf(s)
		if err != nil {
			return nil, err
		}
		if len(s.Structs("Ipv6Ranges")) > 0 || len(s.Structs("PrefixListIds")) > 0 {
			return nil, apierror.New("InvalidParameterValue", "The VPC has no IPv6 block and no prefix lists: expected IpRanges or Groups")
		}
		n := len(out)
		for _, x := range s.Structs("IpRanges") {
			r := base
			if r.CIDR, err = readCIDR(x.String("CidrIp")); err != nil {
				return nil, err
			}
			r.Description = x.String("Description")
			out = append(out, r)
		}
		for _, x := range s.Structs("Groups") {
			r := base
			r.Group, r.Description = x.String("GroupId"), x.String("Description")
			if err := groupKind().check(r.Group); err != nil {
				return nil, err
			}
			out = append(out, r)
		}
		if len(out) == n {
			return nil, apierror.New("MissingParameter", "The request must contain a peer: IpRanges or Groups")
		}
	}
	if len(out) == 0 {
		return nil, apierror.New("MissingParameter", "The request must contain the parameter IpPermissions")
	}
	return out, nil
}

func readCIDR(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || !p.Addr().Is4() {
		return p, apierror.New("InvalidParameterValue", "CIDR block %s is malformed", text)
	}
	return p.Masked(), nil
}

func ruleOf(p *query.Params) (cloud.Rule, error) {
	r := cloud.Rule{Protocol: strings.ToLower(p.Required("IpProtocol")), FromPort: p.Int("FromPort", -1), ToPort: p.Int("ToPort", -1)}
	if err := p.Err(); err != nil {
		return r, err
	}
	for name, number := range map[string]string{"tcp": "6", "udp": "17", "icmp": "1"} {
		if r.Protocol == number {
			r.Protocol = name
		}
	}
	switch r.Protocol {
	case "-1", "all":
		r.Protocol, r.FromPort, r.ToPort = "-1", -1, -1
	case "tcp", "udp":
		if r.FromPort < 0 || r.ToPort > 65535 || r.FromPort > r.ToPort {
			return r, apierror.New("InvalidParameterValue", "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.")
		}
	case "icmp":
		if r.FromPort < -1 || r.FromPort > 255 || r.ToPort < -1 || r.ToPort > 255 || r.FromPort == -1 && r.ToPort != -1 {
			return r, apierror.New("InvalidParameterValue", "ICMP code (%d) out of range", r.ToPort)
		}
	default:
		n, err := strconv.Atoi(r.Protocol)
		if err != nil || n < 0 || n > 255 {
			return r, apierror.New("InvalidParameterValue", "Invalid value '%s' for IP protocol. Unknown protocol.", r.Protocol)
		}
		r.FromPort, r.ToPort = -1, -1
	}
	return r, nil
}

// groupID finds the group that a request names by id, or by name in the only VPC that has it.
func groupID(call *query.Call) (string, error) {
	if id := call.Params.String("GroupId"); id != "" {
		return id, groupKind().check(id)
	}
	name := call.Params.String("GroupName")
	if name == "" {
		return "", apierror.New("MissingParameter", "The request must contain the parameter groupName or groupId")
	}
	id := ""
	call.Cloud.Read(func(m *cloud.Model) {
		for _, g := range m.Groups {
			if g.Name == name {
				id = g.ID
			}
		}
	})
	if id == "" {
		return "", apierror.New("InvalidGroup.NotFound", "The security group '%s' does not exist", name)
	}
	return id, nil
}
