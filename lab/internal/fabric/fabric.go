package fabric

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/lab/internal/netns"
)

// Fabric is the VPC of one lab. It remembers next to nothing: what is there, it reads from the kernel.
type Fabric struct {
	lab string
	log *slog.Logger

	mu sync.Mutex
	// public is the translation that was applied last, nil before the first Apply.
	public map[netip.Addr]netip.Addr
}

// New makes the fabric of a lab; it touches nothing.
func New(lab string, log *slog.Logger) *Fabric {
	return &Fabric{lab: lab, log: log}
}

// Apply makes the kernel match the state. It can be called as often as wanted, also by a process that finds the
// work of another one, and goes as far as it can: one interface that can't be attached doesn't stop the others.
func (f *Fabric) Apply(ctx context.Context, s State) error {
	if s.Lab != f.lab {
		return fmt.Errorf("%w: this is the fabric of lab %q, the state is of %q", ErrState, f.lab, s.Lab)
	}
	if err := s.Check(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.apply(ctx, s); err != nil {
		return fmt.Errorf("fabric %s: %w", f.lab, err)
	}
	return nil
}

func (f *Fabric) apply(ctx context.Context, s State) error {
	vpcNS, inetNS := VPCNamespace(f.lab), InternetNamespace(f.lab)
	for _, ns := range append([]string{vpcNS, inetNS}, s.Namespaces...) {
		if err := makeNamespace(f.lab, ns); err != nil {
			return err
		}
	}
	vpc, err := netns.Netlink(vpcNS, unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer vpc.Close()
	inet, err := netns.Netlink(inetNS, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer inet.Close()

	before, err := listRoutes(vpc)
	if err != nil {
		return err
	}
	// What goes, goes first: a device's name and an address may be wanted by another interface.
	links, err := f.detach(vpc, s)
	if err != nil {
		return err
	}
	if err := f.removeNamespaces(s.Namespaces); err != nil {
		return err
	}
	// The rules are there before what they watch: they go by name.
	if err := (firewall{namespace: vpcNS, log: f.log}).apply(ctx, rules(s)); err != nil {
		return err
	}
	gw, outside, err := f.base(s, vpc, inet)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	errs := f.attachAll(ctx, vpc, s, links)
	found, err := listRoutes(vpc)
	if err != nil {
		return errors.Join(errs, err)
	}
	want := vpcRoutes(s, links, gw)
	errs = errors.Join(errs, syncRoutes(vpc, found, want))
	if found, err = listRoutes(inet); err != nil {
		return errors.Join(errs, err)
	}
	errs = errors.Join(errs, syncRoutes(inet, found, internetRoutes(s, outside)))
	public := publicAddresses(s)
	errs = errors.Join(errs, forget(vpc, append(changedHands(before, want), renumbered(f.public, public)...)))
	if errs == nil {
		f.public = public
	}
	return errs
}

// detach removes the links that the state doesn't have as they are and returns the rest by device name.
func (f *Fabric) detach(vpc *netlink.Handle, s State) (map[string]eniLink, error) {
	found, err := listENIs(vpc)
	if err != nil {
		return nil, err
	}
	want := map[string]tag{}
	for _, e := range s.ENIs {
		if e.Namespace == "" {
			continue
		}
		t, err := wantedTag(e)
		if err != nil {
			return nil, err
		}
		want[deviceName(e.ID)] = t
	}
	for name, l := range found {
		if t, ok := want[name]; ok && t == l.tag {
			continue
		}
		if err := removeLink(vpc, l.index); err != nil {
			return nil, fmt.Errorf("remove %s: %w", name, err)
		}
		f.log.Debug("interface detached", "eni", l.tag.eni, "namespace", l.tag.namespace)
		delete(found, name)
	}
	return found, nil
}

func wantedTag(e ENI) (tag, error) {
	inode, err := netns.Inode(e.Namespace)
	if err != nil {
		return tag{}, err
	}
	return tag{eni: e.ID, namespace: e.Namespace, inode: inode, device: e.Device, mac: e.MAC}, nil
}

// attachAll makes the links that are missing and adds them to links.
func (f *Fabric) attachAll(ctx context.Context, vpc *netlink.Handle, s State, links map[string]eniLink) error {
	subnets := map[string]Subnet{}
	for _, sn := range s.Subnets {
		subnets[sn.ID] = sn
	}
	var errs error
	for _, e := range s.ENIs {
		name := deviceName(e.ID)
		if _, ok := links[name]; ok || e.Namespace == "" {
			continue
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(errs, err)
		}
		t, err := wantedTag(e)
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		l, err := attach(vpc, VPCNamespace(f.lab), e, subnets[e.SubnetID], t)
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		f.log.Debug("interface attached", "eni", e.ID, "namespace", e.Namespace, "device", e.Device)
		links[name] = l
	}
	return errs
}

// removeNamespaces deletes those that the lab made and the state doesn't have. Their interfaces are gone by now, so
// it doesn't matter that the kernel takes its time to take them apart.
func (f *Fabric) removeNamespaces(keep []string) error {
	have, _, err := owned(f.lab)
	if err != nil {
		return err
	}
	for _, ns := range have {
		if ns == VPCNamespace(f.lab) || ns == InternetNamespace(f.lab) || slices.Contains(keep, ns) {
			continue
		}
		if err := netns.Delete(ns); err != nil {
			return err
		}
	}
	return nil
}

// base sets up what doesn't depend on any interface, and returns the indexes of the gateway link's ends.
func (f *Fabric) base(s State, vpc, inet *netlink.Handle) (gw, outside int, err error) {
	vpcNS, inetNS := VPCNamespace(f.lab), InternetNamespace(f.lab)
	if err := netns.Do(vpcNS, func() error { return writeSysctls(vpcSysctls()) }); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", vpcNS, err)
	}
	if err := netns.Do(inetNS, func() error { return writeSysctls(routerSysctls()) }); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", inetNS, err)
	}
	services := []netip.Addr{IMDS, Resolver, VPCResolver(s.VPC)}
	for _, sn := range s.Subnets {
		// The router's own address is the source of its ICMP errors; nothing else is answered on it.
		services = append(services, SubnetRouter(sn.CIDR))
	}
	if err := loopbackAddresses(vpc, services); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", vpcNS, err)
	}
	if err := loopbackAddresses(inet, []netip.Addr{Endpoints, InternetHost, PublicHost, Workstation}); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", inetNS, err)
	}
	return gateway(f.lab, vpc, inet)
}

