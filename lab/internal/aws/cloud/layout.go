package cloud

import (
	"context"
	"net/netip"
	"strings"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
)

// newVPC makes the VPC as eksctl does: a public and a private subnet in each zone, the public ones with a
// route to the internet gateway, the private ones to one NAT gateway. The subnets come public first.
func (c *Cloud) newVPC(m *Model, cluster string) (*VPC, []string, error) {
	for _, v := range m.VPCs {
		if v.CIDR.Overlaps(m.Cidr) {
			return nil, nil, apierror.New("InvalidVpc.Conflict", "VPC %s has %s already: a lab has one cluster, make another lab for a second", v.ID, v.CIDR)
		}
	}
	if m.Cidr.Bits() > 25 {
		return nil, nil, apierror.New("InvalidVpc.Range", "the VPC's block %s is too small for six subnets: /25 at least", m.Cidr)
	}
	stack := "eksctl-" + cluster + "-cluster"
	tags := func(name string) map[string]string {
		return map[string]string{
			"Name": stack + "/" + name, "alpha.eksctl.io/cluster-name": cluster, "aws:cloudformation:stack-name": stack,
			"eksctl.cluster.k8s.io/v1alpha1/cluster-name": cluster,
		}
	}
	v := &VPC{
		ID: newID(c.rng, "vpc"), CIDR: m.Cidr, AssociateID: newID(c.rng, "vpc-cidr-assoc"), DHCPOptions: newID(c.rng, "dopt"),
		Gateway: newID(c.rng, "igw"), NATGateway: newID(c.rng, "nat"), NATAddress: m.Public.NAT(), Tags: tags("VPC"),
	}
	m.VPCs[v.ID] = v
	v.DefaultGroup = func() string {
		g := c.newGroup(m, v.ID, "default", "default VPC security group", nil)
		c.allowGroup(g, g.ID)
		return g.ID
	}()
	table := func(name string, main bool, extra ...Route) *RouteTable {
		t := &RouteTable{ID: newID(c.rng, "rtb"), VPCID: v.ID, Main: main, Subnets: map[string]string{}, Tags: map[string]string{}}
		t.Routes = append([]Route{{Destination: v.CIDR, Gateway: "local"}}, extra...)
		if name != "" {
			t.Tags = tags(name)
		}
		if main {
			t.MainAssociation = newID(c.rng, "rtbassoc")
			v.MainTable = t.ID
		}
		m.RouteTables[t.ID] = t
		return t
	}
	all := netip.MustParsePrefix("0.0.0.0/0")
	table("", true)
	public := table("PublicRouteTable", false, Route{Destination: all, Gateway: v.Gateway})
	var ids []string
	bits := v.CIDR.Bits() + 3
	for n, private := range []bool{false, true} {
		for z, zone := range m.Zones() {
			suffix := strings.ToUpper(strings.ReplaceAll(zone.Name, "-", ""))
			s := &Subnet{ID: newID(c.rng, "subnet"), VPCID: v.ID, AZ: zone.Name, CIDR: nthSubnet(v.CIDR, bits, n*3+z), MapPublicIP: !private}
			t := public
			if private {
				s.Tags = tags("SubnetPrivate" + suffix)
				s.Tags["kubernetes.io/role/internal-elb"] = "1"
				t = table("PrivateRouteTable"+suffix, false, Route{Destination: all, NATGateway: v.NATGateway})
			} else {
				s.Tags = tags("SubnetPublic" + suffix)
				s.Tags["kubernetes.io/role/elb"] = "1"
			}
			t.Subnets[newID(c.rng, "rtbassoc")] = s.ID
			m.Subnets[s.ID] = s
			ids = append(ids, s.ID)
		}
	}
	return v, ids, nil
}

func nthSubnet(block netip.Prefix, bits, n int) netip.Prefix {
	s := Subnet{CIDR: block}
	return netip.PrefixFrom(s.at(n<<(32-bits)), bits)
}

// CreateSubnet makes another subnet; it uses the VPC's main route table until it is given its own.
func (c *Cloud) CreateSubnet(ctx context.Context, vpc string, cidr netip.Prefix, az string, tags map[string]string) (string, error) {
	id := ""
	err := c.change(ctx, func(m *Model) error {
		v := m.VPCs[vpc]
		if v == nil {
			return notFound("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", vpc)
		}
		if !v.CIDR.Contains(cidr.Addr()) || cidr.Bits() < max(16, v.CIDR.Bits()) || cidr.Bits() > blockBits || cidr != cidr.Masked() {
			return apierror.New("InvalidSubnet.Range", "The CIDR '%s' is invalid.", cidr)
		}
		for _, s := range m.Subnets {
			if s.VPCID == vpc && s.CIDR.Overlaps(cidr) {
				return apierror.New("InvalidSubnet.Conflict", "The CIDR '%s' conflicts with another subnet", cidr)
			}
		}
		s := &Subnet{ID: newID(c.rng, "subnet"), VPCID: vpc, AZ: az, CIDR: cidr, Tags: cloneTags(tags)}
		m.Subnets[s.ID] = s
		id = s.ID
		return nil
	})
	return id, err
}
