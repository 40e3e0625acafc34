package dptest

import (
	"context"
	"fmt"

	"github.com/weft-cni/weft/internal/datapath"
)

// ring keeps events until an agent reads them.
type ring struct {
	events []datapath.Event
	bad    int
	stats  map[datapath.EventType]datapath.EventStat
	more   chan struct{}
}

// Emit does what a program does when something is worth telling; bad records are none that can be read.
func (k *Kernel) Emit(bad int, events ...datapath.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ring.events = append(k.ring.events, events...)
	k.ring.bad += bad
	for _, e := range events {
		s := k.ring.stats[e.Type]
		s.Type, s.Sent, s.Suppressed = e.Type, s.Sent+1, s.Suppressed+uint64(e.Suppressed)
		k.ring.stats[e.Type] = s
	}
	select {
	case k.ring.more <- struct{}{}:
	default:
	}
}

// ReadEvents is datapath.Datapath.ReadEvents.
func (d *Datapath) ReadEvents(ctx context.Context, each func(events []datapath.Event, bad int)) error {
	for {
		done, err := d.begin("ReadEvents")
		if err != nil {
			return err
		}
		events, bad := d.kernel.ring.events, d.kernel.ring.bad
		d.kernel.ring.events, d.kernel.ring.bad = nil, 0
		done()
		if len(events) > 0 || bad > 0 {
			each(events, bad)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.kernel.ring.more:
		}
	}
}

// EventStats is datapath.Datapath.EventStats.
func (d *Datapath) EventStats() ([]datapath.EventStat, error) {
	done, err := d.begin("EventStats")
	if err != nil {
		return nil, err
	}
	defer done()
	var out []datapath.EventStat
	for _, t := range datapath.EventTypes() {
		s := d.kernel.ring.stats[t]
		s.Type = t
		out = append(out, s)
	}
	return out, nil
}

// SetWatch is datapath.Datapath.SetWatch.
func (d *Datapath) SetWatch(w datapath.Watch) error {
	done, err := d.begin("SetWatch")
	if err != nil {
		return err
	}
	defer done()
	if w.Capture < 0 || w.Capture > datapath.MaxCapture {
		return fmt.Errorf("captured bytes are %d, expected 0 to %d", w.Capture, datapath.MaxCapture)
	}
	d.watch = w
	return nil
}

// Watch is datapath.Datapath.Watch.
func (d *Datapath) Watch() datapath.Watch {
	d.kernel.mu.Lock()
	defer d.kernel.mu.Unlock()
	return d.watch
}
