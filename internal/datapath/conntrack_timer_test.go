package datapath

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// eventually polls until done says so.
func eventually(t testing.TB, what string, within time.Duration, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(within)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, within)
		}
		<-tick.C
	}
}

// shortLived has everything expire after a second.
func shortLived(cfg Config) Config {
	cfg.Settings = DefaultSettings()
	cfg.Settings.Lifetimes = Lifetimes{TCP: time.Second, SYN: time.Second, FIN: time.Second, Any: time.Second, Stack: time.Second}
	return cfg
}

func portOf(base netip.AddrPort, i int) netip.AddrPort {
	return netip.AddrPortFrom(base.Addr(), base.Port()+uint16(i))
}

// establish opens n connections from successive ports.
func (k *tracker) establish(from, to netip.AddrPort, n int) {
	k.t.Helper()
	for i := range n {
		a := portOf(from, i)
		k.run(segment{from: a, to: to, protocol: protocolTCP, tcp: tcpSYN})
		k.run(segment{from: to, to: a, protocol: protocolTCP, tcp: tcpSYN | tcpACK})
		if v := k.run(segment{from: a, to: to, protocol: protocolTCP, tcp: tcpACK}); v.Established != 1 {
			k.t.Fatalf("connection %d isn't established", i)
		}
	}
}

const loaderEnv = "WEFT_DATAPATH_TEST_LOADER"

// TestLoader is not a test: it is the process that TestExpiryWithTheLoaderGone starts.
func TestLoader(t *testing.T) {
	dir := os.Getenv(loaderEnv)
	if dir == "" {
		t.Skip("runs as part of TestExpiryWithTheLoaderGone")
	}
	k := newTracker(t, shortLived(Config{PinDir: dir, Sizes: Sizes{ConntrackTCP: 4096, ConntrackAny: 4096}}))
	k.establish(connA, connB, 300)
	for i := range 300 {
		k.run(segment{from: portOf(connA, i), to: connB, protocol: protocolUDP})
	}
}

func TestExpiryWithTheLoaderGone(t *testing.T) {
	needRoot(t)
	cfg := testConfig(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestLoader$", "-test.v")
	cmd.Env = append(os.Environ(), loaderEnv+"="+cfg.PinDir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the loader: %v\n%s", err, out)
	}
	// No program of weft's is attached or held by anybody now; the pins hold the maps, and the timer its
	// program.
	open := func(name string) *ebpf.Map {
		m, err := ebpf.LoadPinnedMap(filepath.Join(cfg.PinDir, "maps", ThisVersion().pinName(name)), nil)
		must(t, err)
		t.Cleanup(func() { m.Close() })
		return m
	}
	est, other, timers := open(mapConntrackTCP), open(mapConntrackAny), open(weftMapWeftCtTimers)
	var first ctTimer
	must(t, timers.Lookup(uint32(0), &first))
	eventually(t, "both tables are empty", 30*time.Second, func() bool { return countKeys(t, est) == 0 && countKeys(t, other) == 0 })
	var last ctTimer
	must(t, timers.Lookup(uint32(0), &last))
	if last.Ticks <= first.Ticks || last.Looked < 600 {
		t.Errorf("the timer ticked from %d to %d and looked at %d slots, expected more ticks and at least 600 slots", first.Ticks, last.Ticks, last.Looked)
	}
}

func countKeys(t testing.TB, m *ebpf.Map) int {
	t.Helper()
	keys, entries := make([]ctKey, 1024), make([]ctEntry, 1024)
	var cursor ebpf.MapBatchCursor
	total := 0
	for {
		n, err := m.BatchLookup(&cursor, keys, entries, nil)
		total += n
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return total
		}
		must(t, err)
	}
}

// Entries that are used don't expire, whatever the timer sees.
func TestUsedEntriesStay(t *testing.T) {
	k := newTracker(t, shortLived(testConfig(t)))
	k.establish(connA, connB, 2)
	k.run(segment{from: connA, to: connB, protocol: protocolUDP})
	idle := portOf(connA, 1)
	eventually(t, "the idle connection is gone", 20*time.Second, func() bool {
		if v := k.run(segment{from: connA, to: connB, protocol: protocolTCP, tcp: tcpACK, noCreate: true}); v.Hit != 1 {
			t.Fatal("a connection in use was lost")
		}
		if v := k.run(segment{from: connA, to: connB, protocol: protocolUDP, noCreate: true}); v.Hit != 1 {
			t.Fatal("a flow in use was lost")
		}
		_, _, found := k.entry(idle, connB, protocolTCP)
		return !found
	})
}

// A translated flow takes its alias along when it expires.
func TestAliasExpiresWithItsFlow(t *testing.T) {
	k := newTracker(t, shortLived(testConfig(t)))
	n := newNATFlow()
	n.putAlias(t, k)
	n.run(k, 'a', tcpSYN)
	eventually(t, "an opening flow and its alias are gone", 20*time.Second, func() bool {
		_, _, flow := k.entry(n.pod, n.remote, protocolTCP)
		_, _, alias := k.entry(n.outside, n.remote, protocolTCP)
		return !flow && !alias
	})
	n.putAlias(t, k)
	n.run(k, 'a', tcpSYN)
	n.run(k, 'b', tcpSYN|tcpACK)
	n.run(k, 'a', tcpACK)
	n.expect(t, k, "established", true, true)
	eventually(t, "an established flow and its alias are gone", 20*time.Second, func() bool {
		_, _, flow := k.entry(n.pod, n.remote, protocolTCP)
		_, _, alias := k.entry(n.outside, n.remote, protocolTCP)
		return !flow && !alias
	})
	s, err := k.d.ConntrackStats()
	must(t, err)
	if s.Established != 0 || s.Expired != 2 {
		t.Errorf("%d entries are left and %d expired, expected none and 2", s.Established, s.Expired)
	}
}

