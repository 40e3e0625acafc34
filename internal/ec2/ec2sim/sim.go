// Package ec2sim is an EC2 in memory with AWS's rules: limits by instance type, exhaustible subnets,
// attachments that take time, describes that lag, permissions, and faults before or after a change.
package ec2sim

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weft-cni/weft/internal/ec2"
)

// Call is one call that was made.
type Call struct {
	N      int // from 1
	Action string
	// Target is the ENI, the attachment or the instance that it is about.
	Target   string
	Mutating bool
	Err      error
}

// Fault is how a call fails. Before: nothing happened. After: it was carried out and the answer was lost.
type Fault struct{ Before, After error }

// Sim is the cloud. Its fields may be set before it is used.
type Sim struct {
	// Now is the clock; nil is the real one.
	Now func() time.Time
	// AttachDelay and DetachDelay are how long an attachment is in between.
	AttachDelay, DetachDelay time.Duration
	// Lag is how old the state is that describes of ENIs show; a new id is not found for as long.
	Lag time.Duration

	mu        sync.Mutex
	hook      func(Call) Fault
	denied    map[string]bool
	log       []Call
	next      int
	vpcs      map[string][]netip.Prefix
	subnets   map[string]*subnet
	tables    map[string][]ec2.RouteTable
	types     map[string]ec2.InstanceType
	instances map[string]*ec2.Instance
	enis      map[string]*eni
	tokens    map[string]token
}

type subnet struct {
	ec2.Subnet
	vpc  string
	used map[netip.Addr]string // ENI
	// taken are addresses that others hold.
	taken int
}

type token struct {
	in  ec2.CreateInterface
	id  string
	out ec2.Interface
}

// eni is an ENI with its past.
type eni struct {
	now     version
	history []version
}

type version struct {
	at      time.Time
	deleted bool
	ec2.Interface
	attachedAt time.Time // when attaching ends
	detachedAt time.Time // when detaching ends
}

var _ ec2.API = (*Sim)(nil)

// New returns an empty cloud with a few instance types.
func New() *Sim {
	s := &Sim{
		denied: map[string]bool{}, vpcs: map[string][]netip.Prefix{}, subnets: map[string]*subnet{}, tables: map[string][]ec2.RouteTable{},
		instances: map[string]*ec2.Instance{}, enis: map[string]*eni{}, tokens: map[string]token{}, types: map[string]ec2.InstanceType{},
	}
	for _, t := range []ec2.InstanceType{{Name: "t3.nano", Interfaces: 2, AddressesPerInterface: 2}, {Name: "m5.large", Interfaces: 3, AddressesPerInterface: 10}, {Name: "m5.xlarge", Interfaces: 4, AddressesPerInterface: 15}} {
		s.types[t.Name] = t
	}
	return s
}

// AddVPC adds a VPC.
func (s *Sim) AddVPC(id string, cidrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range cidrs {
		s.vpcs[id] = append(s.vpcs[id], netip.MustParsePrefix(c))
	}
}

// AddSubnet adds a subnet to a VPC.
func (s *Sim) AddSubnet(vpc, id, cidr, zone string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subnets[id] = &subnet{Subnet: ec2.Subnet{ID: id, CIDR: netip.MustParsePrefix(cidr), Zone: zone}, vpc: vpc, used: map[netip.Addr]string{}}
}

// Reserve leaves a subnet with free addresses.
func (s *Sim) Reserve(subnetID string, free int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.subnets[subnetID]
	sub.taken = 0
	sub.taken = max(sub.free()-free, 0)
}

// AddRouteTable adds a route table to a VPC.
func (s *Sim) AddRouteTable(vpc string, t ec2.RouteTable) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tables[vpc] = append(s.tables[vpc], t)
}

// Run starts an instance with its primary ENI.
func (s *Sim) Run(id, typ, subnetID string, groups ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.subnets[subnetID]
	s.instances[id] = &ec2.Instance{ID: id, Type: typ, State: ec2.StateRunning, Zone: sub.Zone, VPCID: sub.vpc, Subnet: subnetID}
	e := s.create(sub, 0, groups, "", nil)
	e.Attachment = &ec2.Attachment{ID: s.id("eni-attach"), InstanceID: id, Status: ec2.AttachmentAttached, DeleteOnTermination: true}
	e.Status = ec2.StatusInUse
	s.put(e)
}

