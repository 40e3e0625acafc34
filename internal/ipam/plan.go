package ipam

import (
	"cmp"
	"slices"
)

// Limits are what an instance type allows on its first network card.
type Limits struct {
	// Interfaces counts every ENI, whoever made it.
	Interfaces int
	// Addresses per interface, its own address among them.
	Addresses int
}

// Interface is an ENI that is attached to the instance, or made for it.
type Interface struct {
	ID       string
	SubnetID string
	// Attached is false for an ENI of ours that still has to be attached.
	Attached    bool
	DeviceIndex int
	// Usable: endpoints get this ENI's addresses.
	Usable bool
	// Closed: it gets no further address.
	Closed bool
	// Available are the secondary addresses that endpoints have or can have.
	Available int
	// Occupied counts everything beside the ENI's own address that the type's limit counts: available
	// addresses, fenced ones, prefixes.
	Occupied int
}

// Node is all that a plan depends on.
type Node struct {
	Limits     Limits
	Watermarks Watermarks
	Interfaces []Interface
	// Used addresses are given to endpoints; Demand endpoints have none yet.
	Used, Demand int
	// Subnets of the VPC.
	Subnets []Subnet
}

// Kind is what an action does.
type Kind string

// The kinds of action.
const (
	Attach Kind = "Attach" // InterfaceID at DeviceIndex
	Assign Kind = "Assign" // Addresses more to InterfaceID
	Create Kind = "Create" // in SubnetID with Addresses, then attach at DeviceIndex
)

// Action is one change in EC2.
type Action struct {
	Kind        Kind
	InterfaceID string
	SubnetID    string
	DeviceIndex int
	Addresses   int
}

// Reason says why a plan falls short of what the node needs.
type Reason string

// The reasons.
const (
	Satisfied     Reason = ""
	InstanceLimit Reason = "InstanceLimit"
	SubnetFull    Reason = "SubnetExhausted"
	NoPrimary     Reason = "NoPrimaryInterface"
)

// Plan is how a node gets what it needs.
type Plan struct {
	// Need is how many addresses the node lacks, before the plan.
	Need    int
	Actions []Action
	// Shortfall of Need remains after every action, because of Reason.
	Shortfall int
	Reason    Reason
	// Capacity is how many endpoints the node can hold in the end, if subnets allow.
	Capacity int
	// Refused says of each subnet of the node's zone why no ENI goes there.
	Refused []Refusal
}

// Available addresses of the interfaces that are attached.
func (n Node) Available() int {
	sum := 0
	for _, i := range n.Interfaces {
		if i.Usable && i.Attached {
			sum += i.Available
		}
	}
	return sum
}

// Compute plans the calls that give the node what it needs: first what waits to be attached, then room on
// the ENIs that are there, then new ENIs, each made with all the addresses it shall have.
func Compute(n Node) Plan {
	s := newState(n)
	p := Plan{Need: Need(n.Watermarks, n.Available(), n.Used, n.Demand), Capacity: s.capacity()}
	primary, ok := s.primary()
	if !ok {
		p.Shortfall = p.Need
		if p.Need > 0 {
			p.Reason = NoPrimary
		}
		return p
	}
	candidates, refused := Candidates(primary.SubnetID, n.Subnets)
	p.Refused = refused
	if p.Need == 0 {
		return p
	}
	// The surplus is asked for only where it costs no further call.
	s.lack, s.surplus = p.Need, n.Watermarks.MaxAboveWatermark
	if n.Watermarks.MaxAllocate > 0 {
		s.surplus = min(s.surplus, max(n.Watermarks.MaxAllocate-n.Available()-p.Need, 0))
	}
	s.attach()
	s.fill()
	s.create(candidates)
	p.Actions = s.actions
	p.Shortfall = s.lack
	if s.lack > 0 {
		p.Reason = SubnetFull
		if s.full() {
			p.Reason = InstanceLimit
		}
	}
	return p
}

// state is the node as the plan changes it.
type state struct {
	limits     Limits
	first      int
	max        int
	interfaces []Interface
	free       map[string]int // addresses, by subnet
	taken      map[int]bool   // device indexes
	lack       int
	surplus    int
	actions    []Action
}

