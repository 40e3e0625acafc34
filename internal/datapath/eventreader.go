package datapath

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// The reader looks by itself this often; the programs wake it when the ring fills.
const (
	eventPoll  = 100 * time.Millisecond
	eventBatch = 512
)

// ReadEvents calls each with the events as they come, in the order of the ring, until ctx ends; bad is how
// many records among them were none that this version can read. What an earlier agent didn't read comes
// first. each keeps the slice for the call only.
func (d *Datapath) ReadEvents(ctx context.Context, each func(events []Event, bad int)) error {
	r, err := ringbuf.NewReader(d.maps[weftMapWeftEvents])
	if err != nil {
		return fmt.Errorf("read %s: %w", weftMapWeftEvents, err)
	}
	defer r.Close()
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer stop()
	var (
		record ringbuf.Record
		batch  = make([]Event, 0, eventBatch)
		bad    int
	)
	give := func() {
		if len(batch) > 0 || bad > 0 {
			each(batch, bad)
		}
		batch, bad = batch[:0], 0
	}
	for {
		r.SetDeadline(time.Now().Add(eventPoll))
		err := r.ReadInto(&record)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			give()
			continue
		case errors.Is(err, ringbuf.ErrClosed):
			give()
			return nil
		case err != nil:
			return fmt.Errorf("read %s: %w", weftMapWeftEvents, err)
		}
		if e, err := parseEvent(record.RawSample, d.hz); err != nil {
			bad++
		} else {
			batch = append(batch, e)
		}
		if len(batch) == eventBatch || record.Remaining == 0 {
			give()
		}
	}
}

// EventStat is what became of the events of one type.
type EventStat struct {
	Type EventType
	// Sent were given to the ring; Suppressed kept back, because a CPU's or an endpoint's budget was spent;
	// Lost found the ring full.
	Sent, Suppressed, Lost uint64
}

// budgetValue mirrors struct weft_event_budget, shareValue struct weft_event_share.
type (
	budgetValue struct {
		Tokens, Refilled, Since, Reserved uint32
		Sent, Suppressed, Lost            uint64
	}
	shareValue struct{ Tokens, Refilled uint32 }
)

// EventStats are sums over the CPUs since the maps were made.
func (d *Datapath) EventStats() ([]EventStat, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count CPUs: %w", err)
	}
	var out []EventStat
	for _, t := range EventTypes() {
		values := make([]budgetValue, cpus)
		if err := d.maps[weftMapWeftEventBudgets].Lookup(uint32(t), &values); err != nil {
			return nil, fmt.Errorf("read %s: %w", weftMapWeftEventBudgets, err)
		}
		s := EventStat{Type: t}
		for _, v := range values {
			s.Sent += v.Sent
			s.Suppressed += v.Suppressed
			s.Lost += v.Lost
		}
		out = append(out, s)
	}
	return out, nil
}
