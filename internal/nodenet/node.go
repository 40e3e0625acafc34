package nodenet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/endpoint"
)

// Found is an ENI's device.
type Found struct {
	Interface
	Ifindex int
	Name    string
	MAC     net.HardwareAddr
	MTU     int
	Pacing  Pacing
}

// Report is what one pass saw and did.
type Report struct {
	// Found are the ENIs whose devices are there, Missing the ids of the others.
	Found   []Found
	Missing []string
	// Restored names what had been in place and was gone.
	Restored []string
}

// Node reconciles the kernel of one node.
type Node struct {
	h    *netlink.Handle
	sys  settings
	masq *masquerade
	log  *slog.Logger

	mu        sync.Mutex
	desired   Desired
	endpoints map[endpoint.Key]endpoint.Endpoint // connected ones
	found     map[int32]Found
	mtu       int
	applied   map[string]bool   // what the last pass left in place
	noFQ      map[string]string // devices that can't have fq, and why

	kick chan struct{}
}

// New returns a reconciler of the namespace that the process is in. procSysNet is /proc/sys/net or
// where the host's is mounted writable.
func New(procSysNet string, log *slog.Logger) (*Node, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return &Node{
		h: h, sys: settings{root: procSysNet}, masq: newMasquerade(), log: log,
		endpoints: map[endpoint.Key]endpoint.Endpoint{},
		found:     map[int32]Found{},
		applied:   map[string]bool{},
		noFQ:      map[string]string{},
		kick:      make(chan struct{}, 1),
	}, nil
}

// Close ends the netlink sockets; the kernel keeps everything.
func (n *Node) Close() { n.h.Close() }

// SetDesired replaces what the node shall be; Reconcile makes it so.
func (n *Node) SetDesired(d Desired) {
	n.mu.Lock()
	n.desired = d
	n.mu.Unlock()
	n.Kick()
}

// Kick asks Run for a pass.
func (n *Node) Kick() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// Adopt takes over endpoints that an earlier agent connected.
func (n *Node) Adopt(eps []endpoint.Endpoint) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range eps {
		n.endpoints[e.Key] = e
	}
}

// Abandon forgets an adopted endpoint whose device is gone.
func (n *Node) Abandon(k endpoint.Key) {
	n.mu.Lock()
	e := n.endpoints[k]
	delete(n.endpoints, k)
	n.mu.Unlock()
	n.forgetFlows(e)
	n.Kick()
}

// primary returns the device and address of the primary ENI. n.mu is held.
func (n *Node) primary() (Found, bool) {
	f, ok := n.found[0]
	return f, ok
}

func (n *Node) nodeAddr() netip.Addr {
	for _, i := range n.desired.Interfaces {
		if i.DeviceIndex == 0 {
			return i.Primary
		}
	}
	return netip.Addr{}
}

// Reconcile makes the kernel match. It goes as far as it can and returns every error.
func (n *Node) Reconcile(ctx context.Context) (Report, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var rep Report
	var errs []error
	was := n.applied
	n.applied = map[string]bool{}
	links, err := listLinks(n.h)
	if err != nil {
		n.applied = was
		return rep, fmt.Errorf("list devices: %w", err)
	}
	errs = append(errs, n.sys.node())
	n.findInterfaces(links, &rep)
	for i := range rep.Found {
		if err := n.setUpENI(&rep.Found[i], &rep, was); err != nil {
			errs = append(errs, fmt.Errorf("eni %s: %w", rep.Found[i].ID, err))
		}
	}
	eps, err := n.checkPairs(links, &rep, was)
	errs = append(errs, err, n.syncRoutes(eps, &rep, was), n.syncRules(eps, &rep, was), n.syncMasquerade(&rep, was))
	return rep, errors.Join(append(errs, ctx.Err())...)
}

// inPlace remembers what a pass left in the kernel; what was there after the last pass and had to be
// made again was taken by something else.
func (n *Node) inPlace(what string, made bool, was map[string]bool, rep *Report) {
	n.applied[what] = true
	if made && was[what] {
		rep.Restored = append(rep.Restored, what)
	}
}

func (n *Node) findInterfaces(links []netlink.Link, rep *Report) {
	n.found = map[int32]Found{}
	for _, i := range n.desired.Interfaces {
		l, ok := findENI(links, i.MAC)
		if !ok {
			rep.Missing = append(rep.Missing, i.ID)
			continue
		}
		a := l.Attrs()
		n.found[i.DeviceIndex] = Found{Interface: i, Ifindex: a.Index, Name: a.Name, MAC: a.HardwareAddr, MTU: a.MTU}
	}
	n.mtu = n.desired.MTU
	if p, ok := n.primary(); ok && n.mtu == 0 {
		n.mtu = p.MTU
	}
	for _, index := range slices.Sorted(maps.Keys(n.found)) {
		rep.Found = append(rep.Found, n.found[index])
	}
}

