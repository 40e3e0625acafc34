package agent

import (
	"context"
	"sync"
	"time"

	"github.com/weft-cni/weft/internal/datapath"
)

// Bounds of counting what nobody counts as it comes and goes: at most once in fillEvery, and at most this part of
// a CPU.
const (
	fillEvery = time.Minute
	fillPart  = 200
)

// fills is how full maps are that have to be walked for it. Who asks gets the last count, and causes the next.
type fills struct {
	mu    sync.Mutex
	last  []datapath.Fill
	asked chan struct{}
}

func newFills() *fills { return &fills{asked: make(chan struct{}, 1)} }

func (f *fills) get() []datapath.Fill {
	select {
	case f.asked <- struct{}{}:
	default:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func (f *fills) put(list []datapath.Fill) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = list
}

// fillPause is how long to wait after a count that took so long.
func fillPause(took time.Duration) time.Duration { return max(fillEvery, fillPart*took) }

// countFills counts once at first, and then when somebody has asked, but not too often.
func (a *agent) countFills(ctx context.Context) error {
	for {
		began := time.Now()
		list, err := a.programs.dp.WalkFills(ctx.Err)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			a.Log.Warn("entries of maps not counted", "err", err)
		default:
			a.fills.put(list)
		}
		if pause(ctx, fillPause(time.Since(began))) != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.fills.asked:
		}
	}
}

// measureAlways has the kernel measure programs for as long as the agent lives, if the configuration says so.
func (a *agent) measureAlways(ctx context.Context) error {
	if !a.Config.BPF.ProgramStatistics {
		return nil
	}
	stop, err := a.programs.dp.MeasurePrograms()
	if err != nil {
		// Numbers are missing, pods aren't.
		a.Log.Error("programs are not measured", "err", err)
		return nil
	}
	<-ctx.Done()
	return stop.Close()
}
