package cloud

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
)

// ENI is an elastic network interface.
type ENI struct {
	ID              string
	Description     string
	SubnetID        string
	VPCID           string
	AZ              string
	MAC             string
	Groups          []string
	SourceDestCheck bool
	// Addresses begin with the primary one.
	Addresses  []Address
	Prefixes   []netip.Prefix
	Tags       map[string]string
	Attachment *Attachment
	// Requester is who manages it, if not the account: EKS for the control plane's.
	Requester string
	// Namespace and Device are where a requester's interface ends; an instance's follow from its attachment.
	Namespace string
	Device    string
	Created   time.Time
}

// Address is a private address with the public one that stands for it, if any.
type Address struct {
	IP     netip.Addr
	Public netip.Addr
}

// Attachment states.
const (
	Attaching = "attaching"
	Attached  = "attached"
	Detaching = "detaching"
)

// Attachment ties an interface to an instance.
type Attachment struct {
	ID                  string
	InstanceID          string
	InstanceOwner       string
	DeviceIndex         int
	NetworkCard         int
	Status              string
	Since               time.Time
	Due                 time.Time
	DeleteOnTermination bool
}

// Status is the interface's own state.
func (e *ENI) Status() string {
	if e.Attachment != nil {
		return "in-use"
	}
	return "available"
}

// Primary is the primary private address.
func (e *ENI) Primary() netip.Addr {
	if len(e.Addresses) == 0 {
		return netip.Addr{}
	}
	return e.Addresses[0].IP
}

