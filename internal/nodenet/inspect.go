package nodenet

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/inspect"
)

// restoredSoon is what to do about what a pass puts back.
const restoredSoon = "the agent puts it back within 30 s; if it stays, look in its log for why it can't"

// Inspection is the kernel as it is, beside what is wanted.
type Inspection struct {
	Routes      inspect.Routes
	Differences []inspect.Difference
	// Compared counts what was looked at.
	Rules, Routed, Devices, Settings int
}

// Inspect reads the kernel and changes nothing.
func (n *Node) Inspect() (Inspection, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	links, err := listLinks(n.h)
	if err != nil {
		return Inspection{}, fmt.Errorf("list devices: %w", err)
	}
	v := inspection{n: n, byIndex: map[int]netlink.Link{}, owner: map[netip.Addr]string{}}
	for _, l := range links {
		v.byIndex[l.Attrs().Index] = l
	}
	for _, e := range n.endpoints {
		v.owner[e.Address] = "pod " + e.Pod
		if l, ok := v.byIndex[e.Ifindex()]; ok && l.Attrs().Name == e.Device() {
			v.eps = append(v.eps, e)
		} else {
			v.differ("device "+e.Device()+" of pod "+e.Pod, "none with that name and index "+fmt.Sprint(e.Ifindex()), "the pod's", "delete the pod, so that it is made anew")
		}
	}
	slices.SortFunc(v.eps, func(a, b endpoint.Endpoint) int { return a.Address.Compare(b.Address) })
	for _, i := range n.desired.Interfaces {
		if i.DeviceIndex != 0 {
			v.owner[i.Primary] = "ENI " + i.ID
		}
		if _, ok := n.found[i.DeviceIndex]; !ok {
			v.differ("ENI "+i.ID, "no device with MAC "+i.MAC, "one", "see whether it is attached in EC2: aws ec2 describe-network-interfaces --network-interface-ids "+i.ID)
		}
	}
	if err := errors.Join(v.rules(), v.routes(), v.nextHops(), v.devices(), v.settings(), v.translation()); err != nil {
		return v.Inspection, err
	}
	v.Routes.Settle()
	return v.Inspection, nil
}

// inspection is one in the making.
type inspection struct {
	Inspection
	n       *Node
	byIndex map[int]netlink.Link
	owner   map[netip.Addr]string // in words
	eps     []endpoint.Endpoint   // whose devices are there
}

func (v *inspection) differ(what, found, expected, do string) {
	v.Differences = append(v.Differences, inspect.Difference{What: what, Found: found, Expected: expected, Do: do})
}

func (v *inspection) rules() error {
	all, err := listRules(v.n.h)
	if err != nil {
		return err
	}
	want := wantRules(v.n.desired.Interfaces, v.eps)
	missing, _ := diff(want, presentRules(all))
	surplus := surplusRules(all, want)
	v.Rules = len(want)
	for _, r := range missing {
		v.Routes.Rules = append(v.Routes.Rules, inspect.Rule{Priority: r.priority, Rule: r.selector(), Of: v.owner[r.src], State: inspect.Missing})
		v.differ("routing "+r.String(), "none", "it", restoredSoon)
	}
	for _, r := range all {
		p, ok := plain(r)
		x := inspect.Rule{Priority: r.Priority, Rule: ruleText(r), State: inspect.Foreign}
		switch {
		case slices.ContainsFunc(surplus, func(s netlink.Rule) bool { return s.String() == r.String() && s.Protocol == r.Protocol }):
			x.State = inspect.Surplus
			v.differ("routing rule "+r.String(), "it", "none: it is nobody's, or stands before weft's for a pod", restoredSoon)
		case ok && r.Protocol == contract.RouteProtocol:
			x.Rule, x.Of, x.State = p.selector(), v.owner[p.src], inspect.OK
		}
		v.Routes.Rules = append(v.Routes.Rules, x)
	}
	slices.SortStableFunc(v.Routes.Rules, func(a, b inspect.Rule) int { return a.Priority - b.Priority })
	return nil
}

func (r rule) selector() string {
	_, s, _ := strings.Cut(r.String(), fmt.Sprintf("rule %d ", r.priority))
	return s
}

// ruleText is somebody else's rule as ip rule writes it.
func ruleText(r netlink.Rule) string {
	_, s, ok := strings.Cut(r.String(), ": ")
	if !ok {
		s = r.String()
	}
	return strings.ReplaceAll(s, " <nil>", "")
}

