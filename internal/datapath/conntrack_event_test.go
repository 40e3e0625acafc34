package datapath

import (
	"fmt"
	"slices"
	"testing"
)

// A flow begins once and ends once, however it ends, and its end says what both sides have sent.
func TestConnectionsTellTheirBeginningAndEnd(t *testing.T) {
	const sa = tcpSYN | tcpACK
	whole := []ctStep{{from: 'a', tcp: tcpSYN}, {from: 'b', tcp: sa}, {from: 'a', tcp: tcpACK},
		{from: 'b', tcp: tcpFIN | tcpACK}, {from: 'a', tcp: tcpFIN | tcpACK}, {from: 'b', tcp: tcpACK}}
	k := newTracker(t, shortLived(testConfig(t)))
	var want []string
	for i, c := range []struct {
		name     string
		protocol uint8
		flags    uint16
		steps    []ctStep
		ends     []string // packets of both sides, for each end
	}{
		{"the last ACK", protocolTCP, 0, whole, []string{"3/3"}},
		{"the last ACK of a flow that lives on", protocolTCP, ctStack, whole, []string{"3/3"}},
		{"refused", protocolTCP, 0, []ctStep{{from: 'a', tcp: tcpSYN}, {from: 'b', tcp: tcpRST | tcpACK}, {from: 'b', tcp: tcpRST}}, []string{"1/1"}},
		{"expired", protocolUDP, 0, []ctStep{{from: 'a'}, {from: 'a'}, {from: 'b'}}, []string{"2/1"}},
		{"replaced", protocolTCP, 0, []ctStep{{from: 'a', tcp: tcpSYN}, {from: 'b', tcp: tcpRST | tcpACK}, {from: 'b', tcp: tcpSYN}, {from: 'a', tcp: tcpRST | tcpACK}}, []string{"1/1", "1/1"}},
	} {
		a := portOf(connA, i)
		for _, step := range c.steps {
			s := segment{from: a, to: connB, protocol: c.protocol, tcp: step.tcp, new: ctNewValue{Flags: c.flags, FromSlot: ctNoSlot, ToSlot: ctNoSlot}}
			if step.from == 'b' {
				s.from, s.to = s.to, s.from
			}
			k.run(s)
		}
		for _, end := range c.ends {
			want = append(want, fmt.Sprintf("%d begins", a.Port()), fmt.Sprintf("%d ends %s", a.Port(), end))
		}
	}
	seen := collect(t, k.d, atLeast(len(want)))
	var got []string
	for _, e := range seen {
		port := e.Side[0].Port
		if port == connB.Port() {
			port = e.Side[1].Port
		}
		switch e.Type {
		case EventNew:
			got = append(got, fmt.Sprintf("%d begins", port))
		case EventClose:
			got = append(got, fmt.Sprintf("%d ends %d/%d", port, e.Side[0].Packets, e.Side[1].Packets))
		default:
			t.Errorf("an event of type %v", e.Type)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("told:\n%q\nexpected:\n%q", got, want)
	}
}