// vpcRoutes are the routes of <lab>-vpc: one for each assigned address and prefix, the internet, and for the rest
// of the VPC a route out of the gateway link, where the ruleset counts and drops.
func vpcRoutes(s State, links map[string]eniLink, gw int) map[netip.Prefix]route {
	subnets := map[string]netip.Prefix{}
	for _, sn := range s.Subnets {
		subnets[sn.ID] = sn.CIDR
	}
	want := map[netip.Prefix]route{}
	add := func(r route) { want[r.dst] = r }
	add(route{dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), device: gw, via: gatewayInternet.Addr()})
	add(route{dst: s.VPC, device: gw})
	add(route{dst: linkLocal, device: gw})
	for _, e := range s.ENIs {
		l, ok := links[deviceName(e.ID)]
		if !ok {
			continue
		}
		primary, src := e.Addresses[0], SubnetRouter(subnets[e.SubnetID])
		add(route{dst: netip.PrefixFrom(primary, 32), device: l.index, src: src})
		for _, a := range e.Addresses[1:] {
			add(route{dst: netip.PrefixFrom(a, 32), device: l.index, via: primary, src: src})
		}
		for _, p := range e.Prefixes {
			add(route{dst: p, device: l.index, via: primary, src: src})
		}
	}
	return want
}

// internetRoutes are those of <lab>-inet: public addresses lead back, anything else nowhere, silently.
func internetRoutes(s State, outside int) map[netip.Prefix]route {
	want := map[netip.Prefix]route{}
	nowhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	want[nowhere] = route{dst: nowhere, blackhole: true}
	back := func(a netip.Addr) {
		p := netip.PrefixFrom(a, 32)
		want[p] = route{dst: p, device: outside, via: gatewayVPC.Addr()}
	}
	for _, public := range publicAddresses(s) {
		back(public)
	}
	if s.NATGateway.IsValid() {
		back(s.NATGateway)
	}
	return want
}

func publicAddresses(s State) map[netip.Addr]netip.Addr {
	all := map[netip.Addr]netip.Addr{}
	for _, e := range s.ENIs {
		for private, public := range e.Public {
			all[private] = public
		}
	}
	return all
}

// Remove deletes everything that a lab's fabric made, by its marks alone: it needs no state and can be repeated.
func Remove(ctx context.Context, lab string) error {
	if !idPattern.MatchString(lab) {
		return fmt.Errorf("%w: lab %q: want letters, digits and dashes", ErrState, lab)
	}
	namespaces, debris, err := owned(lab)
	if err != nil {
		return fmt.Errorf("fabric %s: %w", lab, err)
	}
	// The links go first and by themselves: a namespace that a process still holds would keep its ends of them.
	var errs error
	if vpc := VPCNamespace(lab); slices.Contains(namespaces, vpc) {
		errs = removeLinks(vpc)
	}
	for _, ns := range append(namespaces, debris...) {
		if err := ctx.Err(); err != nil {
			errs = errors.Join(errs, err)
			break
		}
		errs = errors.Join(errs, netns.Delete(ns))
	}
	if errs != nil {
		return fmt.Errorf("fabric %s: %w", lab, errs)
	}
	return nil
}

func removeLinks(ns string) error {
	h, err := netns.Netlink(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	links, err := again(h.LinkList)
	if err != nil {
		return fmt.Errorf("%s: list links: %w", ns, err)
	}
	for _, l := range links {
		if a := l.Attrs(); a.Name == gatewayDevice || strings.HasPrefix(a.Name, eniPrefix) {
			if err := removeLink(h, a.Index); err != nil {
				return fmt.Errorf("%s: remove %s: %w", ns, a.Name, err)
			}
		}
	}
	return nil
}