// AddInterface puts an ENI that others made into a subnet, attached if instance isn't empty.
func (s *Sim) AddInterface(subnetID, description, instance string, index int, tags map[string]string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.create(s.subnets[subnetID], 0, nil, description, tags)
	if instance != "" {
		e.Attachment = &ec2.Attachment{ID: s.id("eni-attach"), InstanceID: instance, DeviceIndex: index, Status: ec2.AttachmentAttached}
		e.Status = ec2.StatusInUse
	}
	s.put(e)
	return e.ID
}

// Terminate ends an instance: its ENIs with DeleteOnTermination go, the others become available.
func (s *Sim) Terminate(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.instances[id]; i != nil {
		i.State = ec2.StateTerminated
	}
	for _, e := range s.enis {
		v := e.view(s.now())
		if v.deleted || v.Attachment == nil || v.Attachment.InstanceID != id {
			continue
		}
		if v.Attachment.DeleteOnTermination {
			s.remove(v)
			continue
		}
		v.Attachment, v.Status = nil, ec2.StatusAvailable
		s.put(v)
	}
}

// Forget makes EC2 no longer know an instance, as an hour after it was terminated.
func (s *Sim) Forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.instances, id)
}

// Deny refuses an action; Allow permits it again.
func (s *Sim) Deny(actions ...string) { s.permit(false, actions) }

// Allow permits actions that were denied.
func (s *Sim) Allow(actions ...string) { s.permit(true, actions) }

func (s *Sim) permit(yes bool, actions []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range actions {
		s.denied[a] = !yes
	}
}

// Hook is asked before every call how it fails.
func (s *Sim) Hook(f func(Call) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = f
}

// Calls made so far, of the actions if any are named.
func (s *Sim) Calls(actions ...string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Call
	for _, c := range s.log {
		if len(actions) == 0 || slices.Contains(actions, c.Action) {
			out = append(out, c)
		}
	}
	return out
}

// Mutations made so far, as actions.
func (s *Sim) Mutations() []string {
	var out []string
	for _, c := range s.Calls() {
		if c.Mutating {
			out = append(out, c.Action)
		}
	}
	return out
}

// Interfaces as they truly are now.
func (s *Sim) Interfaces() []ec2.Interface {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []ec2.Interface
	for _, id := range slices.Sorted(maps.Keys(s.enis)) {
		if v := s.enis[id].view(s.now()); !v.deleted {
			out = append(out, copyInterface(v.Interface))
		}
	}
	return out
}

// Check reports what can't be: an address with two owners, a limit exceeded, an ENI on a dead instance.
func (s *Sim) Check() error {
	owners := map[netip.Addr]string{}
	perInstance := map[string]int{}
	for _, e := range s.Interfaces() {
		for _, a := range append([]netip.Addr{e.Primary}, e.Secondary...) {
			if o, ok := owners[a]; ok {
				return fmt.Errorf("%s is on %s and on %s", a, o, e.ID)
			}
			owners[a] = e.ID
		}
		if e.Attachment == nil {
			continue
		}
		s.mu.Lock()
		i := s.instances[e.Attachment.InstanceID]
		s.mu.Unlock()
		if i == nil || i.State != ec2.StateRunning {
			return fmt.Errorf("%s is attached to %s, which doesn't run", e.ID, e.Attachment.InstanceID)
		}
		t := s.types[i.Type]
		if perInstance[i.ID]++; perInstance[i.ID] > t.Interfaces {
			return fmt.Errorf("%s has more than %d interfaces", i.ID, t.Interfaces)
		}
		if n := 1 + len(e.Secondary) + len(e.Prefixes); n > t.AddressesPerInterface {
			return fmt.Errorf("%s has %d addresses, %s allows %d", e.ID, n, i.Type, t.AddressesPerInterface)
		}
	}
	return nil
}
