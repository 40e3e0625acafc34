package operator

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/ec2"
)

// staleness is how old a describe may be: EC2 shows a change up to that much later.
const staleness = time.Minute

// Inventory is what is known of the instances' ENIs: what EC2 described and what was changed since. It
// drops an ENI or an address only when two describes agree that it is gone and it wasn't seen, or made, for
// a while: a list that lags is no evidence.
type Inventory struct {
	api     ec2.API
	cluster string
	now     func() time.Time

	mu        sync.Mutex
	instances map[string]*instanceView
	types     map[string]ec2.InstanceType
	next      *batch

	describing sync.Mutex
}

// batch is a set of instances that are described together.
type batch struct {
	ids  []string
	done chan struct{}
	err  error
}

// batchTimeout bounds a describe of many instances: whoever waits for it may have given up.
const batchTimeout = time.Minute

// refresh describes an instance, together with all that others ask for while a describe is under way: a
// hundred nodes that come at once take a few calls.
func (v *Inventory) refresh(ctx context.Context, id string) error {
	v.mu.Lock()
	b, first := v.next, false
	if b == nil {
		b, first = &batch{done: make(chan struct{})}, true
		v.next = b
	}
	if !slices.Contains(b.ids, id) {
		b.ids = append(b.ids, id)
	}
	v.mu.Unlock()
	if !first {
		select {
		case <-b.done:
			return b.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	v.describing.Lock()
	defer v.describing.Unlock()
	v.mu.Lock()
	v.next = nil
	v.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), batchTimeout)
	defer cancel()
	defer close(b.done)
	b.err = v.Sync(ctx, b.ids)
	return b.err
}

// instanceView is one instance.
type instanceView struct {
	instance ec2.Instance
	enis     map[string]*eniView
	// fresh is false until described, and after a call whose outcome isn't known.
	fresh bool
	// vanished counts ENIs of ours that are gone: a client token must not be used for a second ENI.
	vanished int64
	// limit is what EC2 said the instance allows, where that is less than its type's.
	limit      int
	limitUntil time.Time
	// wanted are the ENIs that the node's plan is about to attach.
	wanted []string
}

type eniView struct {
	ec2.Interface
	evidence
	addresses map[netip.Addr]*evidence
	// attachedAt is when we attached it: a describe that shows none is older.
	attachedAt time.Time
}

// evidence of something that may be gone.
type evidence struct {
	seen   time.Time // described, or made
	missed int       // describes in a row without it
}

func (e *evidence) gone(now time.Time) bool {
	e.missed++
	return e.missed >= 2 && now.Sub(e.seen) >= staleness
}

// View is a copy of what is known of an instance.
type View struct {
	Instance   ec2.Instance
	Interfaces []ec2.Interface // by device index; those that aren't attached last
	// Epoch for client tokens, beside the generation.
	Epoch int64
	// InterfaceLimit that EC2 enforced; 0 if none was met.
	InterfaceLimit int
}

// NewInventory knows nothing.
func NewInventory(api ec2.API, cluster string, now func() time.Time) *Inventory {
	return &Inventory{api: api, cluster: cluster, now: now, instances: map[string]*instanceView{}, types: map[string]ec2.InstanceType{}}
}

