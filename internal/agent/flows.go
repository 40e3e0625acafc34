package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/flow"
)

// Limits of those who look on.
const (
	maxWatchers  = 32
	streamChunk  = 256
	saidEvery    = time.Minute // lost and unreadable records, in the log
	restEvery    = time.Second // before a reader that failed is started again
	forgottenEnd = 8192        // endpoints that have left and are still named
)

// flows keeps the last of what the datapath tells, in people's terms.
type flows struct {
	node string
	log  *slog.Logger
	dp   Datapath
	ring *flow.Ring
	join *joiner

	mu         sync.Mutex
	watchers   map[int]datapath.Watch
	nextID     int
	unreadable uint64
	lost       uint64 // as last said
	said       time.Time
}

func newFlows(node string, keep int, dp Datapath, j *joiner, log *slog.Logger) *flows {
	return &flows{node: node, log: log, dp: dp, ring: flow.NewRing(keep), join: j, watchers: map[int]datapath.Watch{}}
}

// run reads events until ctx ends. A reader that fails is started again: what pods do doesn't end the agent.
func (f *flows) run(ctx context.Context) error {
	for {
		err := f.dp.ReadEvents(ctx, f.take)
		if ctx.Err() != nil {
			return nil
		}
		f.log.Warn("events not read", "err", err)
		if pause(ctx, restEvery) != nil {
			return nil
		}
	}
}

// take turns a batch into records. How much it gets is bounded by the programs' budgets.
func (f *flows) take(events []datapath.Event, bad int) {
	now := time.Now()
	clock, err := datapath.NewClock()
	if err != nil {
		f.log.Warn("events without a clock", "err", err)
		return
	}
	f.join.refresh(now)
	records := make([]flow.Record, 0, len(events)+1)
	for _, e := range events {
		r := f.join.record(e)
		r.Node, r.Time = f.node, clock.Time(e)
		records = append(records, r)
	}
	if n := f.newlyLost(now, bad); n > 0 {
		records = append(records, flow.Record{Time: now, Node: f.node, Type: flow.Lost, Count: n, Text: "the ring of events was full, or they were not understood"})
	}
	f.ring.Add(records...)
}

// newlyLost is how many events were lost since it was last asked, looked up now and then only.
func (f *flows) newlyLost(now time.Time, bad int) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unreadable += uint64(bad)
	if bad == 0 && now.Sub(f.said) < saidEvery {
		return 0
	}
	f.said = now
	total := f.unreadable
	stats, err := f.dp.EventStats()
	if err != nil {
		f.log.Warn("statistics of events not read", "err", err)
		return 0
	}
	for _, s := range stats {
		total += s.Lost
	}
	n := total - min(f.lost, total)
	f.lost = total
	return n
}

// watch has the programs tell more until release is called.
func (f *flows) watch(w datapath.Watch) (release func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.watchers) >= maxWatchers {
		return nil, agentapi.Unavailable("%d people look on already, at most %d may", len(f.watchers), maxWatchers)
	}
	id := f.nextID
	f.nextID++
	f.watchers[id] = w
	if err := f.apply(); err != nil {
		delete(f.watchers, id)
		return nil, err
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, id)
		if err := f.apply(); err != nil && !errors.Is(err, context.Canceled) {
			f.log.Warn("the programs go on telling what nobody asks for", "err", err)
		}
	}, nil
}

// apply gives the programs the sum of what is asked for. f.mu is held.
func (f *flows) apply() error {
	var sum datapath.Watch
	for _, w := range f.watchers {
		sum.Trace = sum.Trace || w.Trace
		sum.Capture = max(sum.Capture, w.Capture)
	}
	if f.dp.Watch() == sum {
		return nil
	}
	return f.dp.SetWatch(sum)
}
