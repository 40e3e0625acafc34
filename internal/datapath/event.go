package datapath

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// EventType says what an event tells of.
type EventType uint8

// The numbers are those of enum weft_event_type.
const (
	EventDrop    EventType = 1 // a packet that went no further
	EventTrace   EventType = 2 // a packet that passed
	EventVerdict EventType = 3 // what policy said
	EventNew     EventType = 4 // the first packet of a flow
	EventClose   EventType = 5 // the end of a flow
)

// EventTypes lists those that this version knows.
func EventTypes() []EventType {
	return []EventType{EventDrop, EventTrace, EventVerdict, EventNew, EventClose}
}

// String is the type's name in records and metrics.
func (t EventType) String() string {
	switch t {
	case EventDrop:
		return "drop"
	case EventTrace:
		return "trace"
	case EventVerdict:
		return "verdict"
	case EventNew:
		return "new"
	case EventClose:
		return "close"
	}
	return fmt.Sprintf("event-%d", uint8(t))
}

// Sizes of what stands in the ring.
const (
	eventMax    = 8 // EVENT_MAX
	eventLayout = 1
	eventNoHook = 0xff
)

// MaxCapture is how many bytes of a packet an event can bring along.
const MaxCapture = 128

// eventValue mirrors struct weft_event.
type eventValue struct {
	Time       uint64
	Layout     uint8
	Type       uint8
	Hook       uint8
	Direction  uint8
	Reason     uint8
	File       uint8
	Line       uint16
	Addr       [2]wireAddr
	Port       [2][2]byte
	Protocol   uint8
	Family     uint8
	TCP        uint8
	TCPReply   uint8
	Ethertype  [2]byte
	Flags      uint16
	Ifindex    uint32
	Length     uint32
	Slot       [2]uint16
	Generation [2]uint32
	Rule       uint32
	Reserved   uint32
	Packets    [2]uint64
	Bytes      [2]uint64
	NATAddr    wireAddr
	NATPort    [2]byte
	NATENI     uint16
	Age        uint32
	Suppressed uint32
	Captured   uint16
	CPU        uint16
}

const eventSize = 152

// An EventSide is one end of what an event tells of: the first is who sent the packet, or began the flow.
type EventSide struct {
	Addr netip.Addr
	Port uint16
	// Slot and Generation name the endpoint of this node, if Local.
	Local      bool
	Slot       uint32
	Generation uint32
	// Packets, Bytes and TCP are what it has sent: of a flow, but for TCP of a packet.
	Packets, Bytes uint64
	TCP            uint8
}

// An Event is one record of the ring.
type Event struct {
	Type      EventType
	Time      time.Duration // CLOCK_MONOTONIC
	Hook      Hook          // HookNone: a flow's
	Direction Direction
	Reason    Reason
	File      string // and line, of a drop: where it was decided
	Line      int
	Side      [2]EventSide
	Family    int // 4, 6; 0: neither IPv4 nor IPv6
	Protocol  uint8
	Ethertype uint16
	Flags     uint16 // of the connection
	Ifindex   int
	Length    int
	Rule      uint32
	NAT       netip.AddrPort // what the first side is translated to; invalid: nothing
	NATENI    uint16
	Age       time.Duration // of the flow
	// Suppressed events of this type were kept back on this CPU before this one.
	Suppressed uint32
	CPU        int
	Data       []byte // the packet's first bytes, if they were asked for
}

// HookNone is the hook of what no hook saw.
const HookNone Hook = eventNoHook

// An EventError says that a record is none that this version can read.
type EventError struct{ Reason string }

func (e *EventError) Error() string { return "event not understood: " + e.Reason }

