package agent

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/inspect"
	"github.com/weft-cni/weft/internal/loadbalancer"
	"github.com/weft-cni/weft/internal/socklb"
)

// registerServices answers how services are on this node.
func (a *agent) registerServices(s *agentapi.Server) {
	s.Stream("GET /v1/services", func(r *http.Request, send func(any) error) error {
		all, err := a.frontends()
		if err != nil {
			return err
		}
		target, err := wantedTarget(r.URL.Query().Get("of"), true)
		if err != nil {
			return err
		}
		for _, f := range a.matching(all, target) {
			if err := send(f.Frontend); err != nil {
				return err
			}
		}
		return nil
	})
	s.JSON("GET /v1/services/stats", func(*http.Request) (any, error) {
		stats, err := a.balance.stats()
		if err == nil && stats == nil {
			err = agentapi.Unavailable("the agent of %s has no maps of services: %s", a.Node, a.balance.whyNone())
		}
		return stats, err
	})
	s.JSON("GET /v1/services/explain", func(r *http.Request) (any, error) {
		return ask(a, r, func(f frontend, c asker) (inspect.Explanation, error) { return a.explainService(f, c), nil })
	})
	s.JSON("GET /v1/services/trace", func(r *http.Request) (any, error) {
		state, err := a.balance.held()
		if err != nil {
			return nil, err
		}
		maps, err := a.inspectMaps()
		if err != nil {
			return nil, err
		}
		packets := servesPackets(maps)
		return ask(a, r, func(f frontend, c asker) (inspect.Trace, error) { return a.traceService(f, c, state, packets), nil })
	})
}

func wantedTarget(text string, any bool) (inspect.Target, error) {
	if text == "" && any {
		return inspect.Target{}, nil
	}
	t, err := inspect.ParseTarget(text)
	if err != nil {
		return t, agentapi.BadRequest("%v", err)
	}
	return t, nil
}

