package datapath

import (
	"encoding/binary"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/weft-cni/weft/internal/contract"
)

// goField is the Go name of a C field.
func goField(c string) string {
	var out strings.Builder
	for _, word := range strings.Split(c, "_") {
		switch word {
		case "eni", "mtu", "mac", "id", "tcp", "nat", "cpu":
			out.WriteString(strings.ToUpper(word))
		default:
			out.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return out.String()
}

func TestLayoutsAreTheSameInGoAndC(t *testing.T) {
	spec, err := loadWeft()
	if err != nil {
		t.Fatal(err)
	}
	mirrors := map[string]struct{ key, value any }{
		weftMapWeftEndpoints:   {uint32(0), endpointValue{}},
		weftMapWeftAddresses:   {wireAddr{}, addressValue{}},
		weftMapWeftEnis:        {uint32(0), eniValue{}},
		weftMapWeftCounters:    {uint32(0), counterValue{}},
		weftMapWeftConfig:      {uint32(0), configValue{}},
		weftMapWeftBandwidth:   {uint32(0), bucketValue{}},
		weftMapWeftFragments:   {fragmentKey{}, fragmentValue{}},
		weftMapWeftCtNew:       {ctKey{}, ctEntry{}},
		weftMapWeftCtEst:       {ctKey{}, ctEntry{}},
		weftMapWeftCtScratch:   {uint32(0), ctEntry{}},
		weftMapWeftCtStats:     {uint32(0), ctStats{}},
		weftMapWeftCtBeginning: {uint32(0), int64(0)},
		weftMapWeftCtRings:     {uint32(0), ctRing{}},
		weftMapWeftCtSlots:     {uint32(0), ctSlot{}},
		weftMapWeftCtTimers:    {uint32(0), ctTimer{}},
		weftMapWeftIpcache:     {ipcacheKey{}, ipcacheValue{}},

		weftMapWeftEventBudgets: {uint32(0), budgetValue{}},
		weftMapWeftEventShares:  {uint32(0), shareValue{}},
		weftMapWeftNatScratch:   {uint32(0), natScratch{}},

		weftMapWeftLbBackends:  {lbSlot{}, lbBackend{}},
		weftMapWeftLbClients:   {lbKeeper{}, lbKept{}},
		weftMapWeftLbConfig:    {uint32(0), lbConfig{}},
		weftMapWeftLbFrontends: {lbKey{}, lbFrontend{}},
		weftMapWeftLbMembers:   {lbMember{}, uint32(0)},
		weftMapWeftLbPorts:     {uint32(0), uint64(0)},
		weftMapWeftLbRanges:    {lbRange{}, uint32(0)},
		weftMapWeftLbScratch:   {uint32(0), serviceScratch{}},
	}
	// The ring's records have many kinds, and a map of maps has none.
	if len(mirrors)+2 != len(spec.Maps) {
		t.Errorf("the object has %d maps, the test knows %d", len(spec.Maps), len(mirrors))
	}
	for name, m := range spec.Maps {
		if m.Type == ebpf.RingBuf || m.Type == ebpf.HashOfMaps {
			continue
		}
		mirror, ok := mirrors[name]
		if !ok {
			t.Errorf("map %s has no mirror in Go", name)
			continue
		}
		compareLayout(t, name+" key", m.Key, reflect.TypeOf(mirror.key))
		compareLayout(t, name+" value", m.Value, reflect.TypeOf(mirror.value))
	}
}

func TestEventsHaveTheSameLayoutInGoAndC(t *testing.T) {
	spec, err := loadWeft()
	if err != nil {
		t.Fatal(err)
	}
	var event *btf.Struct
	if err := spec.Types.TypeByName("weft_event", &event); err != nil {
		t.Fatal(err)
	}
	compareLayout(t, "weft_event", event, reflect.TypeOf(eventValue{}))
	if size := binary.Size(eventValue{}); size != eventSize || uint32(size) != event.Size {
		t.Errorf("an event has %d bytes in C, %d in Go, and %d are read", event.Size, size, eventSize)
	}
}

func compareLayout(t *testing.T, where string, c btf.Type, g reflect.Type) {
	t.Helper()
	size, err := btf.Sizeof(c)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	if uintptr(size) != g.Size() {
		t.Errorf("%s: %d bytes in C, %d in Go", where, size, g.Size())
	}
	s, ok := btf.UnderlyingType(c).(*btf.Struct)
	if !ok || g.Kind() != reflect.Struct {
		return
	}
	for _, member := range s.Members {
		if member.Name == "reserved0" {
			continue
		}
		f, ok := g.FieldByName(goField(member.Name))
		if !ok {
			t.Errorf("%s: field %s of C is missing in Go", where, member.Name)
			continue
		}
		if uintptr(member.Offset.Bytes()) != f.Offset {
			t.Errorf("%s: %s is at %d in C, at %d in Go", where, member.Name, member.Offset.Bytes(), f.Offset)
		}
		if size, err := btf.Sizeof(member.Type); err != nil || uintptr(size) != f.Type.Size() {
			t.Errorf("%s: %s has %d bytes in C (%v), %d in Go", where, member.Name, size, err, f.Type.Size())
		}
	}
}

// The numbers that C repeats from the contract.
func TestConstantsAreTheSameInGoAndC(t *testing.T) {
	have := map[string]int64{}
	for _, file := range []string{"layout.h", "reason.h", "lb.h"} {
		source, err := os.ReadFile("../../bpf/include/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^(?:#define |\t)(\w+) (?:= )?(0x[0-9a-f]+|\d+)\b`).FindAllStringSubmatch(string(source), -1) {
			n, err := strconv.ParseInt(m[2], 0, 64)
			if err != nil {
				t.Fatal(err)
			}
			have[m[1]] = n
		}
	}
	want := map[string]int64{
		"IFINDEX_BASE":       contract.IfindexBase,
		"MAX_ENDPOINTS":      contract.MaxEndpoints,
		"MARK_FROM_POD":      contract.MarkFromPod,
		"MARK_DECIDED":       contract.MarkDecided,
		"MARK_FROM_NETDEV":   contract.MarkFromNetdev,
		"MARK_KIND_MASK":     contract.MarkKindMask,
		"MAX_ENIS":           MaxENIs + 1,
		"IPCACHE_FIXED_BITS": ipcacheFixedBits,
		"LIFETIME_TCP":       lifetimeTCP, "LIFETIME_SYN": lifetimeSYN, "LIFETIME_FIN": lifetimeFIN, "LIFETIME_ANY": lifetimeAny,
		"LIFETIME_MAX":      int64(len(configValue{}.Lifetime)),
		"TUNNEL_PORTS":      int64(len(configValue{}.TunnelPorts)),
		"REASON_MAX":        reasonMax,
		"REASON_FIRST_DROP": int64(firstDrop),
		"HOOK_MAX":          hookMax,
		"DIRECTION_MAX":     directionMax,
		"HOOK_FROM_POD":     int64(FromPod),
		"HOOK_TO_POD":       int64(ToPod),
		"HOOK_FROM_NETDEV":  int64(FromNetdev),
		"HOOK_TO_NETDEV":    int64(ToNetdev),
		"EVENT_DROP":        int64(EventDrop),
		"EVENT_TRACE":       int64(EventTrace),
		"EVENT_VERDICT":     int64(EventVerdict),
		"EVENT_NEW":         int64(EventNew),
		"EVENT_CLOSE":       int64(EventClose),
		"EVENT_MAX":         eventMax,
		"EVENT_LAYOUT":      eventLayout,
		"EVENT_DATA_MAX":    MaxCapture,
		"EVENT_NO_HOOK":     int64(HookNone),
		"CT_NO_SLOT":        ctNoSlot,
		"DIRECTION_INGRESS": int64(Ingress),
		"DIRECTION_EGRESS":  int64(Egress),

		"LB_SCOPE_CLUSTER":    lbScopeCluster,
		"LB_SCOPE_OUTSIDE":    lbScopeOutside,
		"LB_RANGE_FIXED_BITS": lbRangeFixedBits,
	}
	for name, n := range want {
		if got, ok := have[name]; !ok || got != n {
			t.Errorf("%s is %d in C (found: %v), expected %d", name, got, ok, n)
		}
	}
}

// Reasons are append-only: this is what has been released.
func TestReasonsKeepTheirNumbers(t *testing.T) {
	released := map[Reason]string{
		0: "forwarded", 1: "redirected", 2: "answered", 3: "other-family",
		16: "note-wrong-eni-in", 17: "note-host-source",
		32: "no-endpoint", 33: "truncated", 34: "bad-header", 35: "source-mac", 36: "dest-mac",
		37: "source-address", 38: "arp-target", 39: "arp-bad", 40: "multicast", 41: "loopback-dest",
		42: "tunnel-port", 43: "family-off", 44: "ethertype", 45: "vlan", 46: "not-for-endpoint",
		47: "source-is-local", 48: "no-owner", 49: "no-eni", 50: "redirect-failed",
	}
	for n, name := range released {
		if n.String() != name {
			t.Errorf("reason %d is %q, expected %q", n, n, name)
		}
	}
	for _, r := range Reasons() {
		if r >= reasonMax {
			t.Errorf("reason %s has number %d, expected less than %d", r, r, reasonMax)
		}
		if r.Text() == "" || r.Drop() && r.Advice() == "" {
			t.Errorf("reason %s lacks a text or, being a drop, an advice", r)
		}
	}
}
