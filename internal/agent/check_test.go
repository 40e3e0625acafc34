package agent

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/inspect"
)

// Each thing that may differ is said once, and what is as wanted isn't.
func TestWantedAgainstHeld(t *testing.T) {
	addr := netip.MustParseAddr
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	pod := endpoint.Endpoint{Slot: 3, Epoch: 7, Address: addr("10.0.0.11"), DeviceIndex: 0, Pod: "shop/web"}
	eni := datapath.ENI{Handle: 1, Ifindex: 2, MAC: mac, NextHop: addr("10.0.0.1")}
	native := netip.MustParsePrefix("10.0.0.0/16")
	at := datapath.Attachment{Hook: datapath.FromPod, Ifindex: pod.Ifindex()}
	w := wanted{
		endpoints: []endpoint.Endpoint{pod}, enis: map[uint32]datapath.ENI{1: eni}, mtus: map[uint32]int{1: 9001},
		addrs:    map[netip.Addr]uint32{addr("10.0.0.10"): 1, addr("10.0.0.11"): 1},
		prefixes: map[netip.Prefix]datapath.PrefixInfo{native: {Native: true}}, settings: datapath.DefaultSettings(),
		attached: map[datapath.Attachment]string{at: "weft1 of pod shop/web"},
	}
	type world struct {
		state    datapath.State
		held     datapath.Held
		programs []inspect.Program
		maps     []inspect.Map
	}
	for name, c := range map[string]struct {
		change func(*world)
		want   []string // part of each difference
	}{
		"as wanted":         {func(*world) {}, nil},
		"no entry of a pod": {func(w *world) { w.state.Endpoints = nil }, []string{"entry of pod shop/web in weft_endpoints (slot 3): found none"}},
		"another generation": {func(w *world) { w.state.Endpoints[0].Generation = 6 },
			[]string{"slot 3): found 10.0.0.11 on index 1048579, MACs 02:77:0a:00:00:0b and 02:77:65:66:74:01, generation 6"}},
		"a limit that is gone":    {func(w *world) { w.held.Rates = map[uint32]uint64{3: 10} }, []string{"egress 10 B/s, expected"}},
		"a pod of nobody":         {func(w *world) { w.state.Endpoints = append(w.state.Endpoints, datapath.Endpoint{Slot: 9}) }, []string{"slot 9 of weft_endpoints"}},
		"another MTU in the map":  {func(w *world) { w.held.MTUs[1] = 1500 }, []string{"02:00:00:00:00:01 in weft_enis (handle 1): found index 2, MTU 1500"}},
		"no ENI":                  {func(w *world) { w.state.ENIs = nil }, []string{"in weft_enis (handle 1): found none"}},
		"an ENI of nobody":        {func(w *world) { w.state.ENIs = append(w.state.ENIs, datapath.ENI{Handle: 5}) }, []string{"handle 5 of weft_enis"}},
		"an address is missing":   {func(w *world) { delete(w.state.Addresses, addr("10.0.0.10")) }, []string{"address 10.0.0.10 in weft_addresses: found none, expected ENI handle 1"}},
		"an address too many":     {func(w *world) { w.state.Addresses[addr("10.0.0.99")] = datapath.Address{ENI: 2} }, []string{"address 10.0.0.99 in weft_addresses: found ENI handle 2, expected none"}},
		"an address of another":   {func(w *world) { w.state.Addresses[addr("10.0.0.10")] = datapath.Address{ENI: 2} }, []string{"found ENI handle 2, expected 1"}},
		"an address of no holder": {func(w *world) { w.state.Addresses[addr("10.0.0.11")] = datapath.Address{ENI: 1} }, []string{"holder of address 10.0.0.11"}},
		"a prefix otherwise":      {func(w *world) { w.state.Prefixes[native] = datapath.PrefixInfo{Stack: true} }, []string{"found by the kernel's stack, expected reached natively"}},
		"a prefix too many":       {func(w *world) { w.state.Prefixes[netip.MustParsePrefix("0.0.0.0/0")] = datapath.PrefixInfo{} }, []string{"prefix 0.0.0.0/0 in weft_ipcache: found nothing known, expected none"}},
		"no prefix":               {func(w *world) { clear(w.state.Prefixes) }, []string{"prefix 10.0.0.0/16 in weft_ipcache: found none"}},
		"a setting":               {func(w *world) { w.held.Settings.IPv6 = true }, []string{"settings in weft_config"}},
		"two agents":              {func(w *world) { w.held.Epoch = 5 }, []string{"owner of the datapath in weft_config: found agent 5, expected this one, 4"}},
		"no program":              {func(w *world) { w.programs = nil }, []string{"program from_pod of device weft1 of pod shop/web: found none"}},
		"an old program":          {func(w *world) { w.programs[0].Current = false }, []string{"found another version's, of tag aa"}},
		"two programs":            {func(w *world) { w.programs = append(w.programs, w.programs[0]) }, []string{"a second one"}},
		"a lone link":             {func(w *world) { w.programs[0].Link, w.programs[0].Pin = 8, "" }, []string{"link 8 of from_pod at device weft1: found no pin"}},
		"a program elsewhere": {func(w *world) {
			w.programs = append(w.programs, inspect.Program{Hook: "to_netdev", Device: "docker0", Ifindex: 44})
		}, []string{"program to_netdev of device docker0: found it, expected none"}},
		"somebody else's program": {func(w *world) {
			w.programs = append(w.programs, inspect.Program{Name: "theirs", Device: "docker0", Ifindex: 44})
		}, nil},
		"a pod that comes": {func(w *world) {
			w.programs = append(w.programs, inspect.Program{Hook: "to_pod", Ifindex: pod.Ifindex() + 1})
		}, nil},
		"no pin": {func(w *world) { w.maps[0].PinMissing = true }, []string{"pin of map weft_x: found none of it at /p"}},
	} {
		have := world{
			state: datapath.State{
				Endpoints: []datapath.Endpoint{datapathEndpoint(pod)}, ENIs: []datapath.ENI{eni},
				Addresses: map[netip.Addr]datapath.Address{addr("10.0.0.10"): {ENI: 1}, addr("10.0.0.11"): {ENI: 1, Endpoint: true, Slot: 3, Generation: 7}},
				Prefixes:  map[netip.Prefix]datapath.PrefixInfo{native: {Native: true}},
			},
			held:     datapath.Held{Settings: datapath.DefaultSettings(), Epoch: 4, Own: 4, MTUs: map[uint32]int{1: 9001}},
			programs: []inspect.Program{{Hook: "from_pod", Device: "weft1", Ifindex: pod.Ifindex(), Current: true, Tag: "aa", Link: 3, Pin: "/l"}},
			maps:     []inspect.Map{{Name: "weft_x", Pin: "/p"}},
		}
		c.change(&have)
		var all []string
		for _, list := range [][]inspect.Difference{w.entries(have.state, have.held), w.config(have.state, have.held), w.programs(have.programs), pins(have.maps)} {
			for _, d := range list {
				all = append(all, d.Line())
				if d.What == "" || d.Found == "" || d.Expected == "" || d.Do == "" {
					t.Errorf("%s: %+v isn't whole", name, d)
				}
			}
		}
		if len(all) != len(c.want) {
			t.Errorf("%s: found %q, expected %d differences", name, all, len(c.want))
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(all[i], want) {
				t.Errorf("%s: found %q, expected %q in it", name, all[i], want)
			}
		}
	}
}

func TestTakenOff(t *testing.T) {
	a, b := datapath.Attachment{Hook: datapath.FromPod, Ifindex: 1}, datapath.Attachment{Hook: datapath.ToPod, Ifindex: 1}
	both := map[datapath.Attachment]string{a: "x", b: "x"}
	for name, c := range map[string]struct {
		before, found, after map[datapath.Attachment]string
		want                 int
	}{
		"nothing happened":               {both, both, both, 0},
		"one was gone":                   {both, map[datapath.Attachment]string{a: "x"}, both, 1},
		"it is gone still":               {both, map[datapath.Attachment]string{a: "x"}, map[datapath.Attachment]string{a: "x"}, 0},
		"the first look":                 {nil, both, both, 0},
		"the index is another's by then": {both, map[datapath.Attachment]string{}, map[datapath.Attachment]string{a: "y", b: "y"}, 0},
	} {
		if got := takenOff(c.before, c.found, c.after); len(got) != c.want {
			t.Errorf("%s: found %q, expected %d", name, got, c.want)
		}
	}
}