// ask answers a question about each frontend that is meant, for the client that is meant.
func ask[T any](a *agent, r *http.Request, one func(frontend, asker) (T, error)) ([]T, error) {
	q := r.URL.Query()
	target, err := wantedTarget(q.Get("of"), false)
	if err != nil {
		return nil, err
	}
	all, err := a.frontends()
	if err != nil {
		return nil, err
	}
	c := asker{words: q.Get("from"), host: q.Get("host") != "", outside: q.Get("outside") != ""}
	met := c.meets(a.matching(all, target))
	if len(met) == 0 {
		return nil, agentapi.NotFound("node %s has no frontend %s for clients %s; weft service list --node %s shows those that there are", a.Node, target, c.side(), a.Node)
	}
	var out []T
	for _, f := range met {
		v, err := one(f, c)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// asker is who asks for a service.
type asker struct {
	words         string
	host, outside bool
}

func (c asker) side() string {
	if c.outside {
		return clientsOutside
	}
	return clientsInside
}

// meets are the frontends that this client's packets meet.
func (c asker) meets(all []frontend) []frontend {
	return slices.DeleteFunc(slices.Clone(all), func(f frontend) bool { return f.Clients != c.side() && f.Clients != clientsBoth })
}

// Whose frontends there are.
const (
	clientsInside  = "inside"
	clientsOutside = "outside"
	clientsBoth    = "inside and outside"
)

func clients(f loadbalancer.Frontend) string {
	switch {
	case f.Scope == loadbalancer.Outside:
		return clientsOutside
	case f.Outside:
		return clientsBoth
	}
	return clientsInside
}

// A frontend is one with what it was made from.
type frontend struct {
	inspect.Frontend
	service loadbalancer.Name
	from    *loadbalancer.Frontend // nil: nobody wants it
	at      loadbalancer.Address
}

// frontends are all that this node should have or has, sorted. None are told before all are known.
func (a *agent) frontends() ([]frontend, error) {
	if err := a.whenServing(); err != nil {
		return nil, err
	}
	if !a.services.known() {
		return nil, agentapi.Unavailable("the agent of %s doesn't know all services yet: the API server hasn't told it; see weft status", a.Node)
	}
	state, err := a.balance.held()
	if err != nil {
		return nil, err
	}
	failed, problem := a.balance.failed(), ""
	if state == nil {
		problem = "this node's maps of services aren't open: " + a.balance.whyNone()
		state = &socklb.State{}
	}
	var out []frontend
	for _, c := range a.balance.table.Look(a.here()) {
		problems := problemsOf(c.Problems)
		for _, f := range c.Frontends {
			one := frontend{service: c.Service, from: &f, at: f.Address}
			one.Frontend = inspect.Frontend{Node: a.Node, Service: c.Service.String(), Port: f.Port, Kind: f.Kind.String(), Address: f.Address.String(),
				Clients: clients(f), Wanted: newBalanced(socklb.Expected(f)), Problem: cmp.Or(problem, problems[f.Address])}
			if why, ok := failed[c.Service]; ok {
				one.Problem = "the agent couldn't write it: " + why
			}
			if h, ok := state.Frontends[f.Key()]; ok {
				one.Held = newBalanced(h)
				delete(state.Frontends, f.Key())
			}
			one.Compare()
			out = append(out, one)
		}
		out = append(out, a.unserved(c)...)
	}
	for key, h := range state.Frontends {
		one := frontend{at: key.Address}
		one.Frontend = inspect.Frontend{Node: a.Node, Kind: "unknown", Address: key.Address.String(), Clients: clients(loadbalancer.Frontend{Scope: key.Scope}), Held: newBalanced(h)}
		one.Compare()
		out = append(out, one)
	}
	slices.SortStableFunc(out, func(a, b frontend) int { return inspect.CompareFrontends(a.Frontend, b.Frontend) })
	return out, nil
}

// problemsOf are the first of each frontend.
func problemsOf(all []loadbalancer.Problem) map[loadbalancer.Address]string {
	out := map[loadbalancer.Address]string{}
	for _, p := range all {
		if _, ok := out[p.Address]; !ok {
			out[p.Address] = p.Reason
		}
	}
	return out
}

// unserved is what a service asks for without having a frontend of it.
func (a *agent) unserved(c loadbalancer.Change) []frontend {
	var out []frontend
	for _, p := range c.Problems {
		if slices.ContainsFunc(c.Frontends, func(f loadbalancer.Frontend) bool { return f.Address == p.Address }) {
			continue
		}
		one := frontend{service: c.Service, at: p.Address}
		one.Frontend = inspect.Frontend{Node: a.Node, Service: c.Service.String(), Kind: "none", Clients: "nobody", State: inspect.Unserved, Problem: p.Reason}
		if p.Address.IsValid() {
			one.Address = p.Address.String()
		}
		out = append(out, one)
	}
	return out
}

func newBalanced(h socklb.Held) *inspect.Balance {
	b := &inspect.Balance{Backends: []string{}, Flags: h.Flags, AffinitySeconds: int(h.Affinity / time.Second)}
	for _, x := range h.Backends {
		b.Backends = append(b.Backends, x.String())
	}
	return b
}

// matching are those that are meant; with none in particular, all. An address of this node's own that no service has
// stands for the frontends that every address of the node has.
func (a *agent) matching(all []frontend, t inspect.Target) []frontend {
	if t == (inspect.Target{}) {
		return all
	}
	pick := func(at netip.AddrPort) []frontend {
		var out []frontend
		for _, f := range all {
			switch {
			case t.Protocol != "" && t.Protocol != string(f.at.Protocol):
			case at.IsValid() && f.at.AddrPort == at, t.Named(f.service.Namespace, f.service.Name, f.Port, f.at.Port(), string(f.at.Protocol)):
				out = append(out, f)
			}
		}
		return out
	}
	out := pick(t.Address)
	if len(out) == 0 && t.Address.IsValid() && a.owns(t.Address.Addr()) {
		wildcard := netip.IPv6Unspecified()
		if t.Address.Addr().Is4() {
			wildcard = netip.IPv4Unspecified()
		}
		out = pick(netip.AddrPortFrom(wildcard, t.Address.Port()))
	}
	return out
}

// owns tells whether an address is the node's itself.
func (a *agent) owns(addr netip.Addr) bool {
	a.balance.mu.Lock()
	defer a.balance.mu.Unlock()
	return addr.IsLoopback() || slices.Contains(a.balance.own, addr)
}

func (a *agent) explainService(f frontend, c asker) inspect.Explanation {
	n := a.here()
	out := inspect.Explanation{Node: a.Node, Zone: n.Zone, Client: c.words, Frontend: f.Frontend, Endpoints: []loadbalancer.Verdict{}}
	if out.Client == "" {
		out.Client = "any pod"
	}
	if f.from == nil {
		out.Nobody = "no service has this frontend: the maps have it from before"
		return out
	}
	s, endpoints := a.balance.table.Of(f.service)
	if s == nil {
		if f.from.Kind != loadbalancer.KindHostPort {
			out.Nobody = "the service is gone"
		}
		return out
	}
	out.Endpoints = append(out.Endpoints, loadbalancer.Explain(n, s, endpoints, *f.from)...)
	out.Nobody = loadbalancer.Nobody(out.Endpoints)
	names := a.names()
	for i, v := range out.Endpoints {
		if at, err := netip.ParseAddrPort(v.Endpoint); err == nil {
			out.Endpoints[i].Pod = names.Address(at.Addr().Unmap())
		}
	}
	return out
}

// servesPackets tells whether the packet programs look at services.
func servesPackets(maps []inspect.Map) bool {
	return slices.ContainsFunc(maps, func(m inspect.Map) bool {
		return m.Name == "weft_lb_frontends" && slices.Contains(m.UsedBy, datapath.FromPod.String())
	})
}

func (a *agent) traceService(f frontend, c asker, state *socklb.State, packets bool) inspect.Trace {
	x := a.explainService(f, c)
	facts := inspect.TraceFacts{
		Node: a.Node, From: x.Client, HostNetwork: c.host, Outside: c.outside, Protocol: string(f.at.Protocol), Frontend: f.Frontend, Nobody: x.Nobody,
		Packets:   packets,
		KubeProxy: inspect.KubeProxyNames(f.service.Namespace, f.service.Name, f.Port, string(f.at.Protocol), c.outside),
	}
	facts.NoSockets = a.balance.whyNone()
	if state != nil {
		facts.Sockets, facts.HostOnly = facts.NoSockets == "", state.HostOnly
		facts.HostSockets, facts.NorthSouth, facts.Fresh = state.Host, state.NorthSouth, state.Fresh
	}
	names := a.names()
	a.mu.Lock()
	own := a.view.nodeAddress()
	a.mu.Unlock()
	facts.NodeAddress = own.String()
	for _, e := range a.manager.Endpoints() {
		if e.Pod == c.words {
			facts.SourceENI = e.ENI
		}
	}
	for _, b := range f.Has().Backends {
		at, err := netip.ParseAddrPort(b)
		if err != nil {
			continue
		}
		one := inspect.TraceBackend{Address: b, Pod: names.Address(at.Addr()), Where: inspect.Elsewhere}
		switch {
		case one.Pod != "":
			one.Where = inspect.Here
		case a.owns(at.Addr()):
			one.Where = inspect.Itself
		}
		facts.Backends = append(facts.Backends, one)
	}
	return inspect.Follow(facts)
}

// mostDifferences are told of services: a table that is lost differs by thousands.
const mostDifferences = 50

// serviceDifferences compares the maps of services with what they should have. How many frontends were looked at is
// told, too; none while not all services are known, or where there are no maps.
func (a *agent) serviceDifferences() ([]inspect.Difference, int, error) {
	state, err := a.balance.held()
	if err != nil || state == nil || !a.services.known() {
		return nil, 0, err
	}
	all, err := a.frontends()
	if err != nil {
		return nil, 0, err
	}
	var out []inspect.Difference
	if !state.Fresh {
		out = append(out, inspect.Difference{What: "confirmation of the tables of services (weft_lb_config)", Found: "none for a minute",
			Expected: "one every 5 s", Do: "look in the agent's log for why it can't write; services are left to kube-proxy meanwhile, if there is one"})
	}
	wrong := 0
	for _, f := range all {
		d := f.Differences()
		if wrong += len(d); wrong <= mostDifferences {
			out = append(out, d...)
		}
	}
	if wrong > mostDifferences {
		out = append(out, inspect.Difference{What: "tables of services", Found: fmt.Sprintf("%d differences in all", wrong), Expected: "none",
			Do: "weft service list --wrong shows them"})
	}
	return out, len(all), nil
}

// held is what the maps have; nil: there are none.
func (b *balance) held() (*socklb.State, error) {
	b.mu.Lock()
	lb := b.lb
	b.mu.Unlock()
	if lb == nil {
		return nil, nil
	}
	s, err := lb.Held()
	if err != nil {
		return nil, fmt.Errorf("maps of services: %w", err)
	}
	return &s, nil
}

func (b *balance) whyNone() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.why
}

// known tells whether the API server has told of every service.
func (s *services) known() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.synced
}
