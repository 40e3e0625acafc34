package datapath

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weft-cni/weft/internal/inspect"
)

// Every map of the layout can be read by people, and is described.
func TestEveryMapHasADecoder(t *testing.T) {
	spec, err := loadWeft()
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(maps.Keys(spec.Maps))
	if got := slices.Sorted(maps.Keys(views())); !slices.Equal(got, want) {
		t.Errorf("maps that can be decoded are %v, the object has %v: add the new one to views, with a decoder", got, want)
	}
	if got := inspect.MapNames(); !slices.Equal(got, want) {
		t.Errorf("maps that are described are %v, the object has %v: see inspect.Descriptions", got, want)
	}
	for _, d := range inspect.Descriptions() {
		if d.About == "" || d.WrittenBy == "" {
			t.Errorf("%s: it isn't said what it is, or who writes it", d.Name)
		}
	}
	for name, users := range users(spec) {
		if spec.Maps[name] != nil && len(users) == 0 {
			t.Errorf("no program uses %s", name)
		}
	}
}

func dumped(t *testing.T, d *Datapath, name string) []string {
	t.Helper()
	names := Names{
		Endpoint: func(slot, generation uint32) string {
			if slot == 3 && generation == 1 {
				return "shop/web"
			}
			return ""
		},
		Address: func(a netip.Addr) string { return "pod-of-" + a.String() },
		ENI:     func(handle uint32) string { return fmt.Sprintf("eni-%d", handle) },
		Device:  func(ifindex int) string { return fmt.Sprintf("dev%d", ifindex) },
	}
	var out []string
	must(t, d.DumpMap(name, names, func(key, value inspect.Fields) bool {
		out = append(out, inspect.Entry{Key: key, Value: value}.Line())
		return true
	}))
	return out
}

