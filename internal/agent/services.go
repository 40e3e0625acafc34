package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/service"
)

// services are the addresses and ranges of services. Until the API server has told all of them, those that
// an earlier agent left in the datapath stand.
type services struct {
	table *service.Table

	mu     sync.Mutex
	synced bool
	before []netip.Prefix
}

func newServices() *services { return &services{table: service.NewTable()} }

// remember takes what an earlier agent left.
func (s *services) remember(prefixes map[netip.Prefix]datapath.PrefixInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, info := range prefixes {
		if info.Stack {
			s.before = append(s.before, p)
		}
	}
}

// complete says that the table has every service.
func (s *services) complete() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced, s.before = true, nil
}

func (s *services) all() []netip.Prefix {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.synced {
		return s.table.All()
	}
	return slices.Concat(s.before, s.table.All())
}

// rememberServices reads what an earlier agent knew.
func (a *agent) rememberServices() error {
	state, err := a.programs.dp.Dump()
	if err != nil {
		return fmt.Errorf("datapath: %w", err)
	}
	a.services.remember(state.Prefixes)
	return nil
}

// watchServices goes on when the watch ends: pods don't depend on it, services that it hasn't told of go by
// the stack too, as long as they aren't inside of what is native.
func (a *agent) watchServices(ctx context.Context, synced func()) error {
	for {
		err := a.Cluster.WatchServices(ctx, a.services.table, a.balance.table, synced)
		if ctx.Err() != nil {
			return nil
		}
		a.Log.Error("services are not watched", "err", err)
		if pause(ctx, 10*time.Second) != nil {
			return nil
		}
	}
}

// servicesEvery bounds how often a change of services is followed: a cluster may make thousands at once.
const servicesEvery = 200 * time.Millisecond

// followServices hands every change of services to the datapath.
func (a *agent) followServices(ctx context.Context, synced <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-synced:
			a.services.complete()
			synced = nil
		case <-a.services.table.Changed():
		}
		a.settle()
		if pause(ctx, servicesEvery) != nil {
			return nil
		}
	}
}

// runWatch runs c until ctx ends and calls synced once every handler has been told of what there is.
func runWatch(ctx context.Context, c cache.Cache, handlers []toolscache.InformerSynced, synced func()) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.Start(ctx) })
	g.Go(func() error {
		if toolscache.WaitForCacheSync(ctx.Done(), handlers...) {
			synced()
		}
		return nil
	})
	return g.Wait()
}
