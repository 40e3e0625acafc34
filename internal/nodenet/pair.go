package nodenet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/netkit"
)

var _ endpoint.Devices = (*Node)(nil)

// ErrOwnNamespace is returned for an ADD into the namespace of the node itself.
var ErrOwnNamespace = errors.New("the pod's network namespace is the node's own")

// Create makes the endpoint's pair and configures the pod's side.
func (n *Node) Create(_ context.Context, e endpoint.Endpoint, ns *os.File) error {
	same, err := sameNamespace(ns)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	if same {
		return ErrOwnNamespace
	}
	n.mu.Lock()
	mtu := n.mtu
	n.mu.Unlock()
	if err := n.deleteDevice(e.Device()); err != nil {
		return err
	}
	if err := n.addPair(e, ns, mtu); err != nil {
		return err
	}
	if err := n.sys.pod(e.Device()); err != nil {
		return err
	}
	// Name and index are as they were asked for.
	host := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: e.Device(), Index: e.Ifindex()}}
	if err := n.limitTo(n.h, host, e, e.Limits.IngressBytes()); err != nil {
		return err
	}
	if err := n.configurePod(e, ns); err != nil {
		return fmt.Errorf("inside the pod: %w", err)
	}
	return nil
}

// addPair makes both devices. The peer is born inside: no device of the pod's name ever shows up on the node.
func (n *Node) addPair(e endpoint.Endpoint, ns *os.File, mtu int) error {
	if e.Kind != endpoint.Veth {
		return netkit.Add(n.h, netkit.Pair{
			Name: e.Device(), PodName: e.IfName, Index: e.Ifindex(), MTU: mtu,
			L2: e.Kind == endpoint.NetkitL2, HostMAC: e.HostMAC(), PodMAC: e.MAC(), Pod: ns,
		})
	}
	pair := netlink.NewVeth(netlink.LinkAttrs{
		Name: e.Device(), Index: e.Ifindex(), MTU: mtu, HardwareAddr: e.HostMAC(), TxQLen: -1,
	})
	pair.PeerName = e.IfName
	pair.PeerHardwareAddr = e.MAC()
	pair.PeerMTU = uint32(mtu)
	pair.PeerNamespace = netlink.NsFd(int(ns.Fd()))
	if err := n.h.LinkAdd(pair); err != nil {
		return fmt.Errorf("make device %s (index %d) with peer %s: %w", e.Device(), e.Ifindex(), e.IfName, err)
	}
	return nil
}

// hasMAC compares a device's with what it should be. One without any is read as nothing.
func hasMAC(a *netlink.LinkAttrs, want net.HardwareAddr) bool {
	have := a.HardwareAddr
	if len(have) == 0 {
		have = make(net.HardwareAddr, len(want))
	}
	return bytes.Equal(have, want)
}

