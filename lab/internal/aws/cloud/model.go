package cloud

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Model is everything that the account holds. It is plain data: a snapshot is its JSON.
type Model struct {
	Region  string
	Account string
	// Lab is the prefix of namespaces.
	Lab string

	VPCs            map[string]*VPC
	Subnets         map[string]*Subnet
	RouteTables     map[string]*RouteTable
	Groups          map[string]*SecurityGroup
	ENIs            map[string]*ENI
	Instances       map[string]*Instance
	Public          PublicPool
	CreatedByToken  map[string]CreatedENI
	Clusters        map[string]*Cluster
	Roles           map[string]*Role
	Policies        map[string]*Policy
	Users           map[string]*User
	AccessKeys      map[string]*AccessKey
	InstanceProfile map[string]*InstanceProfile
	OIDCProviders   map[string]*OIDCProvider
	// Cidr is the block that a new cluster's VPC gets.
	Cidr netip.Prefix
}

func newModel(cfg Config) *Model {
	m := &Model{Region: cfg.Region, Account: cfg.Account, Lab: cfg.Lab, Cidr: cfg.VPC,
		Public: PublicPool{CIDR: cfg.PublicPool, Taken: map[netip.Addr]string{}}}
	m.fill()
	return m
}

// fill makes the maps that a fresh or an imported model lacks.
func (m *Model) fill() {
	ensure(&m.VPCs)
	ensure(&m.Subnets)
	ensure(&m.RouteTables)
	ensure(&m.Groups)
	ensure(&m.ENIs)
	ensure(&m.Instances)
	ensure(&m.CreatedByToken)
	ensure(&m.Clusters)
	ensure(&m.Roles)
	ensure(&m.Policies)
	ensure(&m.Users)
	ensure(&m.AccessKeys)
	ensure(&m.InstanceProfile)
	ensure(&m.OIDCProviders)
	ensure(&m.Public.Taken)
}

func ensure[K comparable, V any](m *map[K]V) {
	if *m == nil {
		*m = map[K]V{}
	}
}

// Sorted is a map's values in the order of their keys: what is listed is listed the same way each time.
func Sorted[V any](m map[string]V) []V {
	out := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

// VPC is a virtual network.
type VPC struct {
	ID           string
	CIDR         netip.Prefix
	AssociateID  string
	DHCPOptions  string
	IsDefault    bool
	DefaultGroup string
	MainTable    string
	Gateway      string
	NATGateway   string
	NATAddress   netip.Addr
	Tags         map[string]string
}

// RouteTable is a list of routes with the subnets that use it. The main one serves those that name none.
type RouteTable struct {
	ID    string
	VPCID string
	Main  bool
	// MainAssociation is the id of the main association.
	MainAssociation string
	Routes          []Route
	// Subnets maps an association's id to its subnet.
	Subnets map[string]string
	Tags    map[string]string
}

// Route sends what matches to one target.
type Route struct {
	Destination netip.Prefix
	// Gateway is "local" or an internet gateway; NATGateway a NAT gateway.
	Gateway    string
	NATGateway string
}

// PublicPool is where public addresses come from.
type PublicPool struct {
	CIDR  netip.Prefix
	Taken map[netip.Addr]string
}

// NAT is the NAT gateway's address.
func (p *PublicPool) NAT() netip.Addr { return p.CIDR.Masked().Addr().Next() }

func (p *PublicPool) take(eni string) (netip.Addr, bool) {
	for a := p.NAT().Next(); p.CIDR.Contains(a); a = a.Next() {
		if _, used := p.Taken[a]; !used && p.CIDR.Contains(a.Next()) {
			p.Taken[a] = eni
			return a, true
		}
	}
	return netip.Addr{}, false
}

// TableOf is the route table that serves a subnet, and whether the subnet names it itself.
func (m *Model) TableOf(s *Subnet) (table *RouteTable, explicit bool) {
	for _, t := range m.RouteTables {
		for _, id := range t.Subnets {
			if id == s.ID {
				return t, true
			}
		}
	}
	if v := m.VPCs[s.VPCID]; v != nil {
		return m.RouteTables[v.MainTable], false
	}
	return nil, false
}

// defaultRoute is that of the table which serves a subnet.
func (m *Model) defaultRoute(s *Subnet) (Route, bool) {
	t, _ := m.TableOf(s)
	if t == nil {
		return Route{}, false
	}
	for _, r := range t.Routes {
		if r.Destination.Bits() == 0 {
			return r, true
		}
	}
	return Route{}, false
}

// IsPublic says whether a subnet's default route is an internet gateway.
func (m *Model) IsPublic(s *Subnet) bool {
	r, ok := m.defaultRoute(s)
	return ok && r.NATGateway == "" && r.Gateway != ""
}

// IsIsolated says whether a subnet has no default route.
func (m *Model) IsIsolated(s *Subnet) bool {
	_, ok := m.defaultRoute(s)
	return !ok
}

// Zone is an availability zone.
type Zone struct{ Name, ID string }

// Zones are the region's availability zones, three as eksctl takes.
func (m *Model) Zones() []Zone {
	short := shortRegion(m.Region)
	return []Zone{{m.Region + "a", short + "-az1"}, {m.Region + "b", short + "-az2"}, {m.Region + "c", short + "-az3"}}
}

// ZoneID is the id of a zone by its name.
func (m *Model) ZoneID(name string) string {
	for _, z := range m.Zones() {
		if z.Name == name {
			return z.ID
		}
	}
	return ""
}

// InstanceENIs are an instance's attached interfaces, in the order of their cards and indexes.
func (m *Model) InstanceENIs(id string) []*ENI {
	i := m.Instances[id]
	if i == nil {
		return nil
	}
	var out []*ENI
	for _, e := range i.ENIs {
		if eni := m.ENIs[e]; eni != nil {
			out = append(out, eni)
		}
	}
	slices.SortFunc(out, func(a, b *ENI) int {
		if d := a.Attachment.NetworkCard - b.Attachment.NetworkCard; d != 0 {
			return d
		}
		return a.Attachment.DeviceIndex - b.Attachment.DeviceIndex
	})
	return out
}

// ENIByAddress finds who holds a private address, alone or in a prefix.
func (m *Model) ENIByAddress(a netip.Addr) *ENI {
	for _, s := range m.Subnets {
		if s.CIDR.Contains(a) {
			if id, ok := s.taken[a]; ok {
				return m.ENIs[id]
			}
			if id, ok := s.blocks[blockOf(a)]; ok {
				return m.ENIs[id]
			}
		}
	}
	return nil
}

// Assigned says whether an interface that is in use has the address: what the VPC can deliver.
func (c *Cloud) Assigned(a netip.Addr) bool {
	found := false
	c.Read(func(m *Model) {
		e := m.ENIByAddress(a.Unmap())
		found = e != nil && e.Attachment != nil
	})
	return found
}

func cloneTags(t map[string]string) map[string]string {
	if t == nil {
		return map[string]string{}
	}
	return maps.Clone(t)
}

// pastHour is how long EC2 shows a terminated instance.
const pastHour = time.Hour