// What is in each map is shown by names, with people's units.
func TestMapsAreDecoded(t *testing.T) {
	s := newSpace(t)
	s.enter(t)
	d := openDatapath(t, testConfig(t))
	e := endpointFor(3, "10.0.0.11", 1)
	must(t, d.locked(func() error { return d.writeEndpoint(e) }))
	limited := endpointFor(4, "10.0.0.12", 1)
	limited.EgressRate, limited.Queued = 1_250_000, true
	must(t, d.locked(func() error { return d.writeEndpoint(limited) }))
	must(t, d.SetAddress(netip.MustParseAddr("10.0.0.99"), 2))
	must(t, d.SetPrefixes(map[netip.Prefix]PrefixInfo{netip.MustParsePrefix("10.1.0.0/16"): {Native: true}, netip.MustParsePrefix("172.20.0.0/16"): {Stack: true}}))
	put := func(name string, key, value any) {
		t.Helper()
		must(t, d.maps[name].Put(key, value))
	}
	put(weftMapWeftEnis, uint32(1), eniValue{Flags: eniValid, Ifindex: 7, MTU: 9001, NextHop: toWire(netip.MustParseAddr("10.0.0.1")), MAC: [6]byte{2, 0, 0, 0, 0, 1}})
	now, err := d.jiffies()
	must(t, err)
	key, from := newCTKey(netip.MustParseAddrPort("10.0.0.11:40000"), netip.MustParseAddrPort("10.1.0.5:443"), protocolTCP)
	entry := ctEntry{Expires: now + 100*d.hz, Generation: 5, Flags: ctNAT | ctEstablished, Origin: uint8(from), Created: now - 10*d.hz,
		NATAddr: toWire(netip.MustParseAddr("10.0.0.10")), NATPort: toPort(2000), NATENI: 1}
	entry.Side[from] = ctSide{Packets: 4, Bytes: 400, Generation: 1, Slot: 3, TCP: tcpSYN | tcpACK}
	entry.Side[1-from] = ctSide{Packets: 3, Bytes: 300, Slot: ctNoSlot, TCP: tcpSYN | tcpACK}
	put(weftMapWeftCtEst, key, entry)
	alias, _ := newCTKey(netip.MustParseAddrPort("10.0.0.10:2000"), netip.MustParseAddrPort("10.1.0.5:443"), protocolTCP)
	put(weftMapWeftCtNew, alias, ctEntry{Flags: ctAlias, Expires: now + d.hz, NATAddr: toWire(netip.MustParseAddr("10.0.0.11")), NATPort: toPort(40000)})
	put(weftMapWeftFragments, fragmentKey{Src: toWire(netip.MustParseAddr("10.0.0.11")), Dst: toWire(netip.MustParseAddr("10.1.0.5")), ID: 77, Protocol: 17},
		fragmentValue{Sport: toPort(53), Dport: toPort(1053)})
	put(weftMapWeftCtSlots, uint32(2), ctSlot{Key: key, Generation: 5, Due: now + 2*d.hz})
	cpus, err := ebpf.PossibleCPU()
	must(t, err)
	counters := make([]counterValue, cpus)
	counters[0], counters[cpus-1] = counterValue{2, 200}, counterValue{Packets: counters[cpus-1].Packets + 3, Bytes: counters[cpus-1].Bytes + 300}
	put(weftMapWeftCounters, uint32((uint32(FromPod)*directionMax+uint32(Egress))*reasonMax)+uint32(ReasonSourceAddress), counters)
	shares := make([]shareValue, cpus)
	shares[0] = shareValue{Tokens: 9, Refilled: now}
	put(weftMapWeftEventShares, uint32(3), shares)
	budgets := make([]budgetValue, cpus)
	budgets[0] = budgetValue{Sent: 12, Suppressed: 3, Lost: 1}
	put(weftMapWeftEventBudgets, uint32(EventDrop), budgets)
	scratch := make([]ctEntry, cpus)
	scratch[0] = entry
	put(weftMapWeftCtScratch, uint32(0), scratch)
	translations := make([]natScratch, cpus)
	translations[0] = natScratch{Key: alias, Flow: key, Entry: entry}
	put(weftMapWeftNatScratch, uint32(0), translations)

	for name, want := range map[string][]string{
		weftMapWeftEndpoints:    {"3  address=10.0.0.11 pod=shop/web flags=valid generation=1 eni=1 eniID=eni-1", "flags=valid,queued,limited"},
		weftMapWeftBandwidth:    {"4  rateBytesPerSecond=1250000 toleranceSeconds=0.1"},
		weftMapWeftAddresses:    {"10.0.0.99  eni=2 eniID=eni-2", "10.0.0.11  eni=1 eniID=eni-1 flags=endpoint slot=3 generation=1 pod=shop/web"},
		weftMapWeftEnis:         {"1  id=eni-1 flags=valid ifindex=7 device=dev7 mac=02:00:00:00:00:01 mtuBytes=9001 nextHop=10.0.0.1"},
		weftMapWeftConfig:       {"families=ipv4", "tcpSeconds=8000", "events=drop,verdict,new,close", "tunnelPorts=6081,8472,4789"},
		weftMapWeftIpcache:      {"10.1.0.0/16  flags=native class=unknown", "172.20.0.0/16  flags=stack"},
		weftMapWeftCounters:     {"from_pod egress source-address  packets=5 bytes=500 drop=yes"},
		weftMapWeftCtBeginning:  {"counted", "removedByAgent", "most  connections=512"},
		weftMapWeftCtEst:        {"tcp 10.0.0.11:40000 10.1.0.5:443  state=established flags=translated,established ageSeconds=10", "translatedTo=10.0.0.10:2000", "fromPod=shop/web", "fromTCP=SYN,ACK"},
		weftMapWeftCtNew:        {"state=alias flags=alias", "aliasOf=10.0.0.11:40000"},
		weftMapWeftCtRings:      {"established  ", "closed  "},
		weftMapWeftCtSlots:      {"generation=5 protocol=tcp"},
		weftMapWeftCtStats:      {"programs", "agent"},
		weftMapWeftCtTimers:     {"0"},
		weftMapWeftFragments:    {"udp 10.0.0.11 10.1.0.5 77  sourcePort=53 destinationPort=1053 sourcePod=pod-of-10.0.0.11"},
		weftMapWeftEventShares:  {"3 0  tokens=9"},
		weftMapWeftEventBudgets: {"drop 0  ", "sent=12 suppressed=3 lost=1"},
		weftMapWeftEvents:       {"ring  sizeBytes="},
		weftMapWeftCtScratch:    {"0 0  flags=translated,established"},
		weftMapWeftNatScratch:   {"0 0 tcp", "translatedTo=10.0.0.10:2000"},
	} {
		all := strings.Join(dumped(t, d, name), "\n")
		for _, w := range want {
			if !strings.Contains(all, w) {
				t.Errorf("%s: found\n%s\nexpected %q in it", name, all, w)
			}
		}
	}
	if all := dumped(t, d, weftMapWeftEndpoints); len(all) != 2 {
		t.Errorf("endpoints are %q, expected the two that are there", all)
	}
}