// parseEvent reads a record of a kernel with hz jiffies a second. Whatever wrote it, it is read within its
// bounds; Data is a copy.
func parseEvent(b []byte, hz uint32) (Event, error) {
	if len(b) < eventSize {
		return Event{}, &EventError{fmt.Sprintf("it has %d bytes, expected %d", len(b), eventSize)}
	}
	var v eventValue
	if _, err := binary.Decode(b[:eventSize], binary.LittleEndian, &v); err != nil {
		return Event{}, &EventError{err.Error()}
	}
	if v.Layout != eventLayout {
		return Event{}, &EventError{fmt.Sprintf("its layout is %d, expected %d", v.Layout, eventLayout)}
	}
	if v.Type == 0 || v.Type >= eventMax {
		return Event{}, &EventError{fmt.Sprintf("its type is %d", v.Type)}
	}
	if v.Family != 0 && v.Family != 4 && v.Family != 6 {
		return Event{}, &EventError{fmt.Sprintf("its family is %d", v.Family)}
	}
	if v.Direction > uint8(Egress) {
		return Event{}, &EventError{fmt.Sprintf("its direction is %d", v.Direction)}
	}
	e := Event{
		Type: EventType(v.Type), Time: time.Duration(v.Time &^ (1 << 63)), Hook: Hook(v.Hook), Direction: Direction(v.Direction),
		Reason: Reason(v.Reason), File: fileName(v.File), Line: int(v.Line), Family: int(v.Family), Protocol: v.Protocol,
		Ethertype: binary.BigEndian.Uint16(v.Ethertype[:]), Flags: v.Flags, Ifindex: int(v.Ifindex), Length: int(v.Length),
		Rule: v.Rule, NATENI: v.NATENI, Age: time.Duration(v.Age) * time.Second / time.Duration(max(hz, 1)), Suppressed: v.Suppressed, CPU: int(v.CPU),
	}
	tcp := [2]uint8{v.TCP, v.TCPReply}
	for i := range e.Side {
		s := &e.Side[i]
		if v.Addr[i] != (wireAddr{}) || v.Family == 6 {
			s.Addr = fromWire(v.Addr[i])
		}
		s.Port = binary.BigEndian.Uint16(v.Port[i][:])
		s.Packets, s.Bytes, s.TCP = v.Packets[i], v.Bytes[i], tcp[i]
		if v.Slot[i] != ctNoSlot {
			s.Local, s.Slot, s.Generation = true, uint32(v.Slot[i]), v.Generation[i]
		}
	}
	if v.NATAddr != (wireAddr{}) {
		e.NAT = netip.AddrPortFrom(fromWire(v.NATAddr), binary.BigEndian.Uint16(v.NATPort[:]))
	}
	if n := int(v.Captured); n > 0 {
		if n > len(b)-eventSize {
			return Event{}, &EventError{fmt.Sprintf("it says %d captured bytes, it has %d", n, len(b)-eventSize)}
		}
		e.Data = append([]byte(nil), b[eventSize:eventSize+n]...)
	}
	return e, nil
}

// A Clock turns the kernel's monotonic times into people's.
type Clock struct{ zero time.Time }

// NewClock reads both clocks now; one that is set later wants a new Clock.
func NewClock() (Clock, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return Clock{}, fmt.Errorf("read the clock: %w", err)
	}
	return Clock{zero: time.Now().Round(0).Add(-time.Duration(ts.Nano()))}, nil
}

// Time is when an event was.
func (c Clock) Time(e Event) time.Time { return c.zero.Add(e.Time) }

// Connection says in words how the connection is treated that the event is about.
func (e Event) Connection() []string {
	var out []string
	for _, f := range []struct {
		bit  uint16
		name string
	}{
		{ctStack, "stack"}, {ctNAT, "translated"}, {ctAtNetdev, "at the interface"}, {ctMidstream, "midstream"},
		{ctNoPromotion, "table full"}, {ctService, "service"}, {ctMiddle, "service, by the node's address"},
	} {
		if e.Flags&f.bit != 0 {
			out = append(out, f.name)
		}
	}
	return out
}
