package loadbalancer

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Look resolves every service for a node, sorted by name, and changes nothing: what the next Take returns, it does.
func (t *Table) Look(n Node) []Change {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Change, 0, len(t.services))
	for _, name := range slices.SortedFunc(maps.Keys(t.services), Name.compare) {
		out = append(out, Change{Service: name, Frontends: t.resolve(n, name)})
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
	return s, slices.Collect(maps.Values(t.slices[name]))
}
