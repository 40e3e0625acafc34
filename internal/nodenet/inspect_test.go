package nodenet

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/inspect"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// Whatever somebody takes away, adds or changes is found, said with what was expected, and marked in the routes.
func TestInspectFindsDifferences(t *testing.T) {
	nstest.NeedRoot(t)
	router, pod := nstest.New(t), nstest.New(t)
	mac := net.HardwareAddr{0x0a, 0, 0, 0, 0, 9}
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	must(nstest.Pair(nstest.Space{}, "ens9", mac, router, "r9"), router.Up("r9", "10.30.0.1/24"), nstest.Space{}.Up("ens9", "10.30.0.10/24"))
	n, err := New("/proc/sys/net", slog.New(slog.DiscardHandler))
	must(err)
	defer n.Close()
	defer func() { must(Cleanup(slog.New(slog.DiscardHandler))) }()
	own, next := netip.MustParseAddr("10.30.0.10"), netip.MustParseAddr("10.30.0.1")
	n.SetDesired(Desired{Interfaces: []Interface{{ID: "eni-9", MAC: mac.String(), Primary: own, Router: next}, {ID: "eni-away", MAC: "0a:00:00:00:00:77", DeviceIndex: 1, Primary: netip.MustParseAddr("10.30.0.20"), Router: next}}})
	_, err = n.Reconcile(context.Background())
	must(err)
	e := endpoint.Endpoint{Key: endpoint.Key{Network: contract.CNINetwork, ContainerID: "c", IfName: "eth0"}, Slot: 3001, Epoch: 1,
		Address: netip.MustParseAddr("10.30.0.11"), ENI: "eni-9", Pod: "shop/web"}
	ns := pod.File
	must(n.Create(context.Background(), e, ns), n.Connect(context.Background(), e))
	defer func() { must(n.Remove(context.Background(), e)) }()

	// A neighbour that isn't kept resolved is one; the agent's datapath keeps it, which isn't here.
	_, err = n.Reconcile(context.Background())
	must(err)
	before := inspected(t, n)
	for _, d := range before.Differences {
		if !strings.HasPrefix(d.What, "next hop 10.30.0.1 of ENI eni-9") && d.What != "ENI eni-away" {
			t.Errorf("found %q before anything was changed", d.Line())
		}
	}
	if before.Rules != 3 || before.Routed != 3 || before.Devices != 2 {
		t.Errorf("compared %d rules, %d routes, %d devices, expected 3, 3 and 2", before.Rules, before.Routed, before.Devices)
	}

	device, err := netlink.LinkByName(e.Device())
	must(err)
	foreign := netlink.NewRule()
	foreign.Priority, foreign.Src, foreign.Table = 100, ipNet(single(e.Address)), 254
	wrong := netlink.NewRule()
	wrong.Priority, wrong.Table, wrong.Protocol = 555, 7705, contract.RouteProtocol
	theirs := netlink.NewRule()
	theirs.Priority, theirs.Mark, theirs.Table = 600, 0x80, 254
	must(
		netlink.RuleDel(rule{contract.RulePriPods, netip.Addr{}, contract.TablePods}.netlink()),
		netlink.RuleAdd(foreign), netlink.RuleAdd(wrong), netlink.RuleAdd(theirs),
		netlink.RouteDel(&netlink.Route{Table: contract.TableENIBase, Dst: ipNet(anywhere)}),
		netlink.RouteAdd(&netlink.Route{Table: contract.TablePods, Dst: ipNet(netip.MustParsePrefix("10.66.0.0/16")), LinkIndex: device.Attrs().Index, Scope: netlink.SCOPE_LINK}),
		netlink.LinkSetMTU(device, 1300),
		netlink.NeighDel(&netlink.Neigh{LinkIndex: e.Ifindex(), IP: e.Address.AsSlice()}),
		nstest.Space{}.Set("ipv4/conf/ens9/rp_filter", "1"),
	)
	defer func() {
		for _, r := range []*netlink.Rule{theirs, foreign, wrong} {
			_ = netlink.RuleDel(r) // a pass may have removed it
		}
	}()
	got := inspected(t, n)
	var all []string
	for _, d := range got.Differences {
		all = append(all, d.Line())
	}
	text := strings.Join(all, "\n")
	for _, want := range []string{
		"ENI eni-away: found no device with MAC 0a:00:00:00:00:77",
		"routing rule 77 from all lookup 7700: found none",
		"none: it is nobody's, or stands before weft's for a pod",
		"route 0.0.0.0/0 in table 7701 dev index",
		"10.66.0.0/16 dev " + e.Device() + " (of another protocol, type or metric than weft's) in table 7700: found it",
		"device " + e.Device() + " of pod shop/web: found MTU 1300, expected 1500",
		"neighbour entry of 10.30.0.11 (pod shop/web): found none",
		"setting net.ipv4.conf.ens9.rp_filter of ENI eni-9: found 1, expected 2",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("found\n%s\nexpected %q in it", text, want)
		}
	}
	if want := 2 + 7 + 1; len(got.Differences) != want { // two rules are surplus
		t.Errorf("found %d differences, expected %d:\n%s", len(got.Differences), want, text)
	}
	states := map[inspect.State]int{}
	for _, r := range got.Routes.Rules {
		states[r.State]++
	}
	if states[inspect.Missing] != 1 || states[inspect.Surplus] != 2 || states[inspect.OK] != 2 || !slices.ContainsFunc(got.Routes.Rules, func(r inspect.Rule) bool {
		return r.Priority == 600 && r.State == inspect.Foreign
	}) {
		t.Errorf("rules are %+v", got.Routes.Rules)
	}
	// Looking changes nothing; a pass does, and then all but the MTU is well.
	_, err = n.Reconcile(context.Background())
	must(err)
	for _, d := range inspected(t, n).Differences {
		if !strings.Contains(d.What, "next hop") && d.What != "ENI eni-away" && !strings.Contains(d.Found, "MTU 1300") {
			t.Errorf("after a pass found %q", d.Line())
		}
	}
}

func inspected(t *testing.T, n *Node) Inspection {
	t.Helper()
	v, err := n.Inspect()
	if err != nil {
		t.Fatal(err)
	}
	return v
}
