package operator

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/internal/ec2"
)

// collectGrace is how long an ENI of an instance that may live has to be seen unattached. It covers a leader
// that was replaced and still acts; a mistake costs that one a repeated step, since EC2 deletes no attached ENI.
const collectGrace = 30 * time.Second

// Garbage deletes ENIs that weft made for this cluster and that nobody will use: those of instances that are
// gone, and those that were not attached for so long that no plan wants them. Two passes have to see an ENI
// unattached; unless EC2 says that its instance has ended, which nothing undoes, the grace has to be between.
type Garbage struct {
	Client    client.Reader
	EC2       ec2.API
	Inventory *Inventory
	Cluster   string
	Metrics   *Metrics
	Log       *slog.Logger
	Now       func() time.Time
	// Interval of passes, and how long an ENI has to be seen unattached.
	Interval, Grace time.Duration

	suspects map[string]time.Time // ENI → first seen unattached
}

// Start runs passes until ctx ends; the first at once, as a crash may be why it starts.
func (g *Garbage) Start(ctx context.Context) error {
	for {
		wait := g.Interval
		left, err := g.Pass(ctx)
		switch {
		case err != nil:
			g.Log.Warn("garbage collection failed", "error", err)
		case left > 0:
			wait = min(wait, g.Grace+time.Second)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (g *Garbage) NeedLeaderElection() bool { return true }

// Pass looks for garbage and deletes what an earlier pass saw too. It returns how many it suspects and has not
// deleted.
func (g *Garbage) Pass(ctx context.Context) (int, error) {
	if paused, err := releasing(ctx, g.Client, g.Now()); err != nil || paused {
		return 0, err
	}
	found, err := g.EC2.DescribeInterfaces(ctx, ec2.InterfaceQuery{
		Status: ec2.StatusAvailable, Tags: map[string]string{ec2.TagManaged: "true", ec2.TagCluster: g.Cluster},
	})
	if err != nil {
		return 0, err
	}
	now := g.Now()
	suspects := map[string]time.Time{}
	var again []ec2.Interface
	for _, e := range found {
		// The filter is EC2's; what is deleted is judged here again.
		if !e.Managed(g.Cluster) || e.Attachment != nil || e.Status != ec2.StatusAvailable {
			continue
		}
		first, ok := g.suspects[e.ID]
		if !ok {
			first = now
		}
		suspects[e.ID] = first
		if ok {
			again = append(again, e)
		}
	}
	g.suspects = suspects
	if len(again) == 0 {
		return len(suspects), nil
	}
	states, err := g.states(ctx, again)
	if err != nil {
		return len(suspects), err
	}
	var errs []error
	for _, e := range again {
		id := e.Tags[ec2.TagInstance]
		switch {
		case states[id] != ended && now.Sub(suspects[e.ID]) < g.Grace:
			continue
		case states[id] == lives && g.Inventory.Wanted(id, e.ID):
			// Its node still tries to attach it, and says why it can't.
			continue
		}
		err := g.EC2.DeleteInterface(ctx, e.ID)
		switch {
		case err == nil:
			g.Log.Info("leaked interface deleted", "interface", e.ID, "instance", id, "node", e.Tags[ec2.TagNode], "instanceLives", states[id] == lives)
			g.Metrics.deleted.Inc()
		case errors.Is(err, ec2.ErrNotFound):
		case errors.Is(err, ec2.ErrInUse):
			// It was attached meanwhile: no garbage.
			delete(g.suspects, e.ID)
			continue
		default:
			errs = append(errs, err)
			continue
		}
		delete(g.suspects, e.ID)
		g.Inventory.Deleted(id, e.ID)
	}
	return len(g.suspects), errors.Join(errs...)
}

// instanceState is what EC2 says of an ENI's instance.
type instanceState int

const (
	unknown instanceState = iota // nothing: which may be because EC2 forgot it, or lags
	lives
	ended
)

// states of the ENIs' instances. An unattached ENI of a live instance is garbage too, unless its node's plan
// wants it.
func (g *Garbage) states(ctx context.Context, enis []ec2.Interface) (map[string]instanceState, error) {
	var ids []string
	for _, e := range enis {
		if id := e.Tags[ec2.TagInstance]; id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	instances, err := g.EC2.DescribeInstances(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := map[string]instanceState{}
	for _, i := range instances {
		out[i.ID] = lives
		if i.Gone() {
			out[i.ID] = ended
		}
	}
	return out, nil
}

// instanceIDs of the cluster's nodes.
func instanceIDs(ctx context.Context, c client.Reader) (ids, names []string, err error) {
	var nodes corev1.NodeList
	if err := c.List(ctx, &nodes); err != nil {
		return nil, nil, err
	}
	for i := range nodes.Items {
		if id, _, ok := instanceOf(&nodes.Items[i]); ok {
			ids = append(ids, id)
			names = append(names, nodes.Items[i].Name)
		}
	}
	return ids, names, nil
}
