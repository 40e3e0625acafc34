package cloud

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/weft-cni/weft/lab/internal/fabric"
)

// Wire makes the network what the model says.
type Wire interface {
	Apply(ctx context.Context, state fabric.State) error
}

// wireMemory is what the wire was told last.
type wireMemory struct{ state fabric.State }

const wireTimeout = time.Minute

// follow makes the wire follow the model. Callers that come together are served by one Apply. It outlives
// the request that caused it: half a network helps nobody.
func (c *Cloud) follow(ctx context.Context, force bool) error {
	if c.cfg.Wire == nil {
		return nil
	}
	c.mu.Lock()
	want := c.generation
	c.mu.Unlock()
	c.wireMu.Lock()
	defer c.wireMu.Unlock()
	if !force && c.wired >= want {
		return nil
	}
	c.mu.Lock()
	generation, state := c.generation, c.m.FabricState()
	c.mu.Unlock()
	if !force && c.last != nil && reflect.DeepEqual(c.last.state, state) {
		c.wired = generation
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wireTimeout)
	defer cancel()
	if err := c.cfg.Wire.Apply(ctx, state); err != nil {
		// What is there now is unknown.
		c.last = nil
		return fmt.Errorf("apply the network's state: %w", err)
	}
	c.wired, c.last = generation, &wireMemory{state: state}
	return nil
}

// Resync tells the wire the whole state whether or not it changed: after namespaces were made anew.
func (c *Cloud) Resync(ctx context.Context) error { return c.follow(ctx, true) }

// FabricState is the network that follows from the model.
func (m *Model) FabricState() fabric.State {
	out := fabric.State{Lab: m.Lab, VPC: m.Cidr, NATGateway: m.Public.NAT(), Groups: map[string]fabric.Group{}}
	for _, s := range Sorted(m.Subnets) {
		out.Subnets = append(out.Subnets, fabric.Subnet{ID: s.ID, CIDR: s.CIDR, Public: m.IsPublic(s), Isolated: m.IsIsolated(s)})
	}
	for _, g := range Sorted(m.Groups) {
		out.Groups[g.ID] = fabric.Group{Ingress: fabricRules(g.Ingress), Egress: fabricRules(g.Egress)}
	}
	namespaces := map[string]bool{}
	for _, i := range m.Instances {
		if i.State != Terminated {
			namespaces[m.Namespace(i.ID)] = true
		}
	}
	for _, e := range Sorted(m.ENIs) {
		f := fabric.ENI{
			ID: e.ID, MAC: e.MAC, SubnetID: e.SubnetID, SourceDestCheck: e.SourceDestCheck,
			Groups: slices.Clone(e.Groups), Prefixes: slices.Clone(e.Prefixes), Public: map[netip.Addr]netip.Addr{},
		}
		for _, a := range e.Addresses {
			f.Addresses = append(f.Addresses, a.IP)
			if a.Public.IsValid() {
				f.Public[a.IP] = a.Public
			}
		}
		f.Namespace, f.Device, f.Configure = m.placeOf(e)
		if f.Namespace != "" {
			namespaces[f.Namespace] = true
		}
		out.ENIs = append(out.ENIs, f)
	}
	for ns := range namespaces {
		out.Namespaces = append(out.Namespaces, ns)
	}
	slices.Sort(out.Namespaces)
	return out
}

// placeOf is where an interface ends on the wire: nowhere while it is still attaching.
func (m *Model) placeOf(e *ENI) (namespace, device string, configure bool) {
	switch {
	case e.Attachment == nil || e.Attachment.Status == Attaching:
		return "", "", false
	case e.Namespace != "":
		return e.Namespace, e.Device, true
	default:
		return m.Namespace(e.Attachment.InstanceID), deviceName(e.Attachment), e.Attachment.DeviceIndex == 0 && e.Attachment.NetworkCard == 0
	}
}

// deviceName is the name that the guest gives: eth0 for the first interface, then as a Nitro guest's slots
// are numbered. A second card's names do not collide with the first's.
func deviceName(a *Attachment) string {
	if a.DeviceIndex == 0 && a.NetworkCard == 0 {
		return "eth0"
	}
	return fmt.Sprintf("ens%d", 5+a.DeviceIndex+100*a.NetworkCard)
}

func fabricRules(rules []Rule) []fabric.Rule {
	out := make([]fabric.Rule, 0, len(rules))
	for _, r := range rules {
		out = append(out, fabric.Rule{Protocol: r.Protocol, FromPort: r.FromPort, ToPort: r.ToPort, CIDR: r.CIDR, Group: r.Group})
	}
	return out
}
