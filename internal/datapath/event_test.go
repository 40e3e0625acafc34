package datapath

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// collect reads events until enough of them, in a goroutine of its own.
func collect(t testing.TB, d *Datapath, enough func([]Event) bool) []Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var all []Event
	err := d.ReadEvents(ctx, func(events []Event, bad int) {
		all = append(all, events...)
		if bad > 0 {
			t.Errorf("%d records were not understood", bad)
		}
		if enough(all) {
			cancel()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if !enough(all) {
		t.Fatalf("20 s brought %d events: %+v", len(all), all)
	}
	return all
}

func atLeast(n int) func([]Event) bool { return func(e []Event) bool { return len(e) >= n } }

// run gives a frame to from_pod as if the rig's endpoint had sent it.
func (r *rig) send(t testing.TB, frame []byte) uint32 {
	t.Helper()
	ret, _, _, err := runProgram(r.d.programs[FromPod], frame, skbContext{IngressIfindex: uint32(r.ep.Ifindex), Ifindex: uint32(r.ep.Ifindex)})
	if err != nil {
		t.Fatal(err)
	}
	return ret
}

func (r *rig) forged(sport uint16) []byte {
	return ethernetFrame(r.ep.HostMAC, r.ep.PodMAC, 0x0800,
		ipv4Packet{src: "192.168.1.99", dst: otherAddr, protocol: 17, payload: udpPayload(sport, 53, []byte("hello"))}.bytes())
}

// from_pod's device, so that BPF_PROG_TEST_RUN believes the index.
func (r *rig) up(t testing.TB) {
	t.Helper()
	link, err := netlink.LinkByIndex(r.ep.Ifindex)
	must(t, err)
	must(t, netlink.LinkSetUp(link))
}

func TestADropIsToldWithAllThatIsKnown(t *testing.T) {
	r := newRig(t)
	r.up(t)
	if got := r.send(t, r.forged(4242)); got != actShot {
		t.Fatalf("a forged source is answered with %d, expected a drop", got)
	}
	e := collect(t, r.d, atLeast(1))[0]
	want := EventSide{Addr: netip.MustParseAddr("192.168.1.99"), Port: 4242, Local: true, Slot: r.ep.Slot, Generation: r.ep.Generation}
	if e.Type != EventDrop || e.Reason != ReasonSourceAddress || e.Hook != FromPod || e.Direction != Egress ||
		e.Side[0] != want || e.Side[1].Addr != netip.MustParseAddr(otherAddr) || e.Side[1].Port != 53 ||
		e.Protocol != 17 || e.Family != 4 || e.Ifindex != r.ep.Ifindex || e.Length != 14+20+8+5 {
		t.Errorf("the event is %+v", e)
	}
	if !strings.HasSuffix(e.File, "from_pod.c") || e.Line == 0 {
		t.Errorf("it was decided at %s:%d, expected a line of from_pod.c", e.File, e.Line)
	}
	clock, err := NewClock()
	must(t, err)
	if age := time.Since(clock.Time(e)); age < 0 || age > time.Minute {
		t.Errorf("it was %s ago", age)
	}
}

func TestCapturedBytesAreThePackets(t *testing.T) {
	r := newRig(t)
	r.up(t)
	long := ethernetFrame(r.ep.HostMAC, r.ep.PodMAC, 0x0800,
		ipv4Packet{src: "192.168.1.99", dst: otherAddr, protocol: 17, payload: udpPayload(1, 2, bytes.Repeat([]byte("x"), 400))}.bytes())
	must(t, r.d.SetWatch(Watch{Capture: MaxCapture}))
	r.send(t, r.forged(1))
	r.send(t, long)
	must(t, r.d.SetWatch(Watch{Capture: 20}))
	r.send(t, long)
	must(t, r.d.SetWatch(Watch{}))
	r.send(t, long)
	got := collect(t, r.d, atLeast(4))
	for i, want := range [][]byte{r.forged(1), long[:MaxCapture], long[:20], nil} {
		if !bytes.Equal(got[i].Data, want) {
			t.Errorf("event %d has %x, expected %x", i, got[i].Data, want)
		}
	}
	if err := r.d.SetWatch(Watch{Capture: MaxCapture + 1}); err == nil {
		t.Error("more bytes than an event holds were taken for a setting")
	}
}

func TestTraceTellsOfPacketsThatPass(t *testing.T) {
	r := newRig(t)
	r.up(t)
	fine := ethernetFrame(r.ep.HostMAC, r.ep.PodMAC, 0x0800,
		ipv4Packet{src: podAddr, dst: nodeAddr, protocol: 17, payload: udpPayload(7, 8, nil)}.bytes())
	traces := func(events []Event) (n int) {
		for _, e := range events {
			if e.Type == EventTrace && e.Side[0].Port == 7 {
				n++
			}
		}
		return n
	}
	r.send(t, fine)
	must(t, r.d.SetWatch(Watch{Trace: true}))
	r.send(t, fine)
	must(t, r.d.SetWatch(Watch{}))
	r.send(t, r.forged(9)) // the last one
	all := collect(t, r.d, func(e []Event) bool { return len(e) > 0 && e[len(e)-1].Side[0].Port == 9 })
	if n := traces(all); n != 1 {
		t.Errorf("%d traces of two packets, one of them while somebody looked on: %+v", n, all)
	}
}

// A flood from one endpoint spends its share; the budget of the CPU still has room for another's event,
// nothing is lost uncounted, and the next event says how many were kept back.
func TestAFloodIsAggregated(t *testing.T) {
	r := newRig(t)
	r.up(t)
	// Budgets are a CPU's; the thread is the test's own.
	var one unix.CPUSet
	one.Set(0)
	must(t, unix.SchedSetaffinity(0, &one))
	s := r.d.Settings()
	s.EventsPerSecond = 40
	must(t, r.d.Configure(s))
	const flood = 5000
	before := readCounters(t, r.d)
	opts := r.forged(1)
	for range flood {
		r.send(t, opts)
	}
	stat := func() EventStat {
		all, err := r.d.EventStats()
		must(t, err)
		return all[0]
	}
	got := stat()
	if got.Type != EventDrop || got.Sent+got.Suppressed+got.Lost != flood || got.Lost != 0 {
		t.Errorf("of %d drops %+v, expected that every one is accounted for", flood, got)
	}
	if got.Sent < 10 || got.Sent > flood/4 {
		t.Errorf("%d of %d were told with a share of 10 a second", got.Sent, flood)
	}
	key := Counter{Hook: FromPod, Direction: Egress, Reason: ReasonSourceAddress}
	if n := readCounters(t, r.d)[key] - before[key]; n != flood {
		t.Errorf("%d drops were counted, expected %d: counting never stops", n, flood)
	}
	// Another endpoint of the same CPU is heard.
	other := skbContext{Ifindex: uint32(r.unused), IngressIfindex: uint32(r.unused)}
	if _, _, _, err := runProgram(r.d.programs[FromPod], r.forged(77), other); err != nil {
		t.Fatal(err)
	}
	all := collect(t, r.d, func(e []Event) bool { return e[len(e)-1].Side[0].Port == 77 })
	var told, kept uint64
	for _, e := range all {
		told++
		kept += uint64(e.Suppressed)
	}
	if after := stat(); told != after.Sent || kept != after.Suppressed {
		t.Errorf("%d events say that %d were kept back; the programs count %+v", told, kept, after)
	}
	for i := 1; i < len(all); i++ {
		if all[i].CPU == all[i-1].CPU && all[i].Time < all[i-1].Time {
			t.Errorf("event %d is older than the one before it on its CPU", i)
		}
	}
}

func TestAFullRingLosesCounted(t *testing.T) {
	r := newRigWith(t, func(c *Config) {
		c.Sizes.Events = 4096
		c.Settings.EventsPerSecond = 1_000_000
	})
	r.up(t)
	const flood = 200
	for range flood {
		r.send(t, r.forged(1))
	}
	all, err := r.d.EventStats()
	must(t, err)
	if s := all[0]; s.Lost == 0 || s.Sent == 0 || s.Sent+s.Lost+s.Suppressed != flood {
		t.Errorf("of %d drops into a ring of 4 KiB: %+v", flood, s)
	}
	if n := len(collect(t, r.d, atLeast(int(all[0].Sent)))); n != int(all[0].Sent) {
		t.Errorf("read %d, expected the %d that found room", n, all[0].Sent)
	}
}

func TestEventsOutliveTheAgent(t *testing.T) {
	r := newRig(t)
	r.up(t)
	r.send(t, r.forged(1))
	cfg := testConfig(t)
	must(t, r.d.Close())
	r.d = openDatapath(t, cfg)
	r.send(t, r.forged(2))
	all := collect(t, r.d, atLeast(2))
	if all[0].Side[0].Port != 1 || all[1].Side[0].Port != 2 {
		t.Errorf("the next agent reads %+v, expected the event from before first", all)
	}
}

func TestNoEventsAtAll(t *testing.T) {
	r := newRig(t)
	r.up(t)
	s := r.d.Settings()
	s.EventsPerSecond = 0
	must(t, r.d.Configure(s))
	r.send(t, r.forged(1))
	all, err := r.d.EventStats()
	must(t, err)
	if all[0] != (EventStat{Type: EventDrop}) {
		t.Errorf("with events off: %+v", all[0])
	}
}

func TestParseEventRefuses(t *testing.T) {
	good := eventValue{Layout: eventLayout, Type: uint8(EventDrop), Family: 4}
	encode := func(v eventValue, more ...byte) []byte {
		b, err := binary.Append(nil, binary.LittleEndian, v)
		if err != nil {
			t.Fatal(err)
		}
		return append(b, more...)
	}
	if _, err := parseEvent(encode(good), 250); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*eventValue){
		"layout":    func(v *eventValue) { v.Layout++ },
		"no type":   func(v *eventValue) { v.Type = 0 },
		"type":      func(v *eventValue) { v.Type = eventMax },
		"family":    func(v *eventValue) { v.Family = 5 },
		"direction": func(v *eventValue) { v.Direction = 2 },
		"captured":  func(v *eventValue) { v.Captured = 3 },
	} {
		v := good
		change(&v)
		var bad *EventError
		if e, err := parseEvent(encode(v, 1, 2), 250); !errors.As(err, &bad) {
			t.Errorf("%s: parsed as %+v, %v", name, e, err)
		}
	}
	if _, err := parseEvent(encode(good)[:eventSize-1], 250); err == nil {
		t.Error("a record that is too short was parsed")
	}
}

func FuzzParseEvent(f *testing.F) {
	b, err := binary.Append(nil, binary.LittleEndian, eventValue{Layout: eventLayout, Type: uint8(EventClose), Family: 6, Captured: 4})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(b, 1, 2, 3, 4))
	f.Add(b[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEvent(b, 250)
		if err != nil {
			return
		}
		if len(e.Data) > len(b)-eventSize || e.Time < 0 {
			t.Errorf("%x: %d bytes of data, time %d", b, len(e.Data), e.Time)
		}
		// What shows an event must hold for any.
		if s := fmt.Sprint(e.Type, e.Hook, e.Direction, e.Reason, e.Reason.Text(), e.Side); s == "" {
			t.Error("nothing to show")
		}
	})
}
