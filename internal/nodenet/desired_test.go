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

func TestLeavingBy(t *testing.T) {
	eni := func(index byte) Interface {
		return Interface{MAC: fmt.Sprintf("02:00:00:00:00:%02x", index), DeviceIndex: int32(index), Primary: netip.AddrFrom4([4]byte{10, 0, 0, index + 1})}
	}
	var found []Found
	for i, n := range []string{"ens5", "ens6"} {
		found = append(found, Found{Interface: eni(byte(i)), Name: n})
	}
	for _, c := range []struct {
		names []string
		want  []byte
	}{
		{[]string{"eth0"}, []byte{0}}, // the primary, though this system calls it ens5
		{[]string{"ens6"}, []byte{1}},
		{[]string{"ens+"}, []byte{0, 1}},
		{[]string{"wlan0", "ens"}, nil},
	} {
		got := leavingBy([]Interface{eni(0), eni(1)}, found, c.names)
		if len(got) != len(c.want) {
			t.Errorf("%v: got %v", c.names, got)
		}
		for _, i := range c.want {
			if !got[eni(i).Primary] {
				t.Errorf("%v: got %v, which lacks %s", c.names, got, eni(i).Primary)
			}
		}
	}
}
