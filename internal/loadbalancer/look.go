package loadbalancer

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Look resolves everything for a node, sorted by name, with the addresses that each had when Take was last called, and
// changes nothing: what the next Take returns, it does.
func (t *Table) Look(n Node) []Change {
	t.mu.Lock()
	defer t.mu.Unlock()
	names, asked := make([]Name, 0, len(t.services)), make(map[Name]time.Time, len(t.services))
	for name := range t.services {
		names, asked[name] = append(names, name), time.Time{}
	}
	for name := range t.hostPorts {
		names = append(names, name)
	}
	slices.SortFunc(names, Name.compare)
	pods := t.podsAt(asked)
	out := make([]Change, 0, len(names))
	for _, name := range names {
		r := t.resolve(n, name, pods)
		c := Change{Service: name, Health: r.health}
		c.Frontends, c.Problems = t.claims.won(name, r.frontends, r.problems)
		out = append(out, c)
	}
	return out
}

// Of is what a service and its slices are; nil: there is none. They are read only.
func (t *Table) Of(name Name) (*corev1.Service, []*discoveryv1.EndpointSlice) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.services[name]
	if !ok {
		return nil, nil
	}
	return s, t.endpoints(name)
}
