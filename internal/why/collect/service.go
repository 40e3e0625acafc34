package collect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"

	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/agentapi/remote"
	"github.com/weft-cni/weft/internal/flow"
	"github.com/weft-cni/weft/internal/inspect"
	"github.com/weft-cni/weft/internal/why"
)

// service asks the sender's node what it makes of the service that the flow goes to.
func (c *Collector) service(ctx context.Context, f *why.Facts) {
	q := f.Question
	if f.To.Kind != why.KindService || !flow.HasPorts(q.Protocol) || f.From.Node == "" {
		return
	}
	all, err := c.Agents.List(ctx)
	if err != nil {
		return // what the nodes saw says so already
	}
	i := slices.IndexFunc(all, func(a remote.Agent) bool { return a.Node == f.From.Node })
	if i < 0 {
		return
	}
	of := fmt.Sprintf("%s/%s", netip.AddrPortFrom(q.To.Addr, q.Port), q.Protocol)
	answer := remote.Ask[[]inspect.Explanation](ctx, c.Agents, all[i:i+1], "/v1/services/explain?"+url.Values{"of": {of}}.Encode())[0]
	s, err := newService(f.From.Node, answer.Value, answer.Err)
	if err != nil {
		f.Unknown = append(f.Unknown, fmt.Sprintf("which backends the service has: %v", err))
	}
	f.Service = s
}

// newService reads a node's answer.
func newService(node string, all []inspect.Explanation, err error) (*why.Service, error) {
	var told *agentapi.Error
	switch {
	case errors.As(err, &told) && told.Code == http.StatusNotFound:
		return &why.Service{Node: node, Absent: told.Message}, nil
	case err != nil:
		return nil, err
	case len(all) == 0:
		return nil, nil
	}
	x := all[0]
	s := &why.Service{Name: x.Frontend.Service, Node: node, Nobody: x.Nobody}
	for _, v := range x.Endpoints {
		if v.Chosen {
			s.Backends = append(s.Backends, v.Endpoint)
		}
	}
	if has := x.Frontend.Has(); has != nil {
		s.Refused = slices.Contains(has.Flags, "refuse")
	}
	return s, nil
}
