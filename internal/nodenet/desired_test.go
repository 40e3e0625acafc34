package nodenet

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/endpoint"
)

func prefixes(in ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range in {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestSpans(t *testing.T) {
	for want, in := range map[string][]netip.Prefix{
		"[]":                        nil,
		"[{10.0.0.0 10.0.255.255}]": prefixes("10.0.0.0/16", "10.0.3.0/24", "10.0.0.0/16"),
		"[{10.0.0.0 10.1.255.255}]": prefixes("10.1.0.0/16", "10.0.0.0/16"), // they touch
		"[{10.0.0.0 10.0.0.255} {10.0.2.0 10.0.2.255}]": prefixes("10.0.2.0/24", "10.0.0.0/24"),
		"[{0.0.0.0 255.255.255.255}]":                   prefixes("0.0.0.0/0", "224.0.0.0/4"),
		"[{192.168.1.4 192.168.1.7}]":                   prefixes("192.168.1.6/30"),
	} {
		var got []string
		for _, s := range spans(in) {
			got = append(got, fmt.Sprintf("{%s %s}", s.from, s.to))
		}
		if got := fmt.Sprint(got); got != want {
			t.Errorf("spans(%v) = %s, expected %s", in, got, want)
		}
	}
}

func TestDiff(t *testing.T) {
	missing, surplus := diff([]int{1, 2, 3, 3}, []int{3, 4, 2, 2})
	slices.Sort(surplus)
	if !slices.Equal(missing, []int{1}) || !slices.Equal(surplus, []int{2, 4}) {
		t.Errorf("missing %v, surplus %v", missing, surplus)
	}
}

func from(prio, table int, src string, proto uint8) netlink.Rule {
	r := netlink.NewRule()
	r.Priority, r.Table, r.Protocol = prio, table, proto
	if src != "" {
		r.Src = ipNet(single(netip.MustParseAddr(src)))
	}
	return *r
}

func TestSurplusRules(t *testing.T) {
	e := endpoint.Endpoint{Address: netip.MustParseAddr("10.0.0.9"), DeviceIndex: 1}
	want := wantRules(nil, []endpoint.Endpoint{e})
	keep := []netlink.Rule{
		from(0, 255, "", 2), from(32766, 254, "", 2), from(512, 254, "10.0.0.9", 0),
		from(contract.RulePriPods, contract.TablePods, "", contract.RouteProtocol),
		from(contract.RulePriSource, contract.TableENIBase+1, "10.0.0.9", contract.RouteProtocol),
		from(111, 11, "10.0.0.77", 0), // somebody's, for an address that isn't ours
	}
	goes := []netlink.Rule{
		from(contract.RulePriSource, contract.TableENIBase+2, "10.0.0.9", contract.RouteProtocol),
		from(contract.RulePriSource, contract.TableENIBase+1, "10.0.0.9", contract.RouteProtocol), // a copy
		from(contract.RulePriSource, contract.TableENIBase+2, "10.0.0.50", contract.RouteProtocol),
		from(111, 11, "10.0.0.9", 0),
	}
	got := surplusRules(slices.Concat(keep, goes), want)
	if len(got) != len(goes) {
		t.Fatalf("surplus are %v, expected %v", got, goes)
	}
	for i := range got {
		if got[i].String() != goes[i].String() {
			t.Errorf("surplus %d is %s, expected %s", i, got[i], goes[i])
		}
	}
}

func TestMatchDevices(t *testing.T) {
	var links []netlink.Link
	for i, n := range []string{"lo", "ens5", "ens6", "eth0"} {
		links = append(links, &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: n, Index: i + 1}})
	}
	if got := matchDevices(links, []string{"ens+", "eth0", "eth"}); !slices.Equal(got, []uint32{2, 3, 4}) {
		t.Errorf("devices are %v", got)
	}
}