// setUpENI brings a device up. The primary ENI's address is the operating system's business; those of
// the others, which appear bare, are ours.
func (n *Node) setUpENI(f *Found, rep *Report, was map[string]bool) error {
	l, err := n.h.LinkByIndex(f.Ifindex)
	if err != nil {
		return fmt.Errorf("device %s: %w", f.Name, err)
	}
	if f.DeviceIndex != 0 {
		if n.mtu != 0 && l.Attrs().MTU != n.mtu {
			if err := n.h.LinkSetMTU(l, n.mtu); err != nil {
				return fmt.Errorf("device %s: set MTU %d: %w", f.Name, n.mtu, err)
			}
		}
		addrs, err := dump(func() ([]netlink.Addr, error) { return n.h.AddrList(l, netlink.FAMILY_V4) })
		if err != nil {
			return fmt.Errorf("device %s: list addresses: %w", f.Name, err)
		}
		has := slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return addrOf(a.IP) == f.Primary })
		if !has {
			if err := n.h.AddrAdd(l, &netlink.Addr{IPNet: ipNet(single(f.Primary))}); err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("device %s: add %s: %w", f.Name, f.Primary, err)
			}
		}
		n.inPlace(fmt.Sprintf("address %s on %s", f.Primary, f.Name), !has, was, rep)
	}
	if err := n.sys.eni(f.Name); err != nil {
		return err
	}
	up := l.Attrs().Flags&net.FlagUp != 0
	if !up {
		if err := n.h.LinkSetUp(l); err != nil {
			return fmt.Errorf("device %s: bring up: %w", f.Name, err)
		}
	}
	n.inPlace("device "+f.Name+" up", !up, was, rep)
	var made bool
	if f.Pacing, made = n.pace(l); f.Pacing.Own {
		n.inPlace("queue fq of device "+f.Name, made, was, rep)
	}
	return nil
}

func (n *Node) syncRoutes(eps []endpoint.Endpoint, rep *Report, was map[string]bool) error {
	indexes := map[int32]int{}
	for i, f := range n.found {
		indexes[i] = f.Ifindex
	}
	have, err := listRoutes(n.h)
	if err != nil {
		return err
	}
	want := wantRoutes(n.desired.Interfaces, indexes, eps, n.nodeAddr())
	missing, surplus := diff(want, have)
	var errs []error
	// Surplus first where it differs only by device: RouteReplace would change one of them.
	for _, r := range surplus {
		errs = append(errs, delRoute(n.h, r))
	}
	again := map[route]bool{}
	for _, r := range missing {
		again[r] = true
	}
	for _, r := range want {
		if again[r] {
			if err := addRoute(n.h, r); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		n.inPlace(r.String(), again[r], was, rep)
	}
	return errors.Join(errs...)
}

func (n *Node) syncRules(eps []endpoint.Endpoint, rep *Report, was map[string]bool) error {
	all, err := listRules(n.h)
	if err != nil {
		return err
	}
	want := wantRules(n.desired.Interfaces, eps)
	missing, _ := diff(want, presentRules(all))
	again := map[rule]bool{}
	var errs []error
	for _, r := range missing {
		again[r] = true
	}
	for _, r := range want {
		if again[r] {
			if err := addRule(n.h, r); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		n.inPlace(r.String(), again[r], was, rep)
	}
	for _, r := range surplusRules(all, want) {
		n.log.Info("surplus routing rule removed", "rule", r.String())
		errs = append(errs, delRule(n.h, r))
	}
	return errors.Join(errs...)
}

func (n *Node) syncMasquerade(rep *Report, was map[string]bool) error {
	switch {
	case n.desired.Masquerade:
	case n.desired.LeaveMasquerade:
		return nil
	default:
		ours := map[netip.Addr]bool{}
		for _, e := range n.endpoints {
			ours[e.Address] = true
		}
		if err := n.masq.retire(time.Now(), ours); err != nil {
			return fmt.Errorf("masquerade: %w", err)
		}
		return nil
	}
	sources := map[netip.Addr]netip.Addr{}
	for _, e := range n.endpoints {
		if to := n.masqueradeTo(e); to.IsValid() {
			sources[e.Address] = to
		}
	}
	rebuilt, err := n.masq.sync(ruleset{
		sources: sources,
		direct:  spans(append(slices.Clone(n.desired.Direct), neverMasqueraded)),
	})
	if err != nil {
		return fmt.Errorf("masquerade: %w", err)
	}
	n.inPlace("nftables table "+tableName, rebuilt, was, rep)
	return nil
}

// masqueradeTo is the source that an endpoint's packets get when they leave the VPC; invalid if they keep
// their own.
func (n *Node) masqueradeTo(e endpoint.Endpoint) netip.Addr {
	return n.desired.Sources(slices.Collect(maps.Values(n.found)))[e.DeviceIndex]
}

// Cleanup removes what weft made in the kernel but for the pods' devices. It finds things by our
// protocol number, tables and names, so that it needs no record.
func Cleanup(log *slog.Logger) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	var errs []error
	rules, err := listRules(h)
	errs = append(errs, err)
	for _, r := range rules {
		if r.Protocol == contract.RouteProtocol || ourTable(r.Table) {
			log.Info("routing rule removed", "rule", r.String())
			errs = append(errs, delRule(h, r))
		}
	}
	routes, err := listRoutes(h)
	errs = append(errs, err)
	for _, r := range routes {
		log.Info("route removed", "route", r.String())
		errs = append(errs, delRoute(h, r))
	}
	return errors.Join(append(errs, dropQueues(h, log), newMasquerade().remove())...)
}