func newState(n Node) *state {
	s := &state{
		limits: n.Limits, first: n.Watermarks.FirstInterfaceIndex, max: n.Watermarks.MaxAllocate,
		interfaces: slices.Clone(n.Interfaces),
		free:       map[string]int{}, taken: map[int]bool{},
	}
	for _, sub := range n.Subnets {
		s.free[sub.ID] = sub.Free
	}
	for _, i := range n.Interfaces {
		if i.Attached {
			s.taken[i.DeviceIndex] = true
		}
	}
	slices.SortStableFunc(s.interfaces, func(a, b Interface) int {
		return cmp.Or(cmp.Compare(a.DeviceIndex, b.DeviceIndex), cmp.Compare(a.ID, b.ID))
	})
	return s
}

func (s *state) primary() (Interface, bool) {
	for _, i := range s.interfaces {
		if i.Attached && i.DeviceIndex == 0 {
			return i, true
		}
	}
	return Interface{}, false
}

func (s *state) attached() int {
	n := 0
	for _, i := range s.interfaces {
		if i.Attached {
			n++
		}
	}
	return n
}

// index is the lowest free device index whose addresses endpoints may have.
func (s *state) index() (int, bool) {
	if s.attached() >= s.limits.Interfaces {
		return 0, false
	}
	for i := max(1, s.first); ; i++ {
		if !s.taken[i] {
			return i, true
		}
	}
}

func (s *state) room(i Interface) int {
	if i.Closed {
		return 0
	}
	return max(s.limits.Addresses-1-i.Occupied, 0)
}

func (s *state) attach() {
	for k := range s.interfaces {
		i := &s.interfaces[k]
		if i.Attached || !i.Usable || s.lack <= 0 || s.room(*i) == 0 && i.Available == 0 {
			continue
		}
		index, ok := s.index()
		if !ok {
			return
		}
		s.taken[index] = true
		i.Attached, i.DeviceIndex = true, index
		s.actions = append(s.actions, Action{Kind: Attach, InterfaceID: i.ID, SubnetID: i.SubnetID, DeviceIndex: index})
		s.got(i.Available)
	}
}

func (s *state) fill() {
	for k := range s.interfaces {
		i := &s.interfaces[k]
		if !i.Attached || !i.Usable || s.lack <= 0 {
			continue
		}
		n := min(s.room(*i), s.free[i.SubnetID], s.lack+s.surplus)
		if n <= 0 {
			continue
		}
		i.Available += n
		i.Occupied += n
		s.free[i.SubnetID] -= n
		s.actions = append(s.actions, Action{Kind: Assign, InterfaceID: i.ID, SubnetID: i.SubnetID, DeviceIndex: i.DeviceIndex, Addresses: n})
		s.got(n)
	}
}

func (s *state) create(candidates []string) {
	for s.lack > 0 && s.limits.Addresses > 1 {
		index, ok := s.index()
		if !ok {
			return
		}
		want := min(s.lack+s.surplus, s.limits.Addresses-1)
		subnet, ok := choose(candidates, s.free, want+1)
		if !ok {
			return
		}
		n := min(want, s.free[subnet]-1)
		s.taken[index] = true
		s.free[subnet] -= n + 1
		s.interfaces = append(s.interfaces, Interface{
			SubnetID: subnet, Attached: true, DeviceIndex: index, Usable: true, Available: n, Occupied: n,
		})
		s.actions = append(s.actions, Action{Kind: Create, SubnetID: subnet, DeviceIndex: index, Addresses: n})
		s.got(n)
	}
}

func (s *state) got(n int) {
	s.surplus -= max(n-s.lack, 0)
	s.surplus = max(s.surplus, 0)
	s.lack = max(s.lack-n, 0)
}

// full: the instance type allows no further address, whatever the subnets have.
func (s *state) full() bool {
	if _, ok := s.index(); ok && s.limits.Addresses > 1 {
		return false
	}
	for _, i := range s.interfaces {
		if i.Attached && i.Usable && s.room(i) > 0 {
			return false
		}
	}
	return true
}

func (s *state) capacity() int {
	perInterface := max(s.limits.Addresses-1, 0)
	sum := max(s.limits.Interfaces-s.attached(), 0) * perInterface
	for _, i := range s.interfaces {
		if i.Attached && i.Usable {
			sum += i.Available + s.room(i)
		}
	}
	if s.max > 0 {
		sum = min(sum, s.max)
	}
	return sum
}
