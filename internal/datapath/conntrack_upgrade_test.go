package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weft-cni/weft/internal/datapath/next"
)

// nextVersion is what comes after this version, with other entries of connections.
func nextVersion() *Object {
	return ThisVersion().Successor(next.Load, next.Changed(), next.Previous())
}

// An upgrade is two versions over the same pins.
type upgrade struct {
	t   testing.TB
	cfg Config
}

func newUpgrade(t testing.TB) *upgrade {
	asShipped(t)
	newSpace(t).enter(t)
	return &upgrade{t: t, cfg: testConfig(t)}
}

// this and next open the datapath as an agent of that version does.
func (u *upgrade) this() *tracker {
	u.t.Helper()
	cfg := u.cfg
	return trackerOf(u.t, openDatapath(u.t, cfg), loadTrack)
}

func (u *upgrade) next() *tracker {
	u.t.Helper()
	cfg := u.cfg
	cfg.Object = nextVersion()
	return trackerOf(u.t, openDatapath(u.t, cfg), loadTracknext)
}

func flowEnds(i int) (netip.AddrPort, netip.AddrPort) {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), uint16(20000+i)), netip.MustParseAddrPort("203.0.113.1:443")
}

func (k *tracker) tcp(i int, out bool, flags uint8) trackValue {
	k.t.Helper()
	from, to := flowEnds(i)
	if !out {
		from, to = to, from
	}
	return k.run(segment{from: from, to: to, protocol: protocolTCP, tcp: flags})
}

func (k *tracker) handshake(i int) {
	k.t.Helper()
	k.tcp(i, true, tcpSYN)
	k.tcp(i, false, tcpSYN|tcpACK)
	k.tcp(i, true, tcpACK)
	if v := k.tcp(i, false, tcpACK); v.Established == 0 {
		k.t.Fatalf("flow %d isn't established after its handshake: %+v", i, v)
	}
}

func (k *tracker) mustBeEstablished(when string, from, to int) {
	k.t.Helper()
	for i := from; i < to; i++ {
		if v := k.tcp(i, i%2 == 0, tcpACK); v.Hit == 0 || v.Established == 0 {
			k.t.Fatalf("%s: a packet of flow %d: %+v, expected an established flow", when, i, v)
		}
	}
}

func (k *tracker) mustKnowUDP(when string, from, to int) {
	k.t.Helper()
	for i := from; i < to; i++ {
		a, b := flowEnds(i)
		if v := k.run(segment{from: b, to: a, protocol: 17, noCreate: true}); v.Hit == 0 {
			k.t.Fatalf("%s: an answer of flow %d: %+v, expected a known flow", when, i, v)
		}
	}
}

func (k *tracker) udp(i int) {
	k.t.Helper()
	a, b := flowEnds(i)
	k.run(segment{from: a, to: b, protocol: 17})
}

func pins(t testing.TB, cfg Config) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(cfg.PinDir, "maps"))
	must(t, err)
	out := map[string]bool{}
	for _, e := range entries {
		out[e.Name()] = true
	}
	return out
}

// No flow is lost on the way to a version with other entries, back, and there again, whichever of the two
// saw it begin.
func TestFlowsOutliveAnotherLayout(t *testing.T) {
	u := newUpgrade(t)
	k := u.this()
	for i := range 50 {
		k.handshake(i)
		k.udp(i)
	}
	k.tcp(900, true, tcpSYN) // on its way
	must(t, k.d.Close())

	k = u.next()
	if have := pins(t, u.cfg); !have["weft_ct_est"] || !have["weft_ct_est_2"] || have[weftMapWeftEndpoints] || !have["weft_endpoints_2"] {
		t.Errorf("the next version has pins %v, expected its own and the connections of this one", have)
	}
	k.mustBeEstablished("after the upgrade", 0, 50)
	k.mustKnowUDP("after the upgrade", 0, 50)
	k.tcp(900, false, tcpSYN|tcpACK)
	if v := k.tcp(900, true, tcpACK); v.Established == 0 {
		t.Errorf("a flow that was on its way isn't established: %+v", v)
	}
	for i := 50; i < 100; i++ {
		k.handshake(i)
		k.udp(i)
	}
	// Closed by both sides and forgotten.
	k.tcp(0, true, tcpFIN|tcpACK)
	k.tcp(0, false, tcpFIN|tcpACK)
	k.tcp(0, true, tcpACK)
	must(t, k.d.Close())

	k = u.this()
	if have := pins(t, u.cfg); have["weft_ct_est_2"] || have["weft_ct_new_2"] || have["weft_endpoints_2"] {
		t.Errorf("this version left the next one's pins: %v", have)
	}
	k.mustBeEstablished("after going back", 1, 100)
	k.mustKnowUDP("after going back", 0, 100)
	if a, b := flowEnds(0); true {
		if _, _, found := k.entry(a, b, protocolTCP); found {
			t.Error("a flow that ended is still there after going back")
		}
	}
	k.handshake(100)
	must(t, k.d.Close())

	k = u.next()
	k.mustBeEstablished("after the second upgrade", 1, 101)
	k.mustKnowUDP("after the second upgrade", 0, 100)
}

