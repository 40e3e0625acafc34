package operator

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

// Resync describes all instances at times, to see what others changed, and has every node looked at again.
type Resync struct {
	Client    client.Reader
	Inventory *Inventory
	Interval  time.Duration
	Log       *slog.Logger
	Nodes     chan<- event.GenericEvent
}

// Start resyncs until ctx ends.
func (r *Resync) Start(ctx context.Context) error {
	for {
		// Jitter, so that clusters of one account don't march in step.
		wait := r.Interval + rand.N(r.Interval/10+1)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		if err := r.sync(ctx); err != nil {
			r.Log.Warn("instances could not be described", "error", err)
		}
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (r *Resync) NeedLeaderElection() bool { return true }

func (r *Resync) sync(ctx context.Context) error {
	ids, names, err := instanceIDs(ctx, r.Client)
	if err != nil {
		return err
	}
	err = r.Inventory.Sync(ctx, ids)
	for _, name := range names {
		select {
		case r.Nodes <- event.GenericEvent{Object: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}}:
		case <-ctx.Done():
			return nil
		}
	}
	return err
}
