package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/loadbalancer"
	"github.com/weft-cni/weft/internal/servicehealth"
	"github.com/weft-cni/weft/internal/socklb"
)

// Balancer is what the agent needs of the programs that connect sockets to services.
type Balancer interface {
	Apply([]loadbalancer.Change) map[loadbalancer.Name]error
	Prune() error
	Freshen(time.Duration) error
	Stats() (socklb.Stats, error)
	Held() (socklb.State, error)
	// SetOwn says which addresses are the node's own.
	SetOwn([]netip.Addr) error
	// EndOrphans ends the node's sockets of datagrams whose backend is gone.
	EndOrphans() (int, error)
	// KeepPins puts back pins and programs that somebody removed.
	KeepPins() (pins, programs []string, err error)
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
	own  []netip.Addr                 // the node's addresses
	// right is when the tables were last said to be.
	right time.Time

	checks   *servicehealth.Checks
	problems *problems
	delay    prometheus.Histogram // from a change to the tables
}

func newBalance(log *slog.Logger) *balance {
	b := &balance{table: loadbalancer.NewTable(), bad: map[loadbalancer.Name]string{}, problems: newProblems(), delay: newServiceDelay()}
	b.checks = servicehealth.New(b.isFresh, log)
	return b
}

// isFresh tells whether the tables are kept up to date.
func (b *balance) isFresh() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Since(b.right) < freshFor
}

// openBalancer opens programs and tables. With an error beside the balancer there are tables alone, for the programs
// of packets.
func openBalancer(cgroups string, cfg config.Config) (Balancer, error) {
	root, noCgroup := socklb.FindCgroup(cgroups)
	lb, err := socklb.Open(socklb.Config{
		Cgroup: root, WithoutSockets: noCgroup != nil,
		HostToo: cfg.KubeProxyReplacement, NorthSouth: cfg.KubeProxyReplacement, HostOnly: cfg.SocketLB.HostNamespaceOnly,
		GuardNodePorts: cfg.KubeProxyReplacement && cfg.NodePort.BindProtection, MaglevSize: cfg.Maglev.TableSize,
	})
	if err != nil {
		return nil, errors.Join(noCgroup, err)
	}
	return lb, noCgroup
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
	}
	if lb == nil {
		return func() {}
	}
	a.balance.lb = lb
	return func() {
		if err := lb.Close(); err != nil {
			a.Log.Warn("programs of services not closed", "err", err)
		}
	}
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
	var last loadbalancer.Node
	b.table.SetTaken(a.taken(a.knownPeers()))
	for {
		if err := a.lookAtAddresses(); err != nil {
			a.Log.Error("node ports may not be served at all addresses", "err", err)
		}
		now := a.here()
		if !sameNode(last, now) {
			b.table.MarkAll()
			last = now
		}
		b.apply(now, a.Log)
		if err := b.lb.Freshen(freshFor); err != nil {
			a.Log.Error("services left to kube-proxy", "err", err)
		} else {
			b.mu.Lock()
			b.right = time.Now()
			b.mu.Unlock()
		}
		a.endOrphans()
		select {
		case <-ctx.Done():
			return nil
		case <-b.table.Changed():
		case <-tick.C:
			b.table.Mark(slices.Collect(maps.Keys(b.failed()))) // the maps may have room again
			a.keepBalancer()
			a.balance.table.SetTaken(a.taken(a.knownPeers()))
		}
	}
}

// filled says that the programs have every service that there is.
func (b *balance) filled() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done && len(b.bad) == 0
}

// endOrphans ends sockets that nobody would answer any more.
func (a *agent) endOrphans() {
	n, err := a.balance.lb.EndOrphans()
	if err != nil {
		a.Log.Warn("sockets of this node may stay connected to backends that are gone", "err", err)
	}
	if n > 0 {
		a.Log.Info("sockets of this node were connected to backends that are gone and were ended", "count", n)
	}
}

// keepBalancer puts back what somebody removed.
func (a *agent) keepBalancer() {
	pins, programs, err := a.balance.lb.KeepPins()
	if err != nil {
		a.Log.Error("pins and programs of services not put back", "err", err)
	}
	var what []string
	for _, p := range programs {
		what = append(what, "program "+p+" at the node's control group")
	}
	if what = append(what, pinned(pins)...); len(what) > 0 {
		a.repairs.note(what...)
		a.Log.Warn("something else removed pins or programs of services, they were put back", "what", what)
		a.Cluster.Warn("ServicesRestored", restoredMessage(what))
	}
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
	began := b.done
	if !b.done {
		if err := b.lb.Prune(); err != nil {
			log.Warn("services of an earlier agent not all removed", "err", err)
		} else {
			b.done = true
		}
	}
	now := time.Now()
	for _, c := range changes {
		b.checks.Set(c.Service, c.Health)
		b.problems.set(c.Service, c.Problems)
		err := failed[c.Service]
		// What was there when the agent began waited for the agent.
		if err == nil && began && !c.Since.IsZero() {
			b.delay.Observe(now.Sub(c.Since).Seconds())
		}
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
