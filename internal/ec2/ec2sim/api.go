package ec2sim

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/weft-cni/weft/internal/ec2"
)

// call records a call, refuses it if it is denied or to fail, and carries it out.
func call[T any](ctx context.Context, s *Sim, action, target string, mutating bool, f func() (T, error)) (T, error) {
	var zero T
	s.mu.Lock()
	n := len(s.log)
	s.log = append(s.log, Call{N: n + 1, Action: action, Target: target, Mutating: mutating})
	c, hook := s.log[n], s.hook
	s.mu.Unlock()
	var fault Fault
	if hook != nil {
		fault = hook(c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out, err := zero, fault.Before
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && s.denied[action] {
		err = fail(action, "UnauthorizedOperation", "You are not authorized to perform this operation.")
	}
	if err == nil {
		if out, err = f(); err == nil && fault.After != nil {
			out, err = zero, fault.After
		}
	}
	s.log[n].Err = err
	return out, err
}

func fail(action, code, format string, a ...any) error {
	return ec2.NewError(action, code, fmt.Sprintf(format, a...))
}

// DescribeInstances implements ec2.API.
func (s *Sim) DescribeInstances(ctx context.Context, ids []string) ([]ec2.Instance, error) {
	return call(ctx, s, ec2.ActionDescribeInstances, "", false, func() ([]ec2.Instance, error) {
		var out []ec2.Instance
		for _, id := range ids {
			if i := s.instances[id]; i != nil {
				out = append(out, *i)
			}
		}
		return out, nil
	})
}

// DescribeInstanceTypes implements ec2.API.
func (s *Sim) DescribeInstanceTypes(ctx context.Context, names []string) ([]ec2.InstanceType, error) {
	return call(ctx, s, ec2.ActionDescribeInstanceTypes, "", false, func() ([]ec2.InstanceType, error) {
		var out []ec2.InstanceType
		for _, n := range names {
			if t, ok := s.types[n]; ok {
				out = append(out, t)
			}
		}
		return out, nil
	})
}

// DescribeInterfaces implements ec2.API.
func (s *Sim) DescribeInterfaces(ctx context.Context, q ec2.InterfaceQuery) ([]ec2.Interface, error) {
	return call(ctx, s, ec2.ActionDescribeInterfaces, strings.Join(q.IDs, ","), false, func() ([]ec2.Interface, error) {
		var out []ec2.Interface
		for _, e := range s.enis {
			v, ok := e.past(s.now().Add(-s.Lag))
			if ok && !v.deleted && matches(q, v.Interface) {
				out = append(out, v.Interface)
			}
		}
		slices.SortFunc(out, func(a, b ec2.Interface) int { return cmp.Compare(a.ID, b.ID) })
		return out, nil
	})
}

func matches(q ec2.InterfaceQuery, i ec2.Interface) bool {
	for k, v := range q.Tags {
		if got, ok := i.Tags[k]; !ok || got != v {
			return false
		}
	}
	if len(q.MadeFor) > 0 && !slices.Contains(q.MadeFor, i.Tags[ec2.TagInstance]) {
		return false
	}
	return (len(q.IDs) == 0 || slices.Contains(q.IDs, i.ID)) &&
		(len(q.InstanceIDs) == 0 || i.Attachment != nil && slices.Contains(q.InstanceIDs, i.Attachment.InstanceID)) &&
		(q.VPCID == "" || q.VPCID == i.VPCID) && (q.Status == "" || q.Status == i.Status) && (q.Description == "" || q.Description == i.Description)
}

// DescribeSubnets implements ec2.API.
func (s *Sim) DescribeSubnets(ctx context.Context, vpcID string) ([]ec2.Subnet, error) {
	return call(ctx, s, ec2.ActionDescribeSubnets, vpcID, false, func() ([]ec2.Subnet, error) {
		var out []ec2.Subnet
		for _, b := range s.subnets {
			if b.vpc == vpcID {
				sub := b.Subnet
				sub.Free = max(b.free(), 0)
				out = append(out, sub)
			}
		}
		slices.SortFunc(out, func(a, b ec2.Subnet) int { return cmp.Compare(a.ID, b.ID) })
		return out, nil
	})
}

// DescribeRouteTables implements ec2.API.
func (s *Sim) DescribeRouteTables(ctx context.Context, vpcID string) ([]ec2.RouteTable, error) {
	return call(ctx, s, ec2.ActionDescribeRouteTables, vpcID, false, func() ([]ec2.RouteTable, error) {
		return slices.Clone(s.tables[vpcID]), nil
	})
}

// DescribeVPC implements ec2.API.
func (s *Sim) DescribeVPC(ctx context.Context, vpcID string) ([]netip.Prefix, error) {
	return call(ctx, s, ec2.ActionDescribeVPCs, vpcID, false, func() ([]netip.Prefix, error) {
		return slices.Clone(s.vpcs[vpcID]), nil
	})
}

// CreateInterface implements ec2.API.
func (s *Sim) CreateInterface(ctx context.Context, in ec2.CreateInterface) (ec2.Interface, error) {
	const action = ec2.ActionCreateInterface
	return call(ctx, s, action, in.SubnetID, true, func() (ec2.Interface, error) {
		if len(in.Tags) > 0 && s.denied["CreateTags"] {
			return ec2.Interface{}, fail(action, "UnauthorizedOperation", "You are not authorized to perform this operation.")
		}
		if t, ok := s.tokens[in.Token]; ok && in.Token != "" {
			if !reflect.DeepEqual(t.in, in) {
				return ec2.Interface{}, fail(action, "IdempotentParameterMismatch", "The client token was used with other parameters.")
			}
			if s.enis[t.id] == nil {
				return copyInterface(t.out), nil // EC2 repeats its answer, also for one that is gone
			}
			return s.enis[t.id].view(s.now()).Interface, nil
		}
		sub := s.subnets[in.SubnetID]
		if sub == nil {
			return ec2.Interface{}, fail(action, "InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", in.SubnetID)
		}
		if sub.free() < in.Addresses+1 {
			return ec2.Interface{}, fail(action, "InsufficientFreeAddressesInSubnet", "The specified subnet does not have enough free addresses to satisfy the request.")
		}
		v := s.create(sub, in.Addresses, in.Groups, in.Description, in.Tags)
		s.put(v)
		if in.Token != "" {
			s.tokens[in.Token] = token{in: in, id: v.ID, out: copyInterface(v.Interface)}
		}
		out := copyInterface(v.Interface)
		out.Status = ec2.StatusPending
		return out, nil
	})
}

// known finds an ENI; one that is new isn't found while EC2 lags.
func (s *Sim) known(action, id string) (version, error) {
	e := s.enis[id]
	if e != nil {
		_, visible := e.past(s.now().Add(-s.Lag))
		if v := e.view(s.now()); visible && !v.deleted {
			return v, nil
		}
	}
	return version{}, fail(action, "InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", id)
}

// AttachInterface implements ec2.API.
func (s *Sim) AttachInterface(ctx context.Context, interfaceID, instanceID string, deviceIndex int) (string, error) {
	const action = ec2.ActionAttachInterface
	return call(ctx, s, action, interfaceID, true, func() (string, error) {
		v, err := s.known(action, interfaceID)
		if err != nil {
			return "", err
		}
		inst := s.instances[instanceID]
		if inst == nil {
			return "", fail(action, "InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", instanceID)
		}
		if inst.State != ec2.StateRunning {
			return "", fail(action, "IncorrectState", "Instance '%s' is not 'running' or 'stopped'.", instanceID)
		}
		if v.Attachment != nil {
			return "", fail(action, "InvalidNetworkInterface.InUse", "Interface: [%s] in use.", interfaceID)
		}
		if v.Zone != inst.Zone {
			return "", fail(action, "InvalidParameterCombination", "You may not attach a network interface to an instance if they are not in the same availability zone")
		}
		limits, n := s.types[inst.Type], 0
		for _, e := range s.enis {
			o := e.view(s.now())
			if o.deleted || o.Attachment == nil || o.Attachment.InstanceID != instanceID {
				continue
			}
			n++
			if o.Attachment.DeviceIndex == deviceIndex {
				return "", fail(action, "InvalidParameterValue", "Instance '%s' already has an interface attached at device index '%d'.", instanceID, deviceIndex)
			}
		}
		if n >= limits.Interfaces {
			return "", fail(action, "AttachmentLimitExceeded", "Interface count %d exceeds the limit for %s", n+1, inst.Type)
		}
		if 1+len(v.Secondary)+len(v.Prefixes) > limits.AddressesPerInterface {
			return "", fail(action, "PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")
		}
		v.Attachment = &ec2.Attachment{ID: s.id("eni-attach"), InstanceID: instanceID, DeviceIndex: deviceIndex, Status: ec2.AttachmentAttaching}
		v.Status, v.attachedAt = ec2.StatusInUse, s.now().Add(s.AttachDelay)
		s.put(v)
		return v.Attachment.ID, nil
	})
}

// SetDeleteOnTermination implements ec2.API.
func (s *Sim) SetDeleteOnTermination(ctx context.Context, interfaceID, attachmentID string, on bool) error {
	const action = ec2.ActionModifyInterface
	_, err := call(ctx, s, action, interfaceID, true, func() (struct{}, error) {
		v, err := s.known(action, interfaceID)
		if err != nil {
			return struct{}{}, err
		}
		if v.Attachment == nil || v.Attachment.ID != attachmentID {
			return struct{}{}, fail(action, "InvalidAttachmentID.NotFound", "The attachment ID '%s' does not exist", attachmentID)
		}
		v.Attachment.DeleteOnTermination = on
		s.put(v)
		return struct{}{}, nil
	})
	return err
}

// AssignAddresses implements ec2.API.
func (s *Sim) AssignAddresses(ctx context.Context, interfaceID string, n int) ([]netip.Addr, error) {
	const action = ec2.ActionAssignAddresses
	return call(ctx, s, action, interfaceID, true, func() ([]netip.Addr, error) {
		v, err := s.known(action, interfaceID)
		if err != nil {
			return nil, err
		}
		if v.Attachment != nil {
			t := s.types[s.instances[v.Attachment.InstanceID].Type]
			if 1+len(v.Secondary)+len(v.Prefixes)+n > t.AddressesPerInterface {
				return nil, fail(action, "PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")
			}
		}
		sub := s.subnets[v.SubnetID]
		if sub.free() < n {
			return nil, fail(action, "InsufficientFreeAddressesInSubnet", "The specified subnet does not have enough free addresses to satisfy the request.")
		}
		added := sub.take(n, v.ID)
		v.Secondary = append(v.Secondary, added...)
		s.put(v)
		return added, nil
	})
}

// UnassignAddresses implements ec2.API.
func (s *Sim) UnassignAddresses(ctx context.Context, interfaceID string, addresses []netip.Addr) error {
	const action = ec2.ActionUnassignAddresses
	_, err := call(ctx, s, action, interfaceID, true, func() (struct{}, error) {
		v, err := s.known(action, interfaceID)
		if err != nil {
			return struct{}{}, err
		}
		for _, a := range addresses {
			if a == v.Primary {
				return struct{}{}, fail(action, "InvalidParameterValue", "The primary IP address of an interface cannot be unassigned.")
			}
			if !slices.Contains(v.Secondary, a) {
				return struct{}{}, fail(action, "InvalidParameterValue", "Some of the specified addresses are not assigned to interface %s", interfaceID)
			}
		}
		v.Secondary = slices.DeleteFunc(v.Secondary, func(a netip.Addr) bool { return slices.Contains(addresses, a) })
		for _, a := range addresses {
			delete(s.subnets[v.SubnetID].used, a)
		}
		s.put(v)
		return struct{}{}, nil
	})
	return err
}

// DetachInterface implements ec2.API.
func (s *Sim) DetachInterface(ctx context.Context, attachmentID string, _ bool) error {
	const action = ec2.ActionDetachInterface
	_, err := call(ctx, s, action, attachmentID, true, func() (struct{}, error) {
		for _, e := range s.enis {
			v := e.view(s.now())
			if v.deleted || v.Attachment == nil || v.Attachment.ID != attachmentID {
				continue
			}
			if v.Attachment.DeviceIndex == 0 {
				return struct{}{}, fail(action, "OperationNotPermitted", "The network interface at device index 0 cannot be detached.")
			}
			if v.Attachment.Status == ec2.AttachmentDetaching {
				return struct{}{}, fail(action, "IncorrectState", "Attachment '%s' is detaching.", attachmentID)
			}
			v.Attachment.Status = ec2.AttachmentDetaching
			v.detachedAt = s.now().Add(s.DetachDelay)
			s.put(v)
			return struct{}{}, nil
		}
		return struct{}{}, fail(action, "InvalidAttachmentID.NotFound", "The attachment ID '%s' does not exist", attachmentID)
	})
	return err
}

// DeleteInterface implements ec2.API.
func (s *Sim) DeleteInterface(ctx context.Context, interfaceID string) error {
	const action = ec2.ActionDeleteInterface
	_, err := call(ctx, s, action, interfaceID, true, func() (struct{}, error) {
		v, err := s.known(action, interfaceID)
		if err != nil {
			return struct{}{}, err
		}
		if v.Attachment != nil {
			return struct{}{}, fail(action, "InvalidParameterValue", "Network interface '%s' is currently in use.", interfaceID)
		}
		s.remove(v)
		return struct{}{}, nil
	})
	return err
}

// Permitted implements ec2.API.
func (s *Sim) Permitted(ctx context.Context, action string) error {
	_, err := call(ctx, s, action, "", false, func() (struct{}, error) { return struct{}{}, nil })
	return err
}
