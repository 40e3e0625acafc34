package datapath

import (
	"net/netip"
	"testing"
	"time"
)

func (k *tracker) beginning() int {
	k.t.Helper()
	s, err := k.d.ConntrackStats()
	must(k.t, err)
	return s.Beginning
}

// A connection is entered once, where it stays, and counts as beginning until its handshake is over.
func TestConnectionsBeginWhereTheyStay(t *testing.T) {
	k := newTracker(t, testConfig(t))
	steps := []struct {
		s         segment
		beginning int
	}{
		{segment{from: connA, to: connB, tcp: tcpSYN}, 1},
		{segment{from: connA, to: connB, tcp: tcpSYN}, 1}, // once more
		{segment{from: connB, to: connA, tcp: tcpSYN | tcpACK}, 1},
		{segment{from: connA, to: connB, tcp: tcpACK}, 0},
		{segment{from: connB, to: connA, tcp: tcpACK}, 0},
	}
	for i, step := range steps {
		step.s.protocol = protocolTCP
		if v := k.run(step.s); v.Established != 1 || v.Failed != 0 {
			t.Fatalf("step %d: %+v", i, v)
		}
		if n := k.beginning(); n != step.beginning {
			t.Errorf("step %d: %d connections are beginning, expected %d", i, n, step.beginning)
		}
	}
	s, err := k.d.ConntrackStats()
	must(t, err)
	if s.Established != 1 || s.Promoted != 1 || s.Created != 1 {
		t.Errorf("%+v, expected one connection that was established once", s)
	}
	if n := countKeys(t, k.d.maps[mapConntrackAny]); n != 0 {
		t.Errorf("the other table has %d entries", n)
	}
}

// Whatever ends a connection that has only begun, its place is free again.
func TestPlacesOfTheBeginningComeBack(t *testing.T) {
	cfg := shortLived(testConfig(t))
	cfg.Sizes = Sizes{ConntrackTCP: 1024, ConntrackAny: 4096}
	k := newTracker(t, cfg)
	const most, more = 1024 / 8, 50
	syn := func(i int) trackValue {
		return k.run(segment{from: portOf(connA, i), to: connB, protocol: protocolTCP, tcp: tcpSYN})
	}
	full := func(when string) {
		t.Helper()
		in := 0
		for i := range most + more {
			v := syn(i)
			if v.Failed != 0 {
				t.Fatalf("%s: connection %d: no entry", when, i)
			}
			if _, established, _ := k.entry(portOf(connA, i), connB, protocolTCP); established {
				in++
			}
		}
		if n := k.beginning(); n != most || in != most {
			t.Fatalf("%s: %d are counted as beginning, %d are there, expected %d", when, n, in, most)
		}
	}
	full("at first")
	eventually(t, "those that nobody answered are gone", 30*time.Second, func() bool {
		return k.beginning() == 0 && countKeys(t, k.d.maps[mapConntrackTCP]) == 0
	})
	// They are none any more, whatever the LRU still has.
	full("after they expired")
	if _, err := k.d.deleteConnections(func(ctKey, ctEntry) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if n := k.beginning(); n != 0 {
		t.Fatalf("%d are beginning after they were deleted", n)
	}
	full("after they were deleted")
	for i := range most + more {
		k.run(segment{from: connB, to: portOf(connA, i), protocol: protocolTCP, tcp: tcpRST | tcpACK})
	}
	eventually(t, "those that were refused are gone", 30*time.Second, func() bool {
		return k.beginning() == 0 && countKeys(t, k.d.maps[mapConntrackTCP]) == 0
	})
	full("after they were refused")
}

// Who begins when there is no place begins in the LRU, and is moved when it is established.
func TestBeginningElsewhere(t *testing.T) {
	cfg := testConfig(t)
	cfg.Sizes = Sizes{ConntrackTCP: 1024, ConntrackAny: 4096}
	k := newTracker(t, cfg)
	for i := range 1024 / 8 {
		k.run(segment{from: netip.AddrPortFrom(netip.MustParseAddr("10.9.0.1"), uint16(1+i)), to: connB, protocol: protocolTCP, tcp: tcpSYN})
	}
	if v := k.run(segment{from: connA, to: connB, protocol: protocolTCP, tcp: tcpSYN}); v.Established != 0 || v.Failed != 0 {
		t.Fatalf("a connection too many: %+v", v)
	}
	k.run(segment{from: connB, to: connA, protocol: protocolTCP, tcp: tcpSYN | tcpACK})
	if v := k.run(segment{from: connA, to: connB, protocol: protocolTCP, tcp: tcpACK}); v.Established != 1 {
		t.Fatalf("it isn't moved: %+v", v)
	}
	if n := k.beginning(); n != 1024/8 {
		t.Errorf("%d are beginning, expected %d", n, 1024/8)
	}
}
