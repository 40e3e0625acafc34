package agent

import (
	"context"
	"errors"
	"fmt"
)

// guard puts back, now and then, programs that something else detached: without them a pod speaks from any
// address and nothing from outside finds it.
func (a *agent) guard(ctx context.Context) error {
	for {
		if pause(ctx, a.GuardEvery) != nil {
			return nil
		}
		restored, err := a.programs.dp.KeepPins()
		if len(restored) > 0 {
			a.Log.Warn("something else removed or hid pins of the datapath, they were put back", "pins", restored)
			a.Cluster.Warn("PinsRestored", restoredMessage(restored))
		}
		if err := errors.Join(err, a.programs.guard(), a.manager.Guard(ctx)); err != nil && ctx.Err() == nil {
			a.Log.Error("programs not put back", "err", err)
		}
	}
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