// A closed connection isn't kept as long as an established one would be.
func TestClosedConnectionsLeaveSoon(t *testing.T) {
	cfg := testConfig(t)
	cfg.Settings = DefaultSettings()
	cfg.Settings.Lifetimes.FIN = time.Second
	k := newTracker(t, cfg)
	k.establish(connA, connB, 50)
	for i := range 49 {
		k.run(segment{from: connB, to: portOf(connA, i), protocol: protocolTCP, tcp: tcpRST})
	}
	eventually(t, "only the open connection is left", 20*time.Second, func() bool { return countKeys(t, k.d.maps[mapConntrackTCP]) == 1 })
}

// An endpoint's entries leave when its place in the map is another's, though nobody uses them.
func TestEntriesOfAGoneEndpointLeave(t *testing.T) {
	k := newTracker(t, shortLived(testConfig(t)))
	must(t, k.d.maps[weftMapWeftEndpoints].Put(uint32(3), newEndpointValue(endpointFor(3, podAddr, 2))))
	s := k.d.Settings()
	s.Lifetimes.TCP = time.Hour
	s.Lifetimes.Any = time.Hour
	pod := netip.MustParseAddrPort(podAddr + ":1000")
	k.run(segment{from: pod, to: connB, protocol: protocolUDP, new: ctNewValue{FromSlot: 3, FromGeneration: 1, ToSlot: ctNoSlot}})
	// Its slot in the ring was due soon; its life is long.
	must(t, k.d.Configure(s))
	k.run(segment{from: pod, to: connB, protocol: protocolUDP})
	must(t, k.d.maps[weftMapWeftEndpoints].Put(uint32(3), endpointValue{}))
	eventually(t, "the entry is gone", 20*time.Second, func() bool { _, _, found := k.entry(pod, connB, protocolUDP); return !found })
}

// The timer that an earlier agent started goes on, with the program of the later one; the earlier one's
// program is let go.
func TestTimerAcrossAgents(t *testing.T) {
	newSpace(t).enter(t)
	cfg := shortLived(testConfig(t))
	ticks := func(d *Datapath) uint64 {
		var v ctTimer
		must(t, d.maps[weftMapWeftCtTimers].Lookup(uint32(0), &v))
		return v.Ticks
	}
	// An agent's program is held by it, and by the timer when it is gone.
	var ours ebpf.ProgramID
	for i := range 5 {
		d, err := Open(cfg)
		must(t, err)
		was := ticks(d)
		eventually(t, "the timer ticks", 10*time.Second, func() bool { return ticks(d) > was+2 })
		timers := d.maps[weftMapWeftCtTimers]
		eventually(t, "the program of the earlier agent is gone", 20*time.Second, func() bool {
			programs := timerPrograms(t, timers)
			if len(programs) != 1 {
				return false
			}
			if i > 0 && programs[0] == ours {
				t.Fatal("the timer has the earlier agent's program")
			}
			ours = programs[0]
			return true
		})
		must(t, d.Close())
	}
	last, err := ebpf.NewProgramFromID(ours)
	if err != nil {
		t.Fatalf("the last agent's program is gone with it: %v", err)
	}
	last.Close()
}

// timerPrograms lists the loaded programs that start this timer.
func timerPrograms(t testing.TB, timers *ebpf.Map) []ebpf.ProgramID {
	t.Helper()
	info, err := timers.Info()
	must(t, err)
	want, ok := info.ID()
	if !ok {
		t.Fatal("the kernel doesn't tell a map's number")
	}
	var out []ebpf.ProgramID
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return out
		}
		must(t, err)
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		must(t, err)
		info, err := p.Info()
		p.Close()
		must(t, err)
		if maps, ok := info.MapIDs(); ok && slices.Contains(maps, want) && info.Name == weftProgCtStart {
			out = append(out, id)
		}
	}
}

// Rings whose pins somebody removed are made anew, and what the tables hold is found again.
func TestLostRings(t *testing.T) {
	for _, lost := range [][]string{{weftMapWeftCtSlots}, {weftMapWeftCtRings}, {weftMapWeftCtRings, weftMapWeftCtSlots, weftMapWeftCtTimers}} {
		cfg := testConfig(t)
		cfg.PinDir += "-" + lost[0] + strconv.Itoa(len(lost))
		cfg.Settings = DefaultSettings()
		k := newTracker(t, cfg)
		k.establish(connA, connB, 300)
		must(t, k.d.Close())
		for _, name := range lost {
			must(t, os.Remove(filepath.Join(cfg.PinDir, "maps", ThisVersion().pinName(name))))
		}
		cfg.Sizes = Sizes{ConntrackTCP: 1024, ConntrackAny: 1024} // which the tables that are there don't follow
		d := openDatapath(t, shortLived(cfg))
		s, err := d.ConntrackStats()
		must(t, err)
		if s.Established != 300 || s.Rings[ringEst].Used != 300 {
			t.Errorf("%v: %d connections and %d slots, expected 300 of both", lost, s.Established, s.Rings[ringEst].Used)
		}
		// Their lives are hours; as closed ones they have a second.
		k = trackerOf(t, d, loadTrack)
		for i := range 300 {
			k.run(segment{from: connB, to: portOf(connA, i), protocol: protocolTCP, tcp: tcpRST})
		}
		eventually(t, "the connections are gone", 20*time.Second, func() bool { return countKeys(t, d.maps[mapConntrackTCP]) == 0 })
		must(t, d.Close())
	}
}
