package cloud

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
)

// SecurityGroup is a set of rules; its members are the interfaces that name it.
type SecurityGroup struct {
	ID          string
	Name        string
	Description string
	VPCID       string
	Ingress     []Rule
	Egress      []Rule
	Tags        map[string]string
}

// Rule allows one peer: a CIDR or a group.
type Rule struct {
	// ID is sgr-….
	ID string
	// Protocol is -1, tcp, udp, icmp or a number.
	Protocol    string
	FromPort    int
	ToPort      int
	CIDR        netip.Prefix
	Group       string
	Description string
}

func (r Rule) same(o Rule) bool {
	return r.Protocol == o.Protocol && r.FromPort == o.FromPort && r.ToPort == o.ToPort && r.CIDR == o.CIDR && r.Group == o.Group
}

func (r Rule) text() string {
	peer := r.Group
	if peer == "" {
		peer = r.CIDR.String()
	}
	ports := "ALL"
	if r.Protocol != "-1" {
		ports = fmt.Sprintf("from port: %d, to port: %d", r.FromPort, r.ToPort)
	}
	proto := strings.ToUpper(r.Protocol)
	if r.Protocol == "-1" {
		proto = "ALL"
	}
	return fmt.Sprintf("peer: %s, %s, %s, ALLOW", peer, proto, ports)
}

const (
	groupsPerENI  = 5
	rulesPerGroup = 60
)

// checkGroups says whether an interface in the VPC may have these groups. notFoundCode differs by action.
func (m *Model) checkGroups(ids []string, vpc, notFoundCode, subnet string) error {
	if len(ids) == 0 {
		return apierror.New("InvalidParameterValue", "A network interface must have at least one security group")
	}
	if len(ids) > groupsPerENI {
		return apierror.New("SecurityGroupsPerInterfaceLimitExceeded", "The maximum number of security groups per interface has been reached.")
	}
	for _, id := range ids {
		g := m.Groups[id]
		if g == nil {
			return notFound(notFoundCode, "The security group '%s' does not exist", id)
		}
		if g.VPCID != vpc {
			return apierror.New("InvalidParameter", "Security group %s and subnet %s belong to different networks.", id, subnet)
		}
	}
	return nil
}

// Direction of a rule.
type Direction bool

// The directions, seen from the group's members.
const (
	Ingress Direction = false
	Egress  Direction = true
)

func (g *SecurityGroup) rules(d Direction) *[]Rule {
	if d == Egress {
		return &g.Egress
	}
	return &g.Ingress
}

// AuthorizeRules adds rules to a group, all or none, and returns them with their ids.
func (c *Cloud) AuthorizeRules(ctx context.Context, group string, d Direction, add []Rule) ([]Rule, error) {
	var out []Rule
	err := c.change(ctx, func(m *Model) error {
		g := m.Groups[group]
		if g == nil {
			return notFound("InvalidGroup.NotFound", "The security group '%s' does not exist", group)
		}
		list := g.rules(d)
		for i, r := range add {
			if r.Group != "" && m.Groups[r.Group] == nil {
				return notFound("InvalidGroup.NotFound", "The security group '%s' does not exist", r.Group)
			}
			if slices.ContainsFunc(*list, r.same) {
				return apierror.New("InvalidPermission.Duplicate", "the specified rule \"%s\" already exists", r.text())
			}
			if slices.ContainsFunc(add[:i], r.same) {
				return apierror.New("InvalidParameterValue", "The same permission must not appear multiple times")
			}
		}
		if len(*list)+len(add) > rulesPerGroup {
			return apierror.New("RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached.")
		}
		for _, r := range add {
			r.ID = newID(c.rng, "sgr")
			*list = append(*list, r)
			out = append(out, r)
		}
		return nil
	})
	return out, err
}

// RevokeRules takes rules away, all or none. A rule is named by its id or by what it allows.
func (c *Cloud) RevokeRules(ctx context.Context, group string, d Direction, remove []Rule) error {
	return c.change(ctx, func(m *Model) error {
		g := m.Groups[group]
		if g == nil {
			return notFound("InvalidGroup.NotFound", "The security group '%s' does not exist", group)
		}
		list := g.rules(d)
		left := slices.Clone(*list)
		for _, r := range remove {
			i := slices.IndexFunc(left, func(have Rule) bool {
				if r.ID != "" {
					return have.ID == r.ID
				}
				return have.same(r)
			})
			if i < 0 {
				if r.ID != "" {
					return notFound("InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '%s' does not exist", r.ID)
				}
				return notFound("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
			}
			left = slices.Delete(left, i, i+1)
		}
		*list = left
		return nil
	})
}

func (c *Cloud) newGroup(m *Model, vpc, name, description string, tags map[string]string) *SecurityGroup {
	g := &SecurityGroup{ID: newID(c.rng, "sg"), Name: name, Description: description, VPCID: vpc, Tags: cloneTags(tags)}
	g.Egress = []Rule{{ID: newID(c.rng, "sgr"), Protocol: "-1", FromPort: -1, ToPort: -1, CIDR: netip.MustParsePrefix("0.0.0.0/0")}}
	m.Groups[g.ID] = g
	return g
}

func (c *Cloud) allowGroup(g *SecurityGroup, peer string) {
	g.Ingress = append(g.Ingress, Rule{ID: newID(c.rng, "sgr"), Protocol: "-1", FromPort: -1, ToPort: -1, Group: peer})
}
