package datapath

import (
	"testing"
	"time"
)

// An agent with other lifetimes forgets nothing: a flow has the time that its last packet gave it, and gets
// the new one with its next.
func TestLifetimesOfTheNextAgent(t *testing.T) {
	newSpace(t).enter(t)
	cfg := testConfig(t)
	cfg.Settings = DefaultSettings()
	cfg.Settings.Lifetimes.TCP = time.Hour
	k := trackerOf(t, openDatapath(t, cfg), loadTrack)
	k.establish(connA, connB, 2)
	must(t, k.d.Close())

	cfg.Settings.Lifetimes.TCP = time.Second
	k = trackerOf(t, openDatapath(t, cfg), loadTrack)
	left := func(i int) time.Duration {
		var out time.Duration
		must(t, k.d.Connections(func(c Connection) bool {
			if c.From == portOf(connA, i) && c.State == ConnEstablished {
				out = c.Expires
			}
			return true
		}))
		return out
	}
	for i := range 2 {
		if rest := left(i); rest < 30*time.Minute || rest > time.Hour {
			t.Fatalf("connection %d has %s left after the restart, expected nearly an hour", i, rest)
		}
	}
	used := segment{from: connA, to: connB, protocol: protocolTCP, tcp: tcpACK, noCreate: true}
	if v := k.run(used); v.Hit != 1 {
		t.Fatal("an established connection is unknown after the restart")
	}
	if rest := left(0); rest > 2*time.Second {
		t.Fatalf("after a packet the connection has %s left, expected a second", rest)
	}
	eventually(t, "the connection that was used is forgotten", 20*time.Second, func() bool { return left(0) == 0 })
	if v := k.run(used); v.Hit != 0 {
		t.Error("the programs know a connection whose time is over")
	}
	if rest := left(1); rest < 30*time.Minute {
		t.Errorf("the connection that wasn't used has %s left, expected nearly an hour", rest)
	}
}
