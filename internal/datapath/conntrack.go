package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
)

// ConnState is what is known of a connection.
type ConnState string

// A flow of a protocol without states is ConnDatagram for as long as its entry lives.
const (
	ConnOpening     ConnState = "opening"
	ConnEstablished ConnState = "established"
	ConnHalfClosed  ConnState = "half-closed"
	ConnClosed      ConnState = "closed"
	ConnReset       ConnState = "reset"
	ConnDatagram    ConnState = "datagram"
	ConnExpired     ConnState = "expired"
)

// Traffic is what one side of a connection has sent.
type Traffic struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	// TCP is every flag that the side has sent.
	TCP uint8 `json:"tcp,omitempty"`
	// Slot and Generation name the side's endpoint, if it is one of this node.
	Slot       int    `json:"slot"` // -1: none
	Generation uint32 `json:"generation,omitempty"`
}

// A Connection is an entry of the connection tables. From is the side that began it.
type Connection struct {
	Protocol    uint8          `json:"protocol"`
	From        netip.AddrPort `json:"from"`
	To          netip.AddrPort `json:"to"`
	State       ConnState      `json:"state"`
	Sent        Traffic        `json:"sent"`                // by From
	Received    Traffic        `json:"received"`            // by From
	Established bool           `json:"established"`         // in the table of established connections
	Stack       bool           `json:"stack,omitempty"`     // both directions go by the kernel's stack
	AtNetdev    bool           `json:"atNetdev,omitempty"`  // translated by the stack, tracked behind it
	Midstream   bool           `json:"midstream,omitempty"` // not seen to begin
	Refused     bool           `json:"refused,omitempty"`   // the table of established connections was full
	// Translated is From as the world sees it.
	Translated netip.AddrPort `json:"translated,omitzero"`
	// Service is what From sends to instead of To.
	Service netip.AddrPort `json:"service,omitzero"`
	ENI     uint32         `json:"eni,omitempty"` // handle of the ENI that a translated one leaves by
	Class   uint32         `json:"class,omitempty"`
	Age     time.Duration  `json:"age"`
	Expires time.Duration  `json:"expires"` // from now, if nothing more comes; not positive: it counts as none

	generation uint32
}

const connectionBatch = 4096

// Connections calls fn for each connection until it returns false. Entries that come or go meanwhile may
// be missed.
func (d *Datapath) Connections(fn func(Connection) bool) error {
	now, err := d.jiffies()
	if err != nil {
		return err
	}
	_, err = d.eachEntry(func(table string, key ctKey, e ctEntry) bool {
		if e.Flags&ctAlias != 0 {
			return true
		}
		return fn(connection(key, e, table == mapConntrackTCP, now, d.hz))
	})
	return err
}

// eachEntry reads both tables in batches, and says whether it came to the end.
func (d *Datapath) eachEntry(fn func(table string, key ctKey, e ctEntry) bool) (bool, error) {
	keys, entries := make([]ctKey, connectionBatch), make([]ctEntry, connectionBatch)
	for _, table := range []string{mapConntrackTCP, mapConntrackAny} {
		var cursor ebpf.MapBatchCursor
		for {
			n, err := d.maps[table].BatchLookup(&cursor, keys, entries, nil)
			end := errors.Is(err, ebpf.ErrKeyNotExist)
			if err != nil && !end {
				return false, fmt.Errorf("read %s: %w", table, err)
			}
			for i := range n {
				if !fn(table, keys[i], entries[i]) {
					return false, nil
				}
			}
			if end {
				break
			}
		}
	}
	return true, nil
}

// jiffies is the kernel's clock as the timer has last seen it.
func (d *Datapath) jiffies() (uint32, error) {
	var t ctTimer
	if err := d.maps[weftMapWeftCtTimers].Lookup(uint32(0), &t); err != nil {
		return 0, fmt.Errorf("read %s: %w", weftMapWeftCtTimers, err)
	}
	return t.Last, nil
}

func connection(key ctKey, e ctEntry, established bool, now, hz uint32) Connection {
	from := int(e.Origin & 1)
	to := 1 - from
	since := func(then uint32) time.Duration {
		return time.Duration(int32(now-then)) * time.Second / time.Duration(max(hz, 1))
	}
	c := Connection{
		Protocol:    key.Protocol,
		From:        key.end(from),
		To:          key.end(to),
		Sent:        e.Side[from].traffic(),
		Received:    e.Side[to].traffic(),
		Established: established,
		Stack:       e.Flags&ctStack != 0,
		AtNetdev:    e.Flags&ctAtNetdev != 0,
		Midstream:   e.Flags&ctMidstream != 0,
		Refused:     e.Flags&ctNoPromotion != 0,
		Class:       e.Class,
		Age:         max(0, since(e.Created)),
		Expires:     -since(e.Expires),
		generation:  e.Generation,
	}
	nat := netip.AddrPortFrom(fromWire(e.NATAddr), binary.BigEndian.Uint16(e.NATPort[:]))
	switch {
	case e.Flags&ctService != 0:
		c.Service = nat
	case e.Flags&ctMiddle != 0:
		c.Service, c.To = c.To, nat
	case e.Flags&ctNAT != 0:
		c.Translated = nat
		c.ENI = uint32(e.NATENI)
	}
	c.State = connState(key.Protocol, e)
	if c.Expires <= 0 {
		c.State = ConnExpired
	}
	return c
}

func (s ctSide) traffic() Traffic {
	t := Traffic{Packets: s.Packets, Bytes: s.Bytes, TCP: s.TCP, Slot: -1}
	if s.Slot != ctNoSlot {
		t.Slot, t.Generation = int(s.Slot), s.Generation
	}
	return t
}

// connState is bpf/include/tcp_state.h in more words.
func connState(protocol uint8, e ctEntry) ConnState {
	if protocol != protocolTCP && protocol != protocolSCTP {
		return ConnDatagram
	}
	a, b := e.Side[0].TCP, e.Side[1].TCP
	handshake := uint8(tcpSYN | tcpACK)
	if e.Flags&ctMidstream != 0 || protocol == protocolSCTP {
		handshake = tcpACK
	}
	switch {
	case (a|b)&tcpRST != 0:
		return ConnReset
	case a&b&tcpFIN != 0:
		return ConnClosed
	case a&b&handshake != handshake:
		return ConnOpening
	case (a|b)&tcpFIN != 0:
		return ConnHalfClosed
	}
	return ConnEstablished
}