// configurePod gives the pod's side its address and routes. IPv6 is off on this device alone, before it
// comes up, so that ::1 stays and no router solicitation leaves.
func (n *Node) configurePod(e endpoint.Endpoint, ns *os.File) error {
	err := inside(ns, func() error {
		_, err := n.sys.set("ipv6/conf/"+e.IfName+"/disable_ipv6", "1")
		return err
	})
	if err != nil {
		return err
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(int(ns.Fd())), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	l, err := h.LinkByName(e.IfName)
	if err != nil {
		return fmt.Errorf("device %s: %w", e.IfName, err)
	}
	if err := n.limitTo(h, l, e, e.Limits.EgressBytes()); err != nil {
		return err
	}
	if err := h.AddrAdd(l, &netlink.Addr{IPNet: ipNet(single(e.Address))}); err != nil {
		return fmt.Errorf("device %s: add %s: %w", e.IfName, e.Address, err)
	}
	if err := h.LinkSetUp(l); err != nil {
		return fmt.Errorf("device %s: bring up: %w", e.IfName, err)
	}
	for _, r := range podRoutes(l.Attrs().Index) {
		if err := h.RouteReplace(r); err != nil {
			return fmt.Errorf("route %s: %w", r.Dst, err)
		}
	}
	return nil
}

// limitTo limits a device of an endpoint. A kernel that can't is no reason to have no pod.
func (n *Node) limitTo(h *netlink.Handle, l netlink.Link, e endpoint.Endpoint, rate uint64) error {
	err := limit(h, l, rate)
	if isUnknownQueue(err) {
		n.log.Warn("the kernel lacks the queue that limits bandwidth (CONFIG_NET_SCH_TBF)", "endpoint", e.Key, "pod", e.Pod, "device", l.Attrs().Name, "err", err)
		return nil
	}
	return err
}

func podRoutes(ifindex int) []*netlink.Route {
	gw := contract.Gateway
	return []*netlink.Route{
		{LinkIndex: ifindex, Dst: ipNet(single(gw)), Scope: unix.RT_SCOPE_LINK},
		{LinkIndex: ifindex, Dst: ipNet(anywhere), Gw: gw.AsSlice(), Flags: int(netlink.FLAG_ONLINK)},
	}
}

// Connect makes the host's routes to the endpoint, then brings its side up.
func (n *Node) Connect(_ context.Context, e endpoint.Endpoint) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	l, err := n.h.LinkByName(e.Device())
	if err != nil {
		return fmt.Errorf("device %s: %w", e.Device(), err)
	}
	if l.Attrs().Index != e.Ifindex() {
		return fmt.Errorf("device %s has index %d, expected %d", e.Device(), l.Attrs().Index, e.Ifindex())
	}
	// Other people's leftovers for a reused address go before the pod can speak.
	all, err := listRules(n.h)
	if err != nil {
		return err
	}
	want := wantRules(nil, []endpoint.Endpoint{e})
	missing, _ := diff(want, presentRules(all))
	for _, r := range missing {
		if err := addRule(n.h, r); err != nil {
			return err
		}
	}
	for _, r := range surplusFor(all, want, e.Address) {
		n.log.Info("surplus routing rule removed", "rule", r.String(), "endpoint", e.Key)
		if err := delRule(n.h, r); err != nil {
			return err
		}
	}
	n.endpoints[e.Key] = e
	if err := n.masqueradeOne(e); err != nil {
		return err
	}
	if err := n.h.LinkSetUp(l); err != nil {
		return fmt.Errorf("device %s: bring up: %w", e.Device(), err)
	}
	if err := n.setNeighbour(e); err != nil {
		return err
	}
	return addRoute(n.h, podRoute(e, n.nodeAddr()))
}

// masqueradeOne adds one endpoint to the table; if something took the table away it is made anew.
func (n *Node) masqueradeOne(e endpoint.Endpoint) error {
	to := n.masqueradeTo(e)
	if !n.desired.Masquerade || !to.IsValid() {
		return nil
	}
	err := n.masq.set(e.Address, to)
	if errors.Is(err, unix.ENOENT) {
		return n.syncMasquerade(&Report{}, nil)
	}
	if err != nil {
		return fmt.Errorf("masquerade %s: %w", e.Address, err)
	}
	return nil
}

// surplusFor limits surplusRules to one address.
func surplusFor(all []netlink.Rule, want []rule, addr netip.Addr) []netlink.Rule {
	return surplusRules(slices.DeleteFunc(slices.Clone(all), func(r netlink.Rule) bool {
		p, ok := plain(r)
		return !ok || p.src != addr
	}), want)
}

// setNeighbour says where the pod is: nothing is asked, so nothing can be answered falsely.
func (n *Node) setNeighbour(e endpoint.Endpoint) error {
	if e.Kind == endpoint.Netkit {
		return nil // nobody asks on such a device
	}
	err := n.h.NeighSet(&netlink.Neigh{
		LinkIndex: e.Ifindex(), Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
		IP: e.Address.AsSlice(), HardwareAddr: e.MAC(),
	})
	if err != nil {
		return fmt.Errorf("neighbour %s: %w", e.Address, err)
	}
	return nil
}

// Remove undoes an endpoint.
func (n *Node) Remove(_ context.Context, e endpoint.Endpoint) error {
	if err := n.removeParts(e); err != nil {
		return err
	}
	// Once nothing of the endpoint can make new ones.
	n.forgetFlows(e)
	return nil
}

