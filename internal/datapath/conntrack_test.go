package datapath

import (
	"net/netip"
	"testing"
)

func TestHandshakePromotesAndLastACKDeletes(t *testing.T) {
	for _, family := range []struct{ name, a, b string }{
		{"IPv4", "192.168.1.10:40000", "10.0.0.1:80"},
		{"IPv4, the other order", "10.0.0.1:40000", "192.168.1.10:80"},
		{"IPv6", "[2001:db8::1]:40000", "[2001:db8:1::2]:80"},
		{"one address", "10.0.0.1:40000", "10.0.0.1:80"},
	} {
		t.Run(family.name, func(t *testing.T) {
			k := newTracker(t, testConfig(t))
			a, b := netip.MustParseAddrPort(family.a), netip.MustParseAddrPort(family.b)
			for i, step := range []struct {
				fromA       bool
				tcp         uint8
				hit         bool
				established bool
				entry       bool
			}{
				{true, tcpSYN, false, false, true},
				{false, tcpSYN | tcpACK, true, false, true},
				{true, tcpACK, true, true, true},
				{true, tcpACK | 8, true, true, true},
				{true, tcpFIN | tcpACK, true, true, true},
				{false, tcpACK, true, true, true},
				{false, tcpFIN | tcpACK, true, true, true},
				{true, tcpACK, true, true, false},
			} {
				s := segment{from: a, to: b, protocol: protocolTCP, tcp: step.tcp}
				if !step.fromA {
					s.from, s.to = b, a
				}
				v := k.run(s)
				if (v.Hit == 1) != step.hit || (v.Established == 1) != step.established || (v.Entry == 1) != step.entry || v.Failed != 0 {
					t.Fatalf("step %d: hit %d, established %d, entry %d, failed %d; expected %+v", i, v.Hit, v.Established, v.Entry, v.Failed, step)
				}
				if _, established, found := k.entry(a, b, protocolTCP); found != step.entry || found && established != step.established {
					t.Fatalf("step %d: in a table: %v, the established one: %v", i, found, established)
				}
			}
		})
	}
}
