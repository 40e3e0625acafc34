package agent

import (
	"context"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

// problems are what services ask for and don't get, to be told once: to the log and, as events, to whoever looks at
// the service.
type problems struct {
	mu    sync.Mutex
	of    map[loadbalancer.Name]string // as told, or to be told
	queue []untold
	kick  chan struct{}
}

// untold is a service's problems in one text.
type untold struct {
	service loadbalancer.Name
	text    string
}

func newProblems() *problems {
	return &problems{of: map[loadbalancer.Name]string{}, kick: make(chan struct{}, 1)}
}

// maxWaiting bounds what waits to be told: a cluster may come with thousands of services of one mistake.
const maxWaiting = 1000

func (p *problems) set(service loadbalancer.Name, all []loadbalancer.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(all) == 0 {
		delete(p.of, service)
		return
	}
	var texts []string
	for _, one := range all {
		texts = append(texts, one.String())
	}
	text := strings.Join(texts, "; ")
	if p.of[service] == text {
		return
	}
	p.of[service] = text
	if len(p.queue) >= maxWaiting {
		return // the metric and weft service list have it
	}
	p.queue = append(p.queue, untold{service, text})
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// count is how many services have any.
func (p *problems) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.of)
}

func (p *problems) take() []untold {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.queue
	p.queue = nil
	return out
}

// tellProblems writes what is wrong with services to the log and as events on them.
func (a *agent) tellProblems(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.balance.problems.kick:
		}
		for _, t := range a.balance.problems.take() {
			a.Log.Warn("not all of a service is served", "service", t.service.String(), "reason", t.text)
			if err := a.Cluster.WarnAbout(ctx, a.about(t.service), "NotServed", t.text); err != nil && ctx.Err() == nil {
				a.Log.Warn("event not written", "service", t.service.String(), "err", err)
			}
		}
	}
}

// about names the object that a name of the table is of: a service, or a pod with host ports.
func (a *agent) about(name loadbalancer.Name) corev1.ObjectReference {
	if pod, ok := name.Pod(); ok {
		return corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name}
	}
	ref := corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: name.Namespace, Name: name.Name}
	if s, _ := a.balance.table.Of(name); s != nil {
		ref.UID = s.UID
	}
	return ref
}