// forgetFlows removes what the kernel remembers of a removed endpoint's connections. They time out by
// themselves, too: one that stays is no reason to keep the endpoint.
func (n *Node) forgetFlows(e endpoint.Endpoint) {
	if _, err := forgetFlows(e.Address); err != nil {
		n.log.Warn("connections of a removed endpoint are left", "endpoint", e.Key, "err", err)
	}
}

func (n *Node) removeParts(e endpoint.Endpoint) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.endpoints, e.Key)
	// The route to it goes with the device.
	errs := []error{n.deleteDevice(e.Device())}
	all, err := listRules(n.h)
	errs = append(errs, err)
	for _, r := range surplusFor(all, nil, e.Address) {
		errs = append(errs, delRule(n.h, r))
	}
	if n.desired.Masquerade {
		errs = append(errs, n.masq.unset(e.Address))
	}
	return errors.Join(errs...)
}

func (n *Node) deleteDevice(name string) error {
	l, err := n.h.LinkByName(name)
	if isAbsent(err) {
		return nil
	}
	if err == nil {
		err = n.h.LinkDel(l)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove device %s: %w", name, err)
	}
	return nil
}

func isAbsent(err error) bool {
	var nf netlink.LinkNotFoundError
	return errors.As(err, &nf)
}

// Exists says whether the host's side is there. It goes with the pod's namespace.
func (n *Node) Exists(e endpoint.Endpoint) (bool, error) {
	_, err := n.h.LinkByName(e.Device())
	if isAbsent(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("device %s: %w", e.Device(), err)
	}
	return true, nil
}

// Check compares both sides with the endpoint.
func (n *Node) Check(_ context.Context, e endpoint.Endpoint, ns *os.File) error {
	if err := n.checkHost(e); err != nil {
		return err
	}
	if err := n.checkPod(e, ns); err != nil {
		return fmt.Errorf("inside the pod: %w", err)
	}
	return nil
}

func (n *Node) checkHost(e endpoint.Endpoint) error {
	l, err := n.h.LinkByName(e.Device())
	if err != nil {
		return fmt.Errorf("device %s: %w", e.Device(), err)
	}
	a := l.Attrs()
	if a.Index != e.Ifindex() || a.Flags&net.FlagUp == 0 {
		return fmt.Errorf("device %s has index %d and flags %s, expected %d and up", a.Name, a.Index, a.Flags, e.Ifindex())
	}
	if kind, ok := kindOf(l); !ok || kind != e.Kind {
		return fmt.Errorf("device %s is a %s, expected a %s", a.Name, l.Type(), e.Kind)
	}
	routes, err := listRoutes(n.h)
	if err != nil {
		return err
	}
	toPod := func(r route) bool { return r.dst == single(e.Address) && r.ifindex == e.Ifindex() }
	if !slices.ContainsFunc(routes, toPod) {
		return fmt.Errorf("route to %s by device %s is gone from table %d", e.Address, e.Device(), contract.TablePods)
	}
	all, err := listRules(n.h)
	if err != nil {
		return err
	}
	if missing, _ := diff(wantRules(nil, []endpoint.Endpoint{e}), presentRules(all)); len(missing) > 0 {
		return fmt.Errorf("%s is gone", missing[0])
	}
	return nil
}