func (v *inspection) routes() error {
	indexes := map[int32]int{}
	for i, f := range v.n.found {
		indexes[i] = f.Ifindex
	}
	have, err := listRoutes(v.n.h)
	if err != nil {
		return err
	}
	want := wantRoutes(v.n.desired.Interfaces, indexes, v.eps, v.n.nodeAddr())
	missing, surplus := diff(want, have)
	v.Routed = len(want)
	tables := map[int]*inspect.Table{contract.TablePods: {Number: contract.TablePods, Of: "pods of this node"}}
	for _, i := range v.n.desired.Interfaces {
		tables[i.Table()] = &inspect.Table{Number: i.Table(), Of: "ENI " + i.ID}
	}
	add := func(r route, s inspect.State) {
		t := tables[r.table]
		if t == nil {
			t = &inspect.Table{Number: r.table, Of: "no ENI of this node"}
			tables[r.table] = t
		}
		t.Routes = append(t.Routes, inspect.Route{Route: v.routeText(r), Of: v.owner[r.dst.Addr()], State: s})
	}
	for _, r := range want {
		s := inspect.OK
		if slices.Contains(missing, r) {
			s = inspect.Missing
			v.differ(r.String(), "none", "it", restoredSoon)
		}
		add(r, s)
	}
	for _, r := range surplus {
		add(r, inspect.Surplus)
		v.differ(v.routeText(r)+fmt.Sprintf(" in table %d", r.table), "it", "none: the table is weft's", restoredSoon)
	}
	for _, number := range slices.Sorted(maps.Keys(tables)) {
		v.Routes.Tables = append(v.Routes.Tables, *tables[number])
	}
	return nil
}

func (v *inspection) routeText(r route) string {
	foreign := r.ifindex < 0 // see listRoutes
	if foreign {
		r.ifindex = -1 - r.ifindex
	}
	out := r.dst.String()
	if r.dst == anywhere {
		out = "default"
	}
	if r.gw.IsValid() {
		out += " via " + r.gw.String()
	}
	device := fmt.Sprintf("index %d", r.ifindex)
	if l, ok := v.byIndex[r.ifindex]; ok {
		device = l.Attrs().Name
	}
	out += " dev " + device
	if r.src.IsValid() {
		out += " src " + r.src.String()
	}
	if foreign {
		out += " (of another protocol, type or metric than weft's)"
	}
	return out
}

// nextHops are the ENIs' routers. Their addresses as the programs have them are the agent's to fill in.
func (v *inspection) nextHops() error {
	for _, index := range slices.Sorted(maps.Keys(v.n.found)) {
		f := v.n.found[index]
		h := inspect.NextHop{ENI: f.ID, Device: f.Name, Wanted: f.Router.String()}
		list, err := dump(func() ([]netlink.Neigh, error) { return v.n.h.NeighList(f.Ifindex, netlink.FAMILY_V4) })
		if err != nil {
			return fmt.Errorf("list neighbours of %s: %w", f.Name, err)
		}
		for _, x := range list {
			if addrOf(x.IP) != f.Router {
				continue
			}
			h.Kernel = neighbourState(x.State)
			h.Kept = x.FlagsExt&netlink.NTF_EXT_MANAGED != 0 || x.State&netlink.NUD_PERMANENT != 0
			if x.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) == 0 {
				h.MAC = x.HardwareAddr.String()
			}
		}
		v.Routes.NextHops = append(v.Routes.NextHops, h)
		switch {
		case h.MAC == "":
			found := "no MAC of it"
			if h.Kernel != "" {
				found += " (" + h.Kernel + ")"
			}
			v.differ(fmt.Sprintf("next hop %s of ENI %s (%s)", f.Router, f.ID, f.Name), found, "that the VPC's router answers", "see whether the ENI is attached in EC2, and its device is up (ip link)")
		case !h.Kept:
			v.differ(fmt.Sprintf("next hop %s of ENI %s (%s)", f.Router, f.ID, f.Name), "a neighbour entry that expires", "one that the kernel keeps resolved", "the agent sets it within 10 s; if it stays, look in its log")
		}
	}
	return nil
}

