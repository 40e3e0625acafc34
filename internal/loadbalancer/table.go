package loadbalancer

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// A Table holds services and their endpoints as they are known, and which of them changed since they were last
// read. Objects that it was given belong to it.
type Table struct {
	mu       sync.Mutex
	services map[Name]*corev1.Service
	slices   map[Name]map[string]*discoveryv1.EndpointSlice // by service, then by their own name
	owners   map[Name]Name                                  // slice to service
	dirty    map[Name]bool
	changed  chan struct{}
}

// NewTable is empty.
func NewTable() *Table {
	return &Table{services: map[Name]*corev1.Service{}, slices: map[Name]map[string]*discoveryv1.EndpointSlice{},
		owners: map[Name]Name{}, dirty: map[Name]bool{}, changed: make(chan struct{}, 1)}
}

// Changed has a token once something changed.
func (t *Table) Changed() <-chan struct{} { return t.changed }

// mark is called with the lock held.
func (t *Table) mark(service Name) {
	t.dirty[service] = true
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// SetService enters a service.
func (t *Table) SetService(s *corev1.Service) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := Name{s.Namespace, s.Name}
	t.services[name] = s
	t.mark(name)
}

// DeleteService forgets it.
func (t *Table) DeleteService(name Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.services, name)
	t.mark(name)
}

// SetSlice enters a slice under the service that its label names, which may have changed.
func (t *Table) SetSlice(s *discoveryv1.EndpointSlice) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name, owner := Name{s.Namespace, s.Name}, Name{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}
	if before, ok := t.owners[name]; ok && before != owner {
		t.drop(name, before)
	}
	if owner.Name == "" {
		return
	}
	if t.slices[owner] == nil {
		t.slices[owner] = map[string]*discoveryv1.EndpointSlice{}
	}
	t.slices[owner][name.Name], t.owners[name] = s, owner
	t.mark(owner)
}

// DeleteSlice forgets it.
func (t *Table) DeleteSlice(name Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if owner, ok := t.owners[name]; ok {
		t.drop(name, owner)
	}
}

func (t *Table) drop(name, owner Name) {
	delete(t.slices[owner], name.Name)
	if len(t.slices[owner]) == 0 {
		delete(t.slices, owner)
	}
	delete(t.owners, name)
	t.mark(owner)
}

// A Change is what a service is now.
type Change struct {
	Service   Name
	Frontends []Frontend // none: the service isn't, or isn't ours
}

// Take resolves the services that changed since the last call, sorted by name.
func (t *Table) Take(n Node) []Change {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := make([]Name, 0, len(t.dirty))
	for name := range t.dirty {
		names = append(names, name)
	}
	clear(t.dirty)
	slices.SortFunc(names, Name.compare)
	out := make([]Change, 0, len(names))
	for _, name := range names {
		out = append(out, Change{Service: name, Frontends: t.resolve(n, name)})
	}
	return out
}

func (t *Table) resolve(n Node, name Name) []Frontend {
	s, ok := t.services[name]
	if !ok {
		return nil
	}
	var endpoints []*discoveryv1.EndpointSlice
	for _, e := range t.slices[name] {
		endpoints = append(endpoints, e)
	}
	return Resolve(n, s, endpoints)
}

// Mark has the next Take resolve these again.
func (t *Table) Mark(services []Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range services {
		t.mark(s)
	}
}

// MarkAll has the next Take resolve everything, as when the node's zone changed.
func (t *Table) MarkAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.services {
		t.mark(name)
	}
}
