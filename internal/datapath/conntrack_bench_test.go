package datapath

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// What a new endpoint waits for: both tables are read once.
func BenchmarkForgetOthers(b *testing.B) {
	for _, c := range []struct {
		name string
		used int
	}{{"empty", 0}, {"50000 connections", 50000}} {
		b.Run(c.name, func(b *testing.B) {
			cfg := testConfig(b)
			cfg.Sizes = Sizes{} // a node's
			k := newTracker(b, cfg)
			k.establish(netip.MustParseAddrPort("192.168.1.10:1024"), connB, c.used)
			e := endpointFor(3, otherAddr, 1)
			for b.Loop() {
				if n, err := k.d.ForgetOthers(e); err != nil || n != 0 {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// What connection tracking takes of a packet, with the copying of the test that goes around it.
func BenchmarkConnections(b *testing.B) {
	for _, c := range []struct {
		name     string
		protocol uint8
		tcp      uint8
		create   uint8
	}{
		{"established", protocolTCP, tcpACK, 0},
		{"datagram", protocolUDP, 0, 1},
		{"miss", protocolTCP, tcpRST, 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			k := newTracker(b, testConfig(b))
			k.establish(connA, connB, 1)
			v := trackValue{Flow: flowValue{
				Src: toWire(connA.Addr()), Dst: toWire(connB.Addr()), Sport: toPort(connA.Port()), Dport: toPort(connB.Port()),
				Protocol: c.protocol, Family: 4, TCP: c.tcp, Length: 100,
			}, New: ctNewValue{FromSlot: ctNoSlot, ToSlot: ctNoSlot}, Create: c.create}
			if c.name == "miss" {
				v.Flow.Sport = toPort(1)
			}
			frame, err := binary.Append(nil, binary.NativeEndian, v)
			must(b, err)
			_, took, err := k.prog.Benchmark(frame, max(b.N, 1000), b.ResetTimer)
			must(b, err)
			b.ReportMetric(float64(took.Nanoseconds()), "ns/packet")
		})
	}
}