func neighbourState(s int) string {
	for _, x := range []struct {
		bit  int
		name string
	}{
		{netlink.NUD_PERMANENT, "permanent"}, {netlink.NUD_REACHABLE, "reachable"}, {netlink.NUD_STALE, "stale"}, {netlink.NUD_DELAY, "delay"},
		{netlink.NUD_PROBE, "probe"}, {netlink.NUD_INCOMPLETE, "incomplete"}, {netlink.NUD_FAILED, "failed"}, {netlink.NUD_NOARP, "noarp"},
	} {
		if s&x.bit != 0 {
			return x.name
		}
	}
	return "none"
}

func (v *inspection) devices() error {
	for _, index := range slices.Sorted(maps.Keys(v.n.found)) {
		f := v.n.found[index]
		l, ok := v.byIndex[f.Ifindex]
		if !ok {
			v.differ("ENI "+f.ID, "its device "+f.Name+" is gone", "the device", "see whether the ENI is attached in EC2")
			continue
		}
		want := v.n.mtu
		if want == 0 || index == 0 {
			want = l.Attrs().MTU // the operating system's business
		}
		v.device(l, "ENI "+f.ID, want, "ip link set "+f.Name)
	}
	for _, e := range v.eps {
		l := v.byIndex[e.Ifindex()]
		v.device(l, "pod "+e.Pod, v.n.mtu, "delete the pod, so that it is made anew, or: ip link set "+e.Device())
		if e.Kind == endpoint.Netkit {
			continue // it has neither MACs nor neighbours
		}
		if !hasMAC(l.Attrs(), e.HostMAC()) {
			v.differ("device "+e.Device()+" of pod "+e.Pod, "MAC "+l.Attrs().HardwareAddr.String(), e.HostMAC().String(), restoredSoon)
		}
		if err := v.neighbour(e); err != nil {
			return err
		}
	}
	v.Devices = len(v.Routes.Devices)
	return nil
}

func (v *inspection) device(l netlink.Link, of string, mtu int, do string) {
	a := l.Attrs()
	d := inspect.Device{Device: a.Name, Ifindex: a.Index, Of: of, Up: a.Flags&net.FlagUp != 0, MTU: a.MTU, WantMTU: mtu}
	v.Routes.Devices = append(v.Routes.Devices, d)
	what := fmt.Sprintf("device %s of %s", d.Device, of)
	if !d.Up {
		v.differ(what, "it is down", "up", restoredSoon)
	}
	if d.MTU != mtu {
		v.differ(what, fmt.Sprintf("MTU %d", d.MTU), fmt.Sprint(mtu), fmt.Sprintf("%s mtu %d", do, mtu))
	}
}

// neighbour compares what the node knows of where a pod is.
func (v *inspection) neighbour(e endpoint.Endpoint) error {
	list, err := dump(func() ([]netlink.Neigh, error) { return v.n.h.NeighList(e.Ifindex(), netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list neighbours of %s: %w", e.Device(), err)
	}
	found := "none"
	for _, x := range list {
		if addrOf(x.IP) != e.Address {
			continue
		}
		if found = neighbourState(x.State) + " " + x.HardwareAddr.String(); x.State&netlink.NUD_PERMANENT != 0 && x.HardwareAddr.String() == e.MAC().String() {
			return nil
		}
	}
	v.differ(fmt.Sprintf("neighbour entry of %s (pod %s)", e.Address, e.Pod), found, "permanent "+e.MAC().String(), restoredSoon)
	return nil
}

func (v *inspection) settings() error {
	compare := func(what, name, want string) error {
		v.Settings++
		have, absent, err := v.n.sys.get(name)
		if err == nil && !absent && have != want {
			v.differ(fmt.Sprintf("setting net.%s of %s", strings.ReplaceAll(name, "/", "."), what), have, want, restoredSoon)
		}
		return err
	}
	errs := []error{compare("the node", "ipv4/ip_forward", "1")}
	for _, f := range v.n.found {
		for name, want := range eniSettings() {
			errs = append(errs, compare("ENI "+f.ID, "ipv4/conf/"+f.Name+"/"+name, want))
		}
	}
	for _, e := range v.eps {
		for name, want := range podSettings() {
			errs = append(errs, compare("pod "+e.Pod, "ipv4/conf/"+e.Device()+"/"+name, want))
		}
	}
	return errors.Join(errs...)
}

// translation looks for the table of nftables, where it is wanted.
func (v *inspection) translation() error {
	if !v.n.desired.Masquerade {
		return nil
	}
	there, err := v.n.masq.isWhole()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	if !there {
		v.differ("nftables table ip "+tableName, "none of this version's form", "it", restoredSoon)
	}
	return nil
}
