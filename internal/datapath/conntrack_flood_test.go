package datapath

import (
	"net/netip"
	"testing"
)

// A flood of ten times the tables' size takes nothing from who is established.
func TestEstablishedConnectionsSurviveAFlood(t *testing.T) {
	const flows = 1000
	cfg := testConfig(t)
	cfg.Sizes = Sizes{ConntrackTCP: 2048, ConntrackAny: 2048}
	k := newTracker(t, cfg)
	k.establish(connA, connB, flows)
	for i := range 10 * (cfg.Sizes.ConntrackTCP + cfg.Sizes.ConntrackAny) {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 1000)
		s := segment{from: from, to: connB, protocol: protocolTCP, tcp: tcpSYN}
		if i%2 == 1 {
			s.protocol, s.tcp = protocolUDP, 0
		}
		// Each comes twice, as from a sender that tries again: an LRU takes that for use.
		for range 2 {
			if v := k.run(s); v.Failed != 0 {
				t.Fatalf("packet %d: no entry was made", i)
			}
		}
	}
	for i := range flows {
		if v := k.run(segment{from: connB, to: portOf(connA, i), protocol: protocolTCP, tcp: tcpACK, noCreate: true}); v.Hit != 1 || v.Established != 1 {
			t.Errorf("connection %d: hit %d, established %d", i, v.Hit, v.Established)
		}
	}
	s, err := k.d.ConntrackStats()
	must(t, err)
	if s.Established != flows {
		t.Errorf("%d connections are established, expected %d", s.Established, flows)
	}
	if n := countKeys(t, k.d.maps[mapConntrackAny]); n > cfg.Sizes.ConntrackAny {
		t.Errorf("the other table has %d entries, expected at most %d", n, cfg.Sizes.ConntrackAny)
	}
	if s.Unwatched == 0 {
		t.Error("the ring of new flows was never full, so the flood was none")
	}
}

// With the table of established connections full, connections go on among the others, and it is counted.
// When there is room again they are promoted.
func TestFullTable(t *testing.T) {
	cfg := testConfig(t)
	cfg.Sizes = Sizes{ConntrackTCP: 1024, ConntrackAny: 4096}
	k := newTracker(t, cfg)
	k.establish(connA, connB, 1024)
	from := portOf(connA, 5000)
	run := func(s segment) trackValue {
		s.protocol = protocolTCP
		return k.run(s)
	}
	run(segment{from: from, to: connB, tcp: tcpSYN})
	run(segment{from: connB, to: from, tcp: tcpSYN | tcpACK})
	if v := run(segment{from: from, to: connB, tcp: tcpACK}); v.Established != 0 || v.Entry != 1 || v.Hit != 1 {
		t.Fatalf("promoted into a full table: %+v", v)
	}
	for range 100 {
		if v := run(segment{from: connB, to: from, tcp: tcpACK}); v.Hit != 1 || v.Entry != 1 {
			t.Fatal("the connection was lost")
		}
	}
	s, err := k.d.ConntrackStats()
	must(t, err)
	if s.Refused < 1 || s.Refused > 50 || s.Established != 1024 || s.Pressure() != 1 {
		t.Errorf("%d refused, %d established, pressure %v; expected few, 1024 and 1", s.Refused, s.Established, s.Pressure())
	}
	var refused []Connection
	must(t, k.d.Connections(func(c Connection) bool {
		if c.Refused {
			refused = append(refused, c)
		}
		return true
	}))
	if len(refused) != 1 || refused[0].From != from || refused[0].State != ConnEstablished {
		t.Errorf("refused are %+v, expected the connection from %s", refused, from)
	}
	for _, tcp := range []uint8{tcpFIN | tcpACK} {
		run(segment{from: connA, to: connB, tcp: tcp})
		run(segment{from: connB, to: connA, tcp: tcp})
	}
	if v := run(segment{from: connA, to: connB, tcp: tcpACK}); v.Entry != 0 {
		t.Fatal("a connection doesn't end")
	}
	eventually(t, "the connection is promoted", 10e9, func() bool {
		v := run(segment{from: from, to: connB, tcp: tcpACK})
		return v.Established == 1
	})
}
