package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/agentapi/remote"
	"github.com/weft-cni/weft/internal/flow"
)

func (w *monitorWriter) past(ctx context.Context, agents *remote.Agents, chosen []remote.Agent, path string) error {
	all, failed := remote.Gather[flow.Record](ctx, agents, chosen, path)
	slices.SortStableFunc(all, func(a, b flow.Record) int { return a.Time.Compare(b.Time) })
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
