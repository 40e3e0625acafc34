package datapath

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/flow"
	"github.com/weft-cni/weft/internal/inspect"
)

// Decoders of events and their budgets.

func decodeBudget(x decoding, kind uint32, cpus []budgetValue, fn func(key, value inspect.Fields) bool) bool {
	for cpu, v := range cpus {
		if v == (budgetValue{}) {
			continue
		}
		if !fn(inspect.Fields{{Name: "type", Value: EventType(kind).String()}, {Name: "cpu", Value: cpu}}, inspect.Fields{
			{Name: "tokens", Value: v.Tokens},
			{Name: "refilledSeconds", Value: max(0, x.since(v.Refilled))},
			{Name: "suppressedSince", Value: v.Since},
			{Name: "sent", Value: v.Sent},
			{Name: "suppressed", Value: v.Suppressed},
			{Name: "lost", Value: v.Lost},
		}) {
			return false
		}
	}
	return true
}

func decodeShare(x decoding, slot uint32, cpus []shareValue, fn func(key, value inspect.Fields) bool) bool {
	for cpu, v := range cpus {
		if v == (shareValue{}) {
			continue
		}
		if !fn(inspect.Fields{{Name: "slot", Value: slot}, {Name: "cpu", Value: cpu}}, inspect.Fields{
			{Name: "tokens", Value: v.Tokens},
			{Name: "refilledSeconds", Value: max(0, x.since(v.Refilled))},
		}) {
			return false
		}
	}
	return true
}

// eventRing is the ring of events: what its reader hasn't taken yet, in bytes and records.
type eventRing struct{}

// Bits of the header of a record in a ring.
const (
	ringBusy      = 1 << 31
	ringDiscarded = 1 << 30
	ringHeader    = 8
)

// ringPages is a ring mapped for reading. Taking nothing out of it, it disturbs no reader.
type ringPages struct {
	consumer, producer []byte
	size               uint64
}

func openRing(m *ebpf.Map) (ringPages, error) {
	page := os.Getpagesize()
	r := ringPages{size: uint64(m.MaxEntries())}
	var err error
	if r.consumer, err = unix.Mmap(m.FD(), 0, page, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return r, fmt.Errorf("map the ring: %w", err)
	}
	// The producer's page and the data, which the kernel maps twice so that no record is cut.
	if r.producer, err = unix.Mmap(m.FD(), int64(page), page+2*int(r.size), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		r.close()
		return r, fmt.Errorf("map the ring: %w", err)
	}
	return r, nil
}

func (r ringPages) close() {
	for _, b := range [][]byte{r.consumer, r.producer} {
		if b != nil {
			_ = unix.Munmap(b) // it is ours, whole
		}
	}
}

func position(page []byte) uint64 { return atomic.LoadUint64((*uint64)(unsafe.Pointer(&page[0]))) }

// waiting is what was written and not read yet.
func (r ringPages) waiting() (from, to uint64) { return position(r.consumer), position(r.producer) }

// records calls fn with what waits, until it returns false or a record isn't complete.
func (r ringPages) records(fn func([]byte) bool) {
	data := r.producer[os.Getpagesize():]
	from, to := r.waiting()
	for from < to {
		at := from & (r.size - 1)
		head := atomic.LoadUint32((*uint32)(unsafe.Pointer(&data[at])))
		length := uint64(head &^ (ringBusy | ringDiscarded))
		if head&ringBusy != 0 || at+ringHeader+length > uint64(len(data)) {
			return
		}
		if head&ringDiscarded == 0 {
			record := append([]byte(nil), data[at+ringHeader:at+ringHeader+length]...)
			// What the reader has taken meanwhile may be written over already.
			if position(r.consumer) <= from && !fn(record) {
				return
			}
		}
		from += (ringHeader + length + 7) &^ 7
	}
}

func (eventRing) each(d *Datapath, m *ebpf.Map, x decoding, fn func(key, value inspect.Fields) bool) error {
	r, err := openRing(m)
	if err != nil {
		return err
	}
	defer r.close()
	from, to := r.waiting()
	if !fn(inspect.Fields{{Name: "record", Value: "ring"}}, inspect.Fields{
		{Name: "waitingBytes", Value: to - from},
		{Name: "sizeBytes", Value: r.size},
		{Name: "writtenBytes", Value: to},
		{Name: "readBytes", Value: from},
	}) {
		return nil
	}
	n := 0
	r.records(func(b []byte) bool {
		n++
		key := inspect.Fields{{Name: "record", Value: fmt.Sprint(n)}}
		e, err := parseEvent(b, d.hz)
		if err != nil {
			return fn(key, inspect.Fields{{Name: "error", Value: err.Error()}})
		}
		return fn(key, x.event(e))
	})
	return nil
}

func (x decoding) event(e Event) inspect.Fields {
	out := inspect.Fields{
		{Name: "type", Value: e.Type.String()},
		{Name: "ageSeconds", Value: seconds(x.now - e.Time)},
	}
	if e.Hook != HookNone {
		out = append(out, inspect.Field{Name: "hook", Value: e.Hook.String()}, inspect.Field{Name: "direction", Value: e.Direction.String()},
			inspect.Field{Name: "reason", Value: e.Reason.String()})
	}
	if e.Family != 0 {
		out = append(out, inspect.Field{Name: "protocol", Value: flow.ProtocolName(e.Protocol)})
	} else if e.Ethertype != 0 {
		out = append(out, inspect.Field{Name: "ethertype", Value: fmt.Sprintf("0x%04x", e.Ethertype)})
	}
	for i, name := range []string{"from", "to"} {
		s := e.Side[i]
		if s.Addr.IsValid() {
			out = append(out, inspect.Field{Name: name, Value: s.Addr.String()}, inspect.Field{Name: name + "Port", Value: s.Port})
		}
		if s.Local {
			out = append(out, inspect.Field{Name: name + "Pod", Value: x.endpoint(s.Slot, s.Generation)})
		}
		out = append(out, inspect.Field{Name: name + "Packets", Value: s.Packets}, inspect.Field{Name: name + "Bytes", Value: s.Bytes}, inspect.Field{Name: name + "TCP", Value: flow.TCPFlags(s.TCP)})
	}
	if e.File != "" {
		out = append(out, inspect.Field{Name: "decidedAt", Value: fmt.Sprintf("%s:%d", e.File, e.Line)})
	}
	return append(out, inspect.Field{Name: "lengthBytes", Value: e.Length}, inspect.Field{Name: "suppressed", Value: e.Suppressed}, inspect.Field{Name: "cpu", Value: e.CPU})
}

func (eventRing) count(m *ebpf.Map) (uint64, bool, error) {
	r, err := openRing(m)
	if err != nil {
		return 0, false, err
	}
	defer r.close()
	from, to := r.waiting()
	return to - from, false, nil
}