// Devices are brought to another version one after the other: meanwhile one direction of a flow may pass
// the programs of one version and the other those of the other.
func TestVersionsBesideEachOther(t *testing.T) {
	u := newUpgrade(t)
	u.cfg.beside = true
	this := u.this()
	next := u.next()
	for i, step := range []struct{ out, back *tracker }{{this, next}, {next, this}} {
		step.out.tcp(i, true, tcpSYN)
		step.back.tcp(i, false, tcpSYN|tcpACK)
		step.out.tcp(i, true, tcpACK)
		step.back.tcp(i, false, tcpACK)
		step.out.tcp(i, true, tcpACK)
	}
	// Afterwards one version has all devices.
	for i := range 2 {
		if v := next.tcp(i, true, tcpACK); v.Hit == 0 || v.Established == 0 {
			t.Errorf("flow %d: %+v, expected an established flow in the next version", i, v)
		}
	}
	back := u.this()
	for i := range 2 {
		if v := back.tcp(i, false, tcpACK); v.Hit == 0 || v.Established == 0 {
			t.Errorf("flow %d: %+v, expected an established flow after going back", i, v)
		}
	}
}

// A flow that only the old tables know expires there, and nothing stays in either.
func TestExpiryInBothLayouts(t *testing.T) {
	u := newUpgrade(t)
	// A flow must outlive the upgrade, and how long that takes is up to who else uses the machine.
	started := time.Now()
	must(t, u.this().d.Close())
	opening := time.Since(started)
	lifetime := min(8*time.Second+8*opening, time.Minute).Truncate(time.Second)
	u.cfg.Settings = DefaultSettings()
	u.cfg.Settings.Lifetimes = Lifetimes{TCP: lifetime, SYN: lifetime, FIN: time.Second, Any: time.Second, Stack: time.Second}
	k := u.this()
	for i := range 20 {
		k.handshake(i)
	}
	must(t, k.d.Close())
	k = u.next()
	k.mustBeEstablished("after the upgrade", 0, 10)
	eventually(t, "every flow has expired", 40*time.Second+2*lifetime, func() bool {
		for _, name := range []string{"weft_ct_est", "weft_ct_est_prev", "weft_ct_new", "weft_ct_new_prev"} {
			var key ctKey
			if err := k.d.maps[name].NextKey(nil, &key); !errors.Is(err, ebpf.ErrKeyNotExist) {
				must(t, err)
				return false
			}
		}
		return true
	})
}

// A translated flow's alias comes along, and nobody gets a port that only the old tables know as taken.
func TestAliasesOutliveAnotherLayout(t *testing.T) {
	u := newUpgrade(t)
	this := u.this()
	must(t, this.d.Close())
	next := u.next()
	e := ctEntry{Generation: 7, Flags: ctAlias, Expires: 1 << 20}
	e.Side[0].Slot, e.Side[1].Slot = ctNoSlot, ctNoSlot
	a, b := flowEnds(1)
	key, _ := newCTKey(a, b, protocolTCP)
	must(t, next.d.maps["weft_ct_new_prev"].Put(key, e))
	if v := next.tcp(1, false, tcpACK); v.Hit == 0 {
		t.Errorf("an answer meets %+v, expected the alias", v)
	}
	var got [200]byte
	if err := next.d.maps["weft_ct_new"].Lookup(key, got[:next.d.maps["weft_ct_new"].ValueSize()]); err != nil {
		t.Errorf("the alias wasn't taken over: %v", err)
	}
}

func TestPinsOfOtherVersions(t *testing.T) {
	this, later := ThisVersion(), nextVersion()
	spec, err := this.Load()
	must(t, err)
	nextSpec, err := later.Load()
	must(t, err)
	have := []string{"weft_ct_est", "weft_ct_est_2", "weft_ct_new", "weft_enis", "weft_enis_2", "weft_enis_x", "weft_enis_", "weft_endpoints", "weft_endpoints_2", "other", "other_2"}
	for _, test := range []struct {
		name   string
		object *Object
		spec   *ebpf.CollectionSpec
		want   string
	}{
		{"this", this, spec, "[weft_ct_est_2 weft_enis weft_endpoints_2]"},
		{"next", later, nextSpec, "[weft_enis weft_endpoints]"},
	} {
		if got := fmt.Sprint(test.object.foreign(test.spec, have)); got != test.want {
			t.Errorf("%s: foreign pins are %s, expected %s", test.name, got, test.want)
		}
	}
	for name := range nextSpec.Maps {
		if strings.HasSuffix(name, "_prev") && !ephemeral(name) && later.Previous[name] == "" {
			t.Errorf("map %s isn't named as the previous layout of another", name)
		}
	}
}
