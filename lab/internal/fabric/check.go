package fabric

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// ErrState says that a State contradicts itself; the fabric leaves the kernel as it was.
var ErrState = errors.New("inconsistent VPC state")

var (
	idPattern     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*$`)
	devicePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)
)

// Check reports everything that makes a State impossible to bring about. What it lets pass can be written into
// an nftables ruleset without quoting.
func (s State) Check() error {
	c := checker{state: s, owner: map[netip.Addr]string{}}
	c.lab()
	c.subnets()
	c.groups()
	c.enis()
	if len(c.problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrState, errors.Join(c.problems...))
}

type checker struct {
	state    State
	problems []error
	owner    map[netip.Addr]string
}

func (c *checker) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(format, args...))
}

func (c *checker) lab() {
	s := c.state
	if !idPattern.MatchString(s.Lab) {
		c.problem("lab %q: want letters, digits and dashes", s.Lab)
	}
	if !usable(s.VPC) {
		c.problem("vpc %s: want an IPv4 block", s.VPC)
	}
	if s.NATGateway.IsValid() && (!s.NATGateway.Is4() || s.VPC.Contains(s.NATGateway)) {
		c.problem("nat gateway %s: want a public IPv4 address", s.NATGateway)
	}
	seen := map[string]bool{}
	for _, ns := range s.Namespaces {
		switch {
		case !strings.HasPrefix(ns, s.Lab+"-") || !idPattern.MatchString(ns):
			c.problem("namespace %q: want a name that begins with %s-", ns, s.Lab)
		case ns == VPCNamespace(s.Lab) || ns == InternetNamespace(s.Lab):
			c.problem("namespace %s is the fabric's own", ns)
		case seen[ns]:
			c.problem("namespace %s is there twice", ns)
		}
		seen[ns] = true
	}
}

func (c *checker) subnets() {
	seen := map[string]bool{}
	for i, sn := range c.state.Subnets {
		if sn.ID == "" || seen[sn.ID] {
			c.problem("subnet %q: want an id of its own", sn.ID)
		}
		seen[sn.ID] = true
		if !usable(sn.CIDR) || !covers(c.state.VPC, sn.CIDR) {
			c.problem("subnet %s: %s isn't a block of the VPC %s", sn.ID, sn.CIDR, c.state.VPC)
			continue
		}
		for _, other := range c.state.Subnets[:i] {
			if usable(other.CIDR) && other.CIDR.Overlaps(sn.CIDR) {
				c.problem("subnet %s: %s overlaps %s of %s", sn.ID, sn.CIDR, other.CIDR, other.ID)
			}
		}
	}
}

func (c *checker) groups() {
	for id, g := range c.state.Groups {
		if !idPattern.MatchString(id) {
			c.problem("group %q: want letters, digits and dashes", id)
		}
		for _, r := range append(append([]Rule(nil), g.Ingress...), g.Egress...) {
			if err := c.rule(r); err != nil {
				c.problem("group %s: rule %+v: %w", id, r, err)
			}
		}
	}
}

func (c *checker) rule(r Rule) error {
	if _, err := protocolNumber(r.Protocol); err != nil {
		return err
	}
	if r.Group != "" {
		if _, ok := c.state.Groups[r.Group]; !ok {
			return fmt.Errorf("no group %q", r.Group)
		}
		if r.CIDR.IsValid() {
			return errors.New("want a CIDR or a group, found both")
		}
	} else if !r.CIDR.IsValid() {
		return errors.New("want a CIDR or a group, found neither")
	}
	if r.FromPort < -1 || r.ToPort < -1 || r.FromPort > 65535 || r.ToPort > 65535 {
		return errors.New("want ports from -1 to 65535")
	}
	return nil
}

// protocolNumber is a rule's protocol as the IP header has it, or -1 for all.
func protocolNumber(p string) (int, error) {
	switch p {
	case "-1":
		return -1, nil
	case "tcp":
		return 6, nil
	case "udp":
		return 17, nil
	case "icmp":
		return 1, nil
	case "icmpv6":
		return 58, nil
	}
	n, err := strconv.Atoi(p)
	if err != nil || n < 0 || n > 255 {
		return 0, fmt.Errorf("protocol %q: want -1, tcp, udp, icmp or a number up to 255", p)
	}
	return n, nil
}

func (c *checker) enis() {
	namespaces := map[string]bool{}
	for _, ns := range c.state.Namespaces {
		namespaces[ns] = true
	}
	subnets := map[string]Subnet{}
	for _, sn := range c.state.Subnets {
		subnets[sn.ID] = sn
	}
	ids, devices, configured, public := map[string]string{}, map[string]string{}, map[string]string{}, map[netip.Addr]string{}
	for _, e := range c.state.ENIs {
		name := deviceName(e.ID)
		if !idPattern.MatchString(e.ID) {
			c.problem("eni %q: want letters, digits and dashes", e.ID)
		}
		if other, ok := ids[name]; ok {
			c.problem("eni %s: its device %s is that of %s", e.ID, name, other)
		}
		ids[name] = e.ID
		if mac, err := net.ParseMAC(e.MAC); err != nil || len(mac) != 6 {
			c.problem("eni %s: MAC %q isn't one", e.ID, e.MAC)
		}
		sn, ok := subnets[e.SubnetID]
		if !ok {
			c.problem("eni %s: no subnet %q", e.ID, e.SubnetID)
			continue
		}
		if e.Namespace != "" {
			if !namespaces[e.Namespace] {
				c.problem("eni %s: namespace %q isn't in the list of namespaces", e.ID, e.Namespace)
			}
			if !devicePattern.MatchString(e.Device) {
				c.problem("eni %s: device %q can't be an interface's name", e.ID, e.Device)
			}
			at := e.Namespace + " " + e.Device
			if other, ok := devices[at]; ok {
				c.problem("eni %s: %s is %s already", e.ID, at, other)
			}
			devices[at] = e.ID
			if e.Configure {
				// Two default routes in one namespace would be one too many.
				if other, ok := configured[e.Namespace]; ok {
					c.problem("eni %s: %s is configured in %s already: only a first interface is", e.ID, other, e.Namespace)
				}
				configured[e.Namespace] = e.ID
			}
		}
		c.addresses(e, sn)
		for private, pub := range e.Public {
			if !pub.Is4() || c.state.VPC.Contains(pub) {
				c.problem("eni %s: public address %s of %s: want IPv4 outside of the VPC", e.ID, pub, private)
			}
			if other, ok := public[pub]; ok || pub == c.state.NATGateway {
				c.problem("eni %s: public address %s is in use by %q", e.ID, pub, other)
			}
			public[pub] = e.ID
			if !has(e, private) {
				c.problem("eni %s: %s has a public address but isn't the interface's", e.ID, private)
			}
		}
		for _, g := range e.Groups {
			if _, ok := c.state.Groups[g]; !ok {
				c.problem("eni %s: no group %q", e.ID, g)
			}
		}
	}
}

func (c *checker) addresses(e ENI, sn Subnet) {
	if len(e.Addresses) == 0 {
		c.problem("eni %s: no primary address", e.ID)
	}
	claim := func(a netip.Addr) {
		if other, ok := c.owner[a]; ok {
			c.problem("eni %s: %s belongs to %s", e.ID, a, other)
		}
		c.owner[a] = e.ID
	}
	for _, a := range e.Addresses {
		if !a.Is4() || !sn.CIDR.Contains(a) {
			c.problem("eni %s: %s isn't in subnet %s, %s", e.ID, a, sn.ID, sn.CIDR)
			continue
		}
		if a == SubnetRouter(sn.CIDR) || a == VPCResolver(c.state.VPC) {
			c.problem("eni %s: %s is the VPC's own", e.ID, a)
		}
		claim(a)
	}
	for _, p := range e.Prefixes {
		// Longer than /24 keeps the walk below short; EC2 knows /28 only.
		if !usable(p) || p.Bits() < 24 || !covers(sn.CIDR, p) {
			c.problem("eni %s: prefix %s isn't a block of subnet %s, %s", e.ID, p, sn.ID, sn.CIDR)
			continue
		}
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			claim(a)
		}
	}
}

func usable(p netip.Prefix) bool { return p.IsValid() && p.Addr().Is4() && p == p.Masked() }

func covers(outer, inner netip.Prefix) bool {
	return outer.IsValid() && inner.IsValid() && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

func has(e ENI, a netip.Addr) bool {
	for _, own := range e.Addresses {
		if own == a {
			return true
		}
	}
	for _, p := range e.Prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