// View of an instance, described if need be. ok is false if EC2 doesn't know the instance (yet).
func (v *Inventory) View(ctx context.Context, instanceID string) (View, bool, error) {
	v.mu.Lock()
	known := v.instances[instanceID]
	fresh := known != nil && known.fresh
	v.mu.Unlock()
	if !fresh {
		if err := v.refresh(ctx, instanceID); err != nil {
			return View{}, false, err
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	known = v.instances[instanceID]
	if known == nil || known.instance.ID == "" {
		return View{}, false, nil
	}
	return known.view(v.now()), true, nil
}

func (i *instanceView) view(now time.Time) View {
	out := View{Instance: i.instance, Epoch: i.vanished}
	if now.Before(i.limitUntil) {
		out.InterfaceLimit = i.limit
	}
	for _, id := range slices.Sorted(maps.Keys(i.enis)) {
		out.Interfaces = append(out.Interfaces, i.enis[id].copy())
	}
	slices.SortStableFunc(out.Interfaces, func(a, b ec2.Interface) int { return position(a) - position(b) })
	return out
}

func position(i ec2.Interface) int {
	if i.Attachment == nil {
		return 1 << 20
	}
	return i.Attachment.CardIndex<<10 + i.Attachment.DeviceIndex
}

func (e *eniView) copy() ec2.Interface {
	out := e.Interface
	out.Groups = slices.Clone(e.Groups)
	out.Prefixes = slices.Clone(e.Prefixes)
	out.Tags = maps.Clone(e.Tags)
	out.Secondary = slices.SortedFunc(maps.Keys(e.addresses), netip.Addr.Compare)
	if e.Attachment != nil {
		a := *e.Attachment
		out.Attachment = &a
	}
	return out
}

// Sync describes instances: their ENIs, and those that were made for them and aren't attached.
func (v *Inventory) Sync(ctx context.Context, instanceIDs []string) error {
	if len(instanceIDs) == 0 {
		return nil
	}
	instances, err := v.api.DescribeInstances(ctx, instanceIDs)
	if err != nil {
		return err
	}
	attached, err := v.api.DescribeInterfaces(ctx, ec2.InterfaceQuery{InstanceIDs: instanceIDs})
	if err != nil {
		return err
	}
	ours, err := v.api.DescribeInterfaces(ctx, ec2.InterfaceQuery{
		MadeFor: instanceIDs, Tags: map[string]string{ec2.TagManaged: "true", ec2.TagCluster: v.cluster},
	})
	if err != nil {
		return err
	}
	found := map[string]map[string]ec2.Interface{}
	for _, e := range append(ours, attached...) { // what is attached has the last word
		id := e.Instance()
		if found[id] == nil {
			found[id] = map[string]ec2.Interface{}
		}
		found[id][e.ID] = e
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, i := range instances {
		v.of(i.ID).instance = i
	}
	now := v.now()
	for _, id := range instanceIDs {
		i := v.of(id)
		i.merge(found[id], now, v.cluster)
		i.fresh = i.instance.ID != ""
	}
	return nil
}

func (v *Inventory) of(id string) *instanceView {
	i := v.instances[id]
	if i == nil {
		i = &instanceView{enis: map[string]*eniView{}}
		v.instances[id] = i
	}
	return i
}

func (i *instanceView) merge(found map[string]ec2.Interface, now time.Time, cluster string) {
	for id, e := range found {
		known := i.enis[id]
		if known == nil {
			known = &eniView{addresses: map[netip.Addr]*evidence{}}
			i.enis[id] = known
		}
		known.merge(e, now)
	}
	for id, e := range i.enis {
		if _, ok := found[id]; ok || !e.gone(now) {
			continue
		}
		if e.Managed(cluster) {
			i.vanished++
		}
		delete(i.enis, id)
	}
}

func (e *eniView) merge(found ec2.Interface, now time.Time) {
	before := e.Attachment
	e.Interface = found
	if found.Attachment == nil && before != nil && now.Sub(e.attachedAt) < staleness {
		e.Attachment = before
	}
	if a := e.Attachment; a != nil && before != nil && before.Status == ec2.AttachmentAttached && a.Status == ec2.AttachmentAttaching &&
		(before.ID == "" || before.ID == a.ID) {
		a.Status = before.Status // an attachment doesn't go back
	}
	e.evidence = evidence{seen: now}
	listed := map[netip.Addr]bool{}
	for _, a := range found.Secondary {
		listed[a] = true
		e.addresses[a] = &evidence{seen: now}
	}
	for a, ev := range e.addresses {
		if !listed[a] && ev.gone(now) {
			delete(e.addresses, a)
		}
	}
}

// Seed an instance of which nothing is known with what an operator before told the node's agent: its first
// describe may lag behind that, and what endpoints use must not vanish from the spec meanwhile.
func (v *Inventory) Seed(spec v1alpha1.NodeNetworkSpec) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if spec.InstanceID == "" || v.instances[spec.InstanceID] != nil {
		return
	}
	i := v.of(spec.InstanceID)
	now := v.now()
	for _, told := range spec.Interfaces {
		primary, err := netip.ParseAddr(told.PrimaryAddress)
		if err != nil {
			continue
		}
		e := ec2.Interface{
			ID: told.ID, MAC: told.MAC, SubnetID: told.SubnetID, VPCID: spec.VPCID, Zone: spec.AvailabilityZone, Status: ec2.StatusInUse,
			Groups: told.SecurityGroups, Primary: primary, Tags: map[string]string{},
			// The attachment's id isn't known: whatever needs it waits for a describe.
			Attachment: &ec2.Attachment{InstanceID: spec.InstanceID, DeviceIndex: int(told.DeviceIndex), Status: ec2.AttachmentAttached},
		}
		if told.Managed && told.DeviceIndex > 0 {
			e.Tags = map[string]string{ec2.TagManaged: "true", ec2.TagCluster: v.cluster, ec2.TagInstance: spec.InstanceID}
		}
		for _, a := range told.Addresses {
			if addr, err := netip.ParseAddr(a.Address); err == nil {
				e.Secondary = append(e.Secondary, addr)
			}
		}
		for _, a := range told.Foreign {
			if addr, err := netip.ParseAddr(a); err == nil {
				e.Secondary = append(e.Secondary, addr)
			}
		}
		known := &eniView{addresses: map[netip.Addr]*evidence{}}
		known.merge(e, now)
		known.attachedAt = now
		i.enis[e.ID] = known
	}
}

// Forget an instance whose node is gone.
func (v *Inventory) Forget(instanceID string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.instances, instanceID)
}

// Doubt an instance's view: it is described before it is used again.
func (v *Inventory) Doubt(instanceID string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if i := v.instances[instanceID]; i != nil {
		i.fresh = false
	}
}

// settled is how long after it attached an ENI its device is there for certain.
const settled = 10 * time.Second

// Lost: the node finds no device for an ENI that it should have. EC2 is asked again, and believed at once if it too
// says that the ENI isn't attached: two who agree need no time to pass. While an ENI is new its device may be yet to come.
func (v *Inventory) Lost(instanceID string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := v.instances[instanceID]
	if i == nil {
		return
	}
	now := v.now()
	for _, e := range i.enis {
		if now.Sub(e.attachedAt) < settled {
			return
		}
	}
	i.fresh = false
	for _, e := range i.enis {
		e.attachedAt = time.Time{}
	}
}

// Limit remembers for a while that an instance takes no more than n interfaces.
func (v *Inventory) Limit(instanceID string, n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := v.of(instanceID)
	i.limit, i.limitUntil = n, v.now().Add(10*time.Minute)
}

// Want notes which unattached ENIs an instance's plan is about to attach.
func (v *Inventory) Want(instanceID string, enis []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if i := v.instances[instanceID]; i != nil {
		i.wanted = enis
	}
}

// Wanted: the instance's plan is about to attach the ENI.
func (v *Inventory) Wanted(instanceID, eniID string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := v.instances[instanceID]
	return i != nil && slices.Contains(i.wanted, eniID)
}

// Created adds an ENI that was made for an instance.
func (v *Inventory) Created(instanceID string, e ec2.Interface) {
	v.mu.Lock()
	defer v.mu.Unlock()
	known := &eniView{addresses: map[netip.Addr]*evidence{}}
	known.merge(e, v.now())
	v.of(instanceID).enis[e.ID] = known
}

// Attached notes that an ENI is being attached.
func (v *Inventory) Attached(instanceID, eniID string, a ec2.Attachment) {
	v.change(instanceID, eniID, func(e *eniView) {
		e.Attachment, e.Status, e.attachedAt = &a, ec2.StatusInUse, v.now()
		e.seen = v.now()
	})
}

// Assigned adds addresses to an ENI.
func (v *Inventory) Assigned(instanceID, eniID string, addresses []netip.Addr) {
	v.change(instanceID, eniID, func(e *eniView) {
		for _, a := range addresses {
			e.addresses[a] = &evidence{seen: v.now()}
		}
	})
}

// Unassigned removes addresses from an ENI.
func (v *Inventory) Unassigned(instanceID, eniID string, addresses []netip.Addr) {
	v.change(instanceID, eniID, func(e *eniView) {
		for _, a := range addresses {
			delete(e.addresses, a)
		}
	})
}

// DeletedOnTermination notes the attribute of an attachment.
func (v *Inventory) DeletedOnTermination(instanceID, eniID string, on bool) {
	v.change(instanceID, eniID, func(e *eniView) {
		if e.Attachment != nil {
			e.Attachment.DeleteOnTermination = on
		}
	})
}

// Deleted removes an ENI that was deleted.
func (v *Inventory) Deleted(instanceID, eniID string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := v.instances[instanceID]
	if i == nil {
		return
	}
	if _, ok := i.enis[eniID]; ok {
		i.vanished++
		delete(i.enis, eniID)
	}
}

func (v *Inventory) change(instanceID, eniID string, f func(*eniView)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if i := v.instances[instanceID]; i != nil && i.enis[eniID] != nil {
		f(i.enis[eniID])
	}
}

// Type returns the limits of an instance type.
func (v *Inventory) Type(ctx context.Context, name string) (ec2.InstanceType, error) {
	v.mu.Lock()
	t, ok := v.types[name]
	v.mu.Unlock()
	if ok {
		return t, nil
	}
	found, err := v.api.DescribeInstanceTypes(ctx, []string{name})
	if err != nil {
		return ec2.InstanceType{}, err
	}
	for _, t := range found {
		if t.Name == name && t.Interfaces > 0 && t.AddressesPerInterface > 0 {
			v.mu.Lock()
			v.types[name] = t
			v.mu.Unlock()
			return t, nil
		}
	}
	return ec2.InstanceType{}, fmt.Errorf("instance type %q: EC2 says nothing of its interfaces", name)
}