func (n *Node) checkPod(e endpoint.Endpoint, ns *os.File) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(int(ns.Fd())), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	l, err := h.LinkByName(e.IfName)
	if err != nil {
		return fmt.Errorf("device %s: %w", e.IfName, err)
	}
	if a := l.Attrs(); !hasMAC(a, e.MAC()) || a.Flags&net.FlagUp == 0 {
		return fmt.Errorf("device %s has MAC %s and flags %s, expected %s and up", e.IfName, a.HardwareAddr, a.Flags, e.MAC())
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(l, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("device %s: list addresses: %w", e.IfName, err)
	}
	if !slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return addrOf(a.IP) == e.Address }) {
		return fmt.Errorf("device %s lacks address %s", e.IfName, e.Address)
	}
	routes, err := dump(func() ([]netlink.Route, error) { return h.RouteList(l, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	byGateway := func(r netlink.Route) bool { return prefixOf(r.Dst) == anywhere && addrOf(r.Gw) == contract.Gateway }
	if !slices.ContainsFunc(routes, byGateway) {
		return fmt.Errorf("default route by %s is gone", contract.Gateway)
	}
	return nil
}

// checkPairs keeps connected endpoints' devices as they were made and returns the endpoints whose
// devices are there. A device that is gone stays so: only the pod's own sandbox could fill a new one.
func (n *Node) checkPairs(links []netlink.Link, rep *Report, was map[string]bool) ([]endpoint.Endpoint, error) {
	byName := map[string]netlink.Link{}
	for _, l := range links {
		byName[l.Attrs().Name] = l
	}
	var out []endpoint.Endpoint
	var errs []error
	for _, e := range n.endpoints {
		l, ok := byName[e.Device()]
		if !ok || l.Attrs().Index != e.Ifindex() {
			continue
		}
		made, err := n.checkPair(e, l)
		if err != nil {
			errs = append(errs, fmt.Errorf("endpoint %s: %w", e.Key, err))
			continue
		}
		n.inPlace("device "+e.Device()+" as it was made", made, was, rep)
		out = append(out, e)
	}
	return out, errors.Join(errs...)
}

func (n *Node) checkPair(e endpoint.Endpoint, l netlink.Link) (made bool, err error) {
	a := l.Attrs()
	// udev may give persistent addresses to devices that it sees.
	if !hasMAC(a, e.HostMAC()) {
		made = true
		if err := n.h.LinkSetHardwareAddr(l, e.HostMAC()); err != nil {
			return made, fmt.Errorf("device %s: set MAC: %w", a.Name, err)
		}
	}
	if err := n.sys.pod(a.Name); err != nil {
		return made, err
	}
	if a.Flags&net.FlagUp == 0 {
		made = true
		if err := n.h.LinkSetUp(l); err != nil {
			return made, fmt.Errorf("device %s: bring up: %w", a.Name, err)
		}
	}
	if rate := e.Limits.IngressBytes(); rate > 0 {
		has, err := hasQueue(n.h, l, rate)
		if err == nil && !has {
			made = true
			err = n.limitTo(n.h, l, e, rate)
		}
		if err != nil {
			return made, err
		}
	}
	return made, n.setNeighbour(e)
}

// Stray is a device of ours that nobody accounts for, with the address that a route leads to by it.
type Stray struct {
	Device  string
	Slot    uint32
	Address netip.Addr
	Kind    endpoint.Kind
}

// kindOf says what a device is; false: nothing that a pod gets.
func kindOf(l netlink.Link) (endpoint.Kind, bool) {
	if l.Type() == "veth" {
		return endpoint.Veth, true
	}
	d, ok := l.(*netlink.Netkit)
	switch {
	case !ok || !d.IsPrimary():
		return "", false
	case d.Mode == netlink.NETKIT_MODE_L2:
		return endpoint.NetkitL2, true
	}
	return endpoint.Netkit, true
}

// Strays returns devices that are made like an endpoint's and are none of known.
func (n *Node) Strays(known []endpoint.Endpoint) ([]Stray, error) {
	mine := map[string]bool{}
	for _, e := range known {
		mine[e.Device()] = true
	}
	links, err := listLinks(n.h)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	routes, err := listRoutes(n.h)
	if err != nil {
		return nil, err
	}
	var out []Stray
	for _, l := range links {
		a := l.Attrs()
		kind, ok := kindOf(l)
		if !ok || mine[a.Name] || len(a.Name) != len(contract.DevicePrefix)+10 ||
			a.Name[:len(contract.DevicePrefix)] != contract.DevicePrefix ||
			a.Index < contract.IfindexBase || a.Index >= contract.IfindexBase+contract.MaxEndpoints {
			continue
		}
		s := Stray{Device: a.Name, Slot: uint32(a.Index - contract.IfindexBase), Kind: kind}
		for _, r := range routes {
			if r.ifindex == a.Index && r.table == contract.TablePods {
				s.Address = r.dst.Addr()
			}
		}
		out = append(out, s)
	}
	return out, nil
}
