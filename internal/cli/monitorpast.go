package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/agentapi/remote"
	"github.com/weft-cni/weft/internal/flow"
)

// gather reads what the agents keep, in the order of time. A node that doesn't answer is among the errors.
func gather(ctx context.Context, agents *remote.Agents, chosen []remote.Agent, path string) ([]flow.Record, error) {
	var (
		mu   sync.Mutex
		all  []flow.Record
		errs []error
	)
	g := new(errgroup.Group)
	g.SetLimit(16)
	for _, a := range chosen {
		g.Go(func() error {
			var own []flow.Record
			err := agents.Stream(ctx, a, path, func(line []byte) error {
				var r flow.Record
				if err := json.Unmarshal(line, &r); err != nil {
					return fmt.Errorf("node %s: a record was not understood: %w; is the agent of another version?", a.Node, err)
				}
				own = append(own, r)
				return nil
			})
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
			if err != nil {
				errs = append(errs, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b flow.Record) int { return a.Time.Compare(b.Time) })
	return all, errors.Join(errs...)
}

func (w *monitorWriter) past(ctx context.Context, agents *remote.Agents, chosen []remote.Agent, path string) error {
	all, failed := gather(ctx, agents, chosen, path)
	for _, r := range all {
		if err := w.write(r); err != nil {
			return err
		}
	}
	return failed
}

// temporary tells whether asking again may help.
func temporary(err error) bool {
	var told *agentapi.Error
	return !errors.As(err, &told) || told.Code >= http.StatusInternalServerError
}

// podNames are the cluster's pods by their addresses, as the nodes tell: an agent knows its own only.
func podNames(ctx context.Context, e *env) (map[string]string, error) {
	c, err := e.cluster.Connect()
	if err != nil {
		return nil, err
	}
	var nodes v1alpha1.NodeNetworkList
	if err := c.Objects.List(ctx, &nodes); err != nil {
		return nil, fmt.Errorf("list nodenetworks: %w", err)
	}
	out := map[string]string{}
	for _, n := range nodes.Items {
		for _, u := range n.Status.UsedAddresses {
			if u.Pod != "" {
				out[u.Address] = u.Pod
			}
		}
	}
	return out, nil
}