// The list of maps says how full each is, and notices a pin that is gone.
func TestMapsAreListed(t *testing.T) {
	s := newSpace(t)
	s.enter(t)
	cfg := testConfig(t)
	d := openDatapath(t, cfg)
	must(t, d.locked(func() error { return d.writeEndpoint(endpointFor(3, "10.0.0.11", 1)) }))
	list, err := d.Maps()
	must(t, err)
	byName := map[string]inspect.Map{}
	for _, m := range list {
		byName[m.Name] = m
		if len(m.UsedBy) == 0 || m.Layout < 1 || m.MaxEntries == 0 || m.About == "" {
			t.Errorf("%s: found %+v, expected its users, its layout and its size", m.Name, m)
		}
		if m.PinMissing || (m.Pin == "") != ephemeral(m.Name) {
			t.Errorf("%s: pin is %q (missing: %v)", m.Name, m.Pin, m.PinMissing)
		}
	}
	e := byName[weftMapWeftEndpoints]
	if e.Entries != 1 || e.Fixed || e.MemoryBytes == 0 || e.Type != "array" || e.KeyBytes != 4 || !slices.Contains(e.UsedBy, "from_pod") {
		t.Errorf("endpoints: found %+v, expected one entry of an array", e)
	}
	if c := byName[weftMapWeftConfig]; !c.Fixed || c.Layout != 2 || !strings.HasSuffix(c.Pin, "_2") || c.Pressure() != 0 {
		t.Errorf("config: found %+v, expected a fixed map of layout 2", c)
	}
	if est := byName[weftMapWeftCtEst]; est.MaxEntries != 4096 || est.Evicts || !byName[weftMapWeftCtNew].Evicts {
		t.Errorf("tables of connections: found %+v", est)
	}
	must(t, os.Remove(e.Pin))
	list, err = d.Maps()
	must(t, err)
	for _, m := range list {
		if m.PinMissing != (m.Name == weftMapWeftEndpoints) {
			t.Errorf("%s: missing pin is %v", m.Name, m.PinMissing)
		}
	}
}

// What waits in the ring can be looked at without taking it from the reader.
func TestRingIsReadWithoutTaking(t *testing.T) {
	s := newSpace(t)
	s.enter(t)
	d := openDatapath(t, testConfig(t))
	packet := make([]byte, 60) // to a device of no endpoint
	for range 3 {
		if _, _, err := d.programs[FromPod].Test(packet); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		all := dumped(t, d, weftMapWeftEvents)
		if len(all) != 4 || !strings.Contains(all[0], "waitingBytes=") || !strings.Contains(all[3], "type=drop") {
			t.Fatalf("found %q, expected the ring and its three events", all)
		}
	}
}
