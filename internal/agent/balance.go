package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/loadbalancer"
	"github.com/weft-cni/weft/internal/socklb"
)

// Balancer is what the agent needs of the programs that connect sockets to services.
type Balancer interface {
	Apply([]loadbalancer.Change) map[loadbalancer.Name]error
	Prune() error
	Freshen(time.Duration) error
	Stats() (socklb.Stats, error)
	Held() (socklb.State, error)
	Close() error
}

// balance is the services that pods' sockets are connected to. What isn't there goes by kube-proxy.
type balance struct {
	table *loadbalancer.Table

	mu   sync.Mutex
	lb   Balancer
	why  string                       // there is none
	bad  map[loadbalancer.Name]string // services that it couldn't take
	done bool                         // every service is there
}

func newBalance() *balance {
	return &balance{table: loadbalancer.NewTable(), bad: map[loadbalancer.Name]string{}}
}

func openBalancer(cgroups string, cfg config.Config) (Balancer, error) {
	root, err := socklb.FindCgroup(cgroups)
	if err != nil {
		return nil, err
	}
	return socklb.Open(socklb.Config{
		Cgroup: root, HostToo: cfg.KubeProxyReplacement, NorthSouth: cfg.KubeProxyReplacement, HostOnly: cfg.SocketLB.HostNamespaceOnly,
		GuardNodePorts: cfg.KubeProxyReplacement && cfg.NodePort.BindProtection, MaglevSize: cfg.Maglev.TableSize,
	})
}

// openBalancer attaches the programs. A node that can't have them has its services by kube-proxy still: that is
// told, and no reason to stop. The function returned lets go of them.
func (a *agent) openBalancer() func() {
	lb, err := a.Balancer()
	a.balance.mu.Lock()
	defer a.balance.mu.Unlock()
	if err != nil {
		a.Log.Warn("services are left to kube-proxy: sockets can't be connected to them", "err", err)
		a.balance.why = err.Error()
		return func() {}
	}
	a.balance.lb = lb
	return func() {
		if err := lb.Close(); err != nil {
			a.Log.Warn("programs of services not closed", "err", err)
		}
	}
}

// here is the node as the choice of backends sees it.
func (a *agent) here() loadbalancer.Node {
	nn, _, _ := a.source.get()
	n := loadbalancer.Node{Name: a.Node, Settings: serviceSettings(a.Config)}
	if nn != nil {
		n.Zone = nn.Spec.AvailabilityZone
	}
	return n
}

// The tables are said to be right for so long, so often: an agent that is gone or stuck for longer leaves pods'
// services to kube-proxy, and so does a version that doesn't know of them.
const (
	freshFor     = time.Minute
	freshenEvery = 5 * time.Second
)

// followBackends hands every change of services and endpoints to the programs, beginning when all are known: until
// then what an earlier agent left stands.
func (a *agent) followBackends(ctx context.Context, synced <-chan struct{}) error {
	b := a.balance
	if b.lb == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-synced:
	}
	tick := time.NewTicker(freshenEvery)
	defer tick.Stop()
	for {
		b.apply(a.here(), a.Log)
		if err := b.lb.Freshen(freshFor); err != nil {
			a.Log.Error("services left to kube-proxy", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.table.Changed():
		case <-tick.C:
			b.table.Mark(slices.Collect(maps.Keys(b.failed()))) // the maps may have room again
		}
	}
}

// filled says that the programs have every service that there is.
func (b *balance) filled() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done && len(b.bad) == 0
}

func (b *balance) failed() map[loadbalancer.Name]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.bad)
}

// apply brings the programs up to date.
func (b *balance) apply(n loadbalancer.Node, log *slog.Logger) {
	changes := b.table.Take(n)
	failed := b.lb.Apply(changes)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.done {
		if err := b.lb.Prune(); err != nil {
			log.Warn("services of an earlier agent not all removed", "err", err)
		} else {
			b.done = true
		}
	}
	for _, c := range changes {
		err := failed[c.Service]
		if err != nil && b.bad[c.Service] != err.Error() {
			log.Error("service not written", "service", c.Service.String(), "err", err)
			b.bad[c.Service] = err.Error()
		}
		if err == nil {
			delete(b.bad, c.Service)
		}
	}
}

// fallbacks say what goes by kube-proxy that needn't.
func (b *balance) fallbacks() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.why != "" {
		return []string{"pods' services by kube-proxy instead of at the socket: " + b.why}
	}
	if len(b.bad) == 0 {
		return nil
	}
	first := slices.MinFunc(slices.Collect(maps.Keys(b.bad)), func(a, b loadbalancer.Name) int { return cmp.Compare(a.String(), b.String()) })
	return []string{fmt.Sprintf("%d services as they were instead of as they are, %s first: %s", len(b.bad), first, b.bad[first])}
}

// stats are nil while there are no programs.
func (b *balance) stats() (*socklb.Stats, error) {
	b.mu.Lock()
	lb := b.lb
	b.mu.Unlock()
	if lb == nil {
		return nil, nil
	}
	s, err := lb.Stats()
	return &s, err
}
