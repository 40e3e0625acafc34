package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/weft-cni/weft/internal/datapath"
)

// guard puts back, now and then, programs that something else detached: without them a pod speaks from any
// address and nothing from outside finds it.
func (a *agent) guard(ctx context.Context) error {
	var ran map[datapath.Attachment]string
	for {
		if pause(ctx, a.GuardEvery) != nil {
			return nil
		}
		found, err := a.running()
		if err != nil {
			a.Log.Warn("attached programs not listed", "err", err)
		}
		restored, err := a.programs.dp.KeepPins()
		if len(restored) > 0 {
			a.repairs.note(pinned(restored)...)
			a.Log.Warn("something else removed or hid pins of the datapath, they were put back", "pins", restored)
			a.Cluster.Warn("PinsRestored", restoredMessage(restored))
		}
		if err := errors.Join(err, a.programs.guard(), a.manager.Guard(ctx)); err != nil && ctx.Err() == nil {
			a.Log.Error("programs not put back", "err", err)
		}
		if found == nil {
			continue
		}
		if len(takenOff(ran, found, ran)) > 0 {
			if found = a.tellPutBack(ran, found); found == nil {
				continue
			}
		}
		ran = found
	}
}

// tellPutBack tells of programs that ran before, didn't when they were looked for, and do again. It returns those
// that run now.
func (a *agent) tellPutBack(before, found map[datapath.Attachment]string) map[datapath.Attachment]string {
	after, err := a.running()
	if err != nil {
		a.Log.Warn("attached programs not listed", "err", err)
		return nil
	}
	if back := takenOff(before, found, after); len(back) > 0 {
		a.repairs.note(back...)
		a.Log.Warn("something else took programs off devices, they were put back", "programs", back)
		a.Cluster.Warn("ProgramsRestored", restoredMessage(back))
	}
	return after
}

// guard sets every ENI again.
func (p *programs) guard() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, e := range p.enis {
		if err := p.dp.SetENI(e); err != nil {
			errs = append(errs, fmt.Errorf("datapath: %w", err))
		}
	}
	return errors.Join(errs...)
}