// Has says whether the address is the interface's own, alone or in a prefix.
func (e *ENI) Has(a netip.Addr) bool {
	return slices.ContainsFunc(e.Addresses, func(x Address) bool { return x.IP == a }) ||
		slices.ContainsFunc(e.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// used is what counts against the type's addresses: a prefix counts as one.
func (e *ENI) used() int { return len(e.Addresses) + len(e.Prefixes) }

func (e *ENI) clone() ENI {
	out := *e
	out.Groups = slices.Clone(e.Groups)
	out.Addresses = slices.Clone(e.Addresses)
	out.Prefixes = slices.Clone(e.Prefixes)
	out.Tags = cloneTags(e.Tags)
	if e.Attachment != nil {
		a := *e.Attachment
		out.Attachment = &a
	}
	return out
}

// maxPerENI is EC2's bound on any interface, whatever it is attached to.
const maxPerENI = 50

// CreateENIInput asks for an interface. Of Secondary, SecondaryCount, Prefixes and PrefixCount one may be set.
type CreateENIInput struct {
	SubnetID       string
	Description    string
	Groups         []string
	Primary        netip.Addr
	Secondary      []netip.Addr
	SecondaryCount int
	Prefixes       []netip.Prefix
	PrefixCount    int
	Tags           map[string]string
	// Token makes a repetition return the same interface; Fingerprint is what must then be the same.
	Token       string
	Fingerprint string
}

// CreatedENI is what a client token made.
type CreatedENI struct {
	Fingerprint string
	ENI         ENI
}

// CreateENI makes an interface that is not attached.
func (c *Cloud) CreateENI(ctx context.Context, in CreateENIInput) (ENI, error) {
	var out ENI
	err := c.change(ctx, func(m *Model) error {
		if in.Token != "" {
			if before, ok := m.CreatedByToken[in.Token]; ok {
				if before.Fingerprint != in.Fingerprint {
					return apierror.New("IdempotentParameterMismatch", "The client token you have provided is already associated with a different request. Please use a different client token.")
				}
				out = before.ENI.clone()
				if now := m.ENIs[out.ID]; now != nil {
					out = now.clone()
				}
				return nil
			}
		}
		e, err := c.createENI(m, in)
		if err != nil {
			return err
		}
		out = e.clone()
		if in.Token != "" {
			m.CreatedByToken[in.Token] = CreatedENI{Fingerprint: in.Fingerprint, ENI: e.clone()}
		}
		return nil
	})
	return out, err
}

func (c *Cloud) createENI(m *Model, in CreateENIInput) (*ENI, error) {
	s := m.Subnets[in.SubnetID]
	if s == nil {
		return nil, notFound("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", in.SubnetID)
	}
	ways := 0
	for _, set := range []bool{len(in.Secondary) > 0, in.SecondaryCount > 0, len(in.Prefixes) > 0, in.PrefixCount > 0} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		return nil, apierror.New("InvalidParameterCombination", "You can specify only one of the following: private IP addresses, a secondary private IP address count, IPv4 prefixes, or an IPv4 prefix count")
	}
	groups := slices.Clone(in.Groups)
	if len(groups) == 0 {
		groups = []string{m.VPCs[s.VPCID].DefaultGroup}
	}
	if err := m.checkGroups(groups, s.VPCID, "InvalidSecurityGroupID.NotFound", s.ID); err != nil {
		return nil, err
	}
	if err := checkTags(nil, in.Tags); err != nil {
		return nil, err
	}
	if 1+len(in.Secondary)+in.SecondaryCount+len(in.Prefixes)+in.PrefixCount > maxPerENI {
		return nil, apierror.New("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")
	}
	named := slices.Clone(in.Secondary)
	if in.Primary.IsValid() {
		named = append([]netip.Addr{in.Primary}, named...)
	}
	if err := s.checkFresh(named); err != nil {
		return nil, err
	}
	if err := s.checkBlocks(in.Prefixes); err != nil {
		return nil, err
	}
	avoid := slices.Clone(named)
	for _, p := range in.Prefixes {
		for a, i := p.Addr(), 0; i < blockSize; a, i = a.Next(), i+1 {
			avoid = append(avoid, a)
		}
	}
	count := in.SecondaryCount
	if !in.Primary.IsValid() {
		count++
	}
	picked, err := s.pick(c.rng, count, avoid)
	if err != nil {
		return nil, err
	}
	blocks := slices.Clone(in.Prefixes)
	if in.PrefixCount > 0 {
		if blocks, err = s.pickBlocks(c.rng, in.PrefixCount, append(avoid, picked...)); err != nil {
			return nil, err
		}
	}
	var addresses []Address
	if in.Primary.IsValid() {
		addresses = append(addresses, Address{IP: in.Primary})
	} else {
		addresses = append(addresses, Address{IP: picked[0]})
		picked = picked[1:]
	}
	for _, a := range append(slices.Clone(in.Secondary), picked...) {
		addresses = append(addresses, Address{IP: a})
	}
	e := &ENI{
		ID: newID(c.rng, "eni"), Description: in.Description, SubnetID: s.ID, VPCID: s.VPCID, AZ: s.AZ, MAC: c.newMAC(),
		Groups: groups, SourceDestCheck: true, Addresses: addresses, Prefixes: blocks, Tags: cloneTags(in.Tags), Created: c.cfg.Now(),
	}
	m.ENIs[e.ID] = e
	s.hold(e)
	return e, nil
}

// checkFresh says whether named addresses can be had: inside, not AWS's, not twice, free.
func (s *Subnet) checkFresh(named []netip.Addr) error {
	seen := map[netip.Addr]bool{}
	for _, a := range named {
		if err := s.checkNamed(a); err != nil {
			return err
		}
		if seen[a] {
			return apierror.New("InvalidParameterValue", "Duplicate private IP address %s in the request", a)
		}
		seen[a] = true
		if !s.isFree(a) {
			return apierror.New("InvalidIPAddress.InUse", "The specified address is already in use.")
		}
	}
	return nil
}

func (s *Subnet) checkBlocks(blocks []netip.Prefix) error {
	seen := map[netip.Prefix]bool{}
	for _, p := range blocks {
		if seen[p] || !s.blockFree(p) {
			return apierror.New("InvalidParameterValue", "There aren't sufficient free Ipv4 addresses or prefixes")
		}
		seen[p] = true
	}
	return nil
}

// DeleteENI deletes an interface that nothing uses.
func (c *Cloud) DeleteENI(ctx context.Context, id string) error {
	return c.change(ctx, func(m *Model) error {
		e, err := m.eni(id)
		if err != nil {
			return err
		}
		if e.Requester != "" {
			return apierror.New("OperationNotPermitted", "You do not have permission to access the specified resource.")
		}
		if e.Attachment != nil {
			return apierror.New("InvalidParameterValue", "Network interface '%s' is currently in use.", id)
		}
		m.dropENI(e)
		return nil
	})
}

func (m *Model) dropENI(e *ENI) {
	if s := m.Subnets[e.SubnetID]; s != nil {
		s.release(e)
	}
	for _, a := range e.Addresses {
		if a.Public.IsValid() {
			delete(m.Public.Taken, a.Public)
		}
	}
	delete(m.ENIs, e.ID)
}

func (m *Model) eni(id string) (*ENI, error) {
	if e := m.ENIs[id]; e != nil {
		return e, nil
	}
	return nil, notFound("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", id)
}

// limitOf is how many addresses the interface may have where it is now.
func (m *Model) limitOf(e *ENI) (limit int, prefixes bool) {
	if e.Attachment == nil {
		return maxPerENI, true
	}
	if i := m.Instances[e.Attachment.InstanceID]; i != nil {
		if t, ok := TypeByName(i.Type); ok {
			return t.IPv4PerENI, t.Prefixes()
		}
	}
	return maxPerENI, true
}

// AssignInput asks for more addresses on an interface, in exactly one way.
type AssignInput struct {
	ENI          string
	Addresses    []netip.Addr
	Count        int
	Prefixes     []netip.Prefix
	PrefixCount  int
	Reassignment bool
}

// Assigned is what an assignment added.
type Assigned struct {
	ENI       string
	Addresses []netip.Addr
	Prefixes  []netip.Prefix
}

// Assign adds secondary addresses or prefixes, all or none.
func (c *Cloud) Assign(ctx context.Context, in AssignInput) (Assigned, error) {
	out := Assigned{ENI: in.ENI}
	err := c.change(ctx, func(m *Model) error {
		e, err := m.eni(in.ENI)
		if err != nil {
			return err
		}
		ways := 0
		for _, set := range []bool{len(in.Addresses) > 0, in.Count > 0, len(in.Prefixes) > 0, in.PrefixCount > 0} {
			if set {
				ways++
			}
		}
		switch {
		case ways == 0:
			return apierror.New("MissingParameter", "Either private IP addresses or a secondary private IP address count must be specified")
		case ways > 1:
			return apierror.New("InvalidParameterCombination", "You can specify only one of: PrivateIpAddresses, SecondaryPrivateIpAddressCount, Ipv4Prefixes, Ipv4PrefixCount")
		}
		limit, prefixes := m.limitOf(e)
		if (len(in.Prefixes) > 0 || in.PrefixCount > 0) && !prefixes {
			return apierror.New("InvalidParameterCombination", "Prefix delegation is only supported on instances built on the Nitro system")
		}
		s := m.Subnets[e.SubnetID]
		var fresh, moved []netip.Addr
		seen := map[netip.Addr]bool{}
		for _, a := range in.Addresses {
			if err := s.checkNamed(a); err != nil {
				return err
			}
			if seen[a] {
				return apierror.New("InvalidParameterValue", "Duplicate private IP address %s in the request", a)
			}
			seen[a] = true
			holder := s.taken[a]
			switch {
			case holder == "" && s.isFree(a):
				fresh = append(fresh, a)
			case holder == e.ID && in.Reassignment:
				// It is where it is asked to be.
			case holder != "" && in.Reassignment && m.ENIs[holder].Primary() != a:
				moved = append(moved, a)
			default:
				return apierror.New("InvalidParameterValue", "[%s] assigned, but move is not allowed.", a)
			}
		}
		if err := s.checkBlocks(in.Prefixes); err != nil {
			return err
		}
		if e.used()+len(fresh)+len(moved)+in.Count+len(in.Prefixes)+in.PrefixCount > limit {
			return apierror.New("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")
		}
		if in.Count > 0 {
			if fresh, err = s.pick(c.rng, in.Count, nil); err != nil {
				return err
			}
		}
		blocks := slices.Clone(in.Prefixes)
		if in.PrefixCount > 0 {
			if blocks, err = s.pickBlocks(c.rng, in.PrefixCount, nil); err != nil {
				return err
			}
		}
		for _, a := range moved {
			m.takeAway(m.ENIs[s.taken[a]], a)
		}
		for _, a := range append(fresh, moved...) {
			e.Addresses = append(e.Addresses, Address{IP: a})
			out.Addresses = append(out.Addresses, a)
		}
		e.Prefixes = append(e.Prefixes, blocks...)
		out.Prefixes = blocks
		s.hold(e)
		return nil
	})
	return out, err
}

func (m *Model) takeAway(e *ENI, a netip.Addr) {
	i := slices.IndexFunc(e.Addresses, func(x Address) bool { return x.IP == a })
	if i < 0 {
		return
	}
	if p := e.Addresses[i].Public; p.IsValid() {
		delete(m.Public.Taken, p)
	}
	e.Addresses = slices.Delete(e.Addresses, i, i+1)
	delete(m.Subnets[e.SubnetID].taken, a)
}

// Unassign takes secondary addresses and prefixes away, all or none.
func (c *Cloud) Unassign(ctx context.Context, id string, addresses []netip.Addr, prefixes []netip.Prefix) error {
	return c.change(ctx, func(m *Model) error {
		e, err := m.eni(id)
		if err != nil {
			return err
		}
		if len(addresses) == 0 && len(prefixes) == 0 {
			return apierror.New("MissingParameter", "The request must contain the parameter PrivateIpAddresses or Ipv4Prefixes")
		}
		for _, a := range addresses {
			if a == e.Primary() {
				return apierror.New("InvalidParameterValue", "The primary IP address of an interface cannot be unassigned.")
			}
			if !slices.ContainsFunc(e.Addresses, func(x Address) bool { return x.IP == a }) {
				return apierror.New("InvalidParameterValue", "Some of the specified addresses are not assigned to interface %s", id)
			}
		}
		for _, p := range prefixes {
			if !slices.Contains(e.Prefixes, p) {
				return apierror.New("InvalidParameterValue", "Some of the specified prefixes are not assigned to interface %s", id)
			}
		}
		for _, a := range addresses {
			m.takeAway(e, a)
		}
		for _, p := range prefixes {
			e.Prefixes = slices.DeleteFunc(e.Prefixes, func(x netip.Prefix) bool { return x == p })
			delete(m.Subnets[e.SubnetID].blocks, p)
		}
		return nil
	})
}

// SetENIGroups replaces an interface's security groups.
func (c *Cloud) SetENIGroups(ctx context.Context, id string, groups []string) error {
	return c.change(ctx, func(m *Model) error {
		e, err := m.eni(id)
		if err != nil {
			return err
		}
		if err := m.checkGroups(groups, e.VPCID, "InvalidGroup.NotFound", e.SubnetID); err != nil {
			return err
		}
		e.Groups = slices.Clone(groups)
		return nil
	})
}

// SetSourceDestCheck turns the source/destination check on or off.
func (c *Cloud) SetSourceDestCheck(ctx context.Context, id string, on bool) error {
	return c.change(ctx, func(m *Model) error {
		e, err := m.eni(id)
		if err != nil {
			return err
		}
		e.SourceDestCheck = on
		return nil
	})
}

// SetENIDescription changes an interface's description.
func (c *Cloud) SetENIDescription(ctx context.Context, id, text string) error {
	return c.change(ctx, func(m *Model) error {
		e, err := m.eni(id)
		if err != nil {
			return err
		}
		e.Description = text
		return nil
	})
}

func notFound(code, format string, args ...any) error { return apierror.New(code, format, args...) }
