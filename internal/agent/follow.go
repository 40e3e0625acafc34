package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/weft-cni/weft/api/v1alpha1"
)

// follow hands every change of the sources to the node.
func (a *agent) follow(ctx context.Context) error {
	var h hold
	for {
		nn, cn, changed := a.source.get()
		wait := a.take(&h, nn, cn)
		var held <-chan time.Time
		if wait > 0 {
			held = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-held:
		}
	}
}

// take makes what the sources say the node's, or returns for how long it isn't believed yet.
func (a *agent) take(h *hold, nn *v1alpha1.NodeNetwork, cn *v1alpha1.ClusterNetwork) time.Duration {
	v, err := compute(a.Config, a.exceptions.get(), a.instance, nn, cn)
	if err != nil {
		// The last view stands: what the operator once gave isn't taken away by an object that can't be
		// believed.
		a.Log.Warn("sources not followed", "err", err)
		return 0
	}
	a.mu.Lock()
	last := a.view
	a.mu.Unlock()
	why, first := shrunk(last, v, a.manager.Endpoints()), h.since.IsZero()
	if wait := h.look(time.Now(), why); wait > 0 {
		if first {
			a.Log.Warn("the NodeNetwork shrank, the old one stands until this one has lasted", "why", why, "wait", wait)
			a.Cluster.Warn("NodeNetworkShrank", fmt.Sprintf("%s: this is followed if it is still so in %s", why, holdFor))
		}
		return wait
	}
	if why != "" {
		a.Log.Warn("the NodeNetwork that shrank is followed", "why", why)
	}
	h.look(time.Now(), "")
	a.mu.Lock()
	a.view = v
	a.mu.Unlock()
	a.node.SetDesired(v.desired)
	a.settle()
	return 0
}
