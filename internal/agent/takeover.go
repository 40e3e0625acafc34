package agent

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weft-cni/weft/internal/kubeproxy"
	"github.com/weft-cni/weft/internal/loadbalancer"
)

// KubeProxy finds what kube-proxy left on the node, and removes its rules.
type KubeProxy interface {
	Find() (kubeproxy.Found, error)
	Remove() (int, error)
}

// nodesKubeProxy is the node's own.
type nodesKubeProxy struct{}

func (nodesKubeProxy) Find() (kubeproxy.Found, error) { return kubeproxy.Find() }
func (nodesKubeProxy) Remove() (int, error)           { return kubeproxy.Remove() }

// takeover is what the agent knows of kube-proxy while it serves services in its place.
type takeover struct {
	mu   sync.Mutex
	says []string

	gone   time.Time // since when kube-proxy doesn't run
	looked time.Time // when its rules were looked at last
	none   bool      // and there were none
}

func (t *takeover) say(says []string) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed = strings.Join(t.says, "\n") != strings.Join(says, "\n")
	t.says = says
	return changed
}

func (t *takeover) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.says
}

// Whether kube-proxy runs is looked at often; its rules, of which there may be a hundred thousand, seldom while that
// doesn't change.
const (
	kubeProxyEvery      = 5 * time.Second
	kubeProxyRulesEvery = time.Minute
)

// takeOver removes kube-proxy's rules once it has gone and weft serves whatever they do; until then it says how things
// stand.
func (a *agent) takeOver(ctx context.Context, synced <-chan struct{}) error {
	if !a.Config.KubeProxyReplacement || a.KubeProxy == nil || a.balance.lb == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-synced:
	}
	for {
		if err := a.lookAtKubeProxy(ctx, time.Now()); err != nil && ctx.Err() == nil {
			a.Log.Warn("kube-proxy's rules not looked at", "err", err)
		}
		if pause(ctx, kubeProxyEvery) != nil {
			return nil
		}
	}
}

func (a *agent) lookAtKubeProxy(ctx context.Context, now time.Time) error {
	t := &a.takeover
	runs, err := a.kubeProxyRuns(ctx)
	if err != nil {
		return err
	}
	switch {
	case runs == t.gone.IsZero():
	case runs:
		t.gone, t.looked = time.Time{}, time.Time{}
	default:
		t.gone, t.looked = now, time.Time{}
	}
	// When it has just gone its rules are looked at again after the time in which it might come back.
	due := now.Sub(t.looked) >= kubeProxyRulesEvery || !runs && !t.none && now.Sub(t.gone) >= kubeproxy.Grace && t.looked.Sub(t.gone) < kubeproxy.Grace
	if !due {
		return nil
	}
	s := kubeproxy.Situation{Runs: runs, Filled: a.balance.filled()}
	if !runs {
		s.Gone = now.Sub(t.gone)
	}
	if s.Found, err = a.KubeProxy.Find(); err != nil {
		return err
	}
	if s.Lacks, err = a.lacks(s.Found); err != nil {
		return err
	}
	t.looked, t.none = now, !s.Found.Any()
	if !s.Filled {
		t.looked = time.Time{} // soon again
	}
	remove, says := kubeproxy.Decide(s)
	if remove {
		n, err := a.KubeProxy.Remove()
		if err != nil {
			says = append(says, fmt.Sprintf("kube-proxy's rules are not all removed: %v", err))
		}
		if n > 0 {
			a.Log.Info("rules of kube-proxy removed, which has gone", "kinds", s.Found.Kinds, "chains", n)
			a.Cluster.Warn("KubeProxyRulesRemoved", fmt.Sprintf("kube-proxy has gone from this node and weft serves what its rules did: its %d chains (%s) are removed; connections that they led go on", n, strings.Join(s.Found.Kinds, ", ")))
		}
		t.looked = time.Time{}
	}
	if t.say(says) {
		for _, text := range says {
			a.Log.Info("kube-proxy's place", "text", text)
		}
		a.tellSoon()
	}
	return nil
}

// lacks are the addresses that kube-proxy's rules serve and the node's tables don't, although there are such services.
func (a *agent) lacks(found kubeproxy.Found) ([]kubeproxy.Frontend, error) {
	if len(found.Frontends) == 0 {
		return nil, nil
	}
	state, err := a.balance.lb.Held()
	if err != nil {
		return nil, err
	}
	served := make([]loadbalancer.Address, 0, len(state.Frontends))
	for key := range state.Frontends {
		served = append(served, key.Address)
	}
	var wanted []loadbalancer.Address
	for _, c := range a.balance.table.Look(a.here()) {
		for _, f := range c.Frontends {
			wanted = append(wanted, f.Address)
		}
		for _, p := range c.Problems {
			wanted = append(wanted, p.Address)
		}
	}
	return kubeproxy.Lacks(found.Frontends, served, wanted), nil
}

// kubeProxyHealth is the port at which every kube-proxy answers load balancers.
const kubeProxyHealth = 10256

// kubeProxyRuns looks for its pod, and for one that is no pod by its port.
func (a *agent) kubeProxyRuns(ctx context.Context) (bool, error) {
	sandboxes, err := a.Runtime.Sandboxes(ctx)
	if err != nil {
		return false, err
	}
	for _, s := range sandboxes {
		if !s.Ended && s.Namespace == "kube-system" && (s.Name == "kube-proxy" || strings.HasPrefix(s.Name, "kube-proxy-")) {
			return true, nil
		}
	}
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(kubeProxyHealth)))
	if err != nil {
		return false, nil //nolint:nilerr // nobody is there
	}
	return true, c.Close()
}
