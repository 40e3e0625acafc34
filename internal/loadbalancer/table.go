package loadbalancer

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// A Table holds services and their endpoints as they are known, and which of them changed since they were last
// read. Objects that it was given belong to it.
type Table struct {
	now     func() time.Time
	started time.Time

	mu        sync.Mutex
	services  map[Name]*corev1.Service
	slices    map[Name]map[string]*discoveryv1.EndpointSlice // by service, then by their own name
	owners    map[Name]Name                                  // slice to service
	hostPorts map[Name][]HostPort                            // by who stands for the pod
	taken     map[netip.Addr]string                          // addresses that are no service's to have, with whose they are
	claims    claims
	external  map[string]map[Name]bool // services by their external addresses
	problems  map[Name][]Problem
	dirty     map[Name]time.Time // since when
	changed   chan struct{}
}

// NewTable is empty.
func NewTable() *Table {
	return &Table{now: time.Now, started: time.Now(),
		services: map[Name]*corev1.Service{}, slices: map[Name]map[string]*discoveryv1.EndpointSlice{},
		owners: map[Name]Name{}, hostPorts: map[Name][]HostPort{}, claims: newClaims(), external: map[string]map[Name]bool{},
		problems: map[Name][]Problem{}, dirty: map[Name]time.Time{}, changed: make(chan struct{}, 1)}
}

// Changed has a token once something changed.
func (t *Table) Changed() <-chan struct{} { return t.changed }

// mark is called with the lock held.
func (t *Table) mark(service Name, since time.Time) {
	if before, ok := t.dirty[service]; !ok || since.Before(before) {
		t.dirty[service] = since
	}
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
	t.indexExternal(name, t.services[name], s)
	t.services[name] = s
	t.mark(name, t.now())
}

// DeleteService forgets it.
func (t *Table) DeleteService(name Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.indexExternal(name, t.services[name], nil)
	delete(t.services, name)
	t.mark(name, t.now())
}

// SetSlice enters a slice under the service that its label names, which may have changed.
func (t *Table) SetSlice(s *discoveryv1.EndpointSlice) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name, owner := Name{s.Namespace, s.Name}, Name{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}
	before, known := t.owners[name]
	was := t.slices[before][name.Name]
	since := t.since(was, s)
	t.markExternal(was)
	t.markExternal(s)
	if known && before != owner {
		t.drop(name, before)
	}
	if owner.Name == "" {
		return
	}
	if t.slices[owner] == nil {
		t.slices[owner] = map[string]*discoveryv1.EndpointSlice{}
	}
	t.slices[owner][name.Name], t.owners[name] = s, owner
	t.mark(owner, since)
}

// since is when what made the slice as it is happened: as its controller says, if it says anew and of this process's
// time, else now.
func (t *Table) since(before, s *discoveryv1.EndpointSlice) time.Time {
	now := t.now()
	text := s.Annotations[corev1.EndpointsLastChangeTriggerTime]
	if text == "" || before != nil && before.Annotations[corev1.EndpointsLastChangeTriggerTime] == text {
		return now
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.Before(t.started) || at.After(now) {
		return now
	}
	return at
}

// DeleteSlice forgets it.
func (t *Table) DeleteSlice(name Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if owner, ok := t.owners[name]; ok {
		t.markExternal(t.slices[owner][name.Name])
		t.drop(name, owner)
	}
}

func (t *Table) drop(name, owner Name) {
	delete(t.slices[owner], name.Name)
	if len(t.slices[owner]) == 0 {
		delete(t.slices, owner)
	}
	delete(t.owners, name)
	t.mark(owner, t.now())
}

// SetHostPorts says which ports of the node this node's pods have, all of them.
func (t *Table) SetHostPorts(all []HostPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := map[Name][]HostPort{}
	for _, p := range all {
		owner := hostPortOwner(p.Pod)
		now[owner] = append(now[owner], p)
	}
	for owner, ports := range now {
		if !slices.Equal(t.hostPorts[owner], ports) {
			t.mark(owner, t.now())
		}
	}
	for owner := range t.hostPorts {
		if now[owner] == nil {
			t.mark(owner, t.now())
		}
	}
	t.hostPorts = now
}

// SetTaken says which addresses a service can't have from outside, and whose they are, such as "node ip-10-0-0-1".
// The map belongs to the table.
func (t *Table) SetTaken(taken map[netip.Addr]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for text, services := range t.external {
		a, err := netip.ParseAddr(text)
		if err == nil && t.taken[a] != taken[a] {
			for name := range services {
				t.mark(name, t.now())
			}
		}
	}
	t.taken = taken
}

// A Change is what a service is now.
type Change struct {
	Service   Name
	Frontends []Frontend // none: the service isn't, or isn't ours
	Problems  []Problem
	// Health is set if load balancers ask this node about the service.
	Health *HealthCheck
	// Since is when the oldest change happened that isn't in the tables yet; zero: none did, it is looked at again.
	Since time.Time
}

// Take resolves the services that changed since the last call, sorted by name, and those that thereby have an address
// or have it no more.
func (t *Table) Take(n Node) []Change {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := t.dirty
	t.dirty = make(map[Name]time.Time)
	resolved := make(map[Name]resolved, len(taken))
	pods := t.podsAt(taken)
	contested := map[Address]bool{}
	for name := range taken {
		r := t.resolve(n, name, pods)
		resolved[name] = r
		t.claims.set(name, r.age, r.frontends, contested)
	}
	for name := range t.claims.of(contested) {
		if _, ok := resolved[name]; !ok {
			resolved[name] = t.resolve(n, name, t.podsAt(map[Name]time.Time{name: {}}))
		}
	}
	names := make([]Name, 0, len(resolved))
	for name := range resolved {
		names = append(names, name)
	}
	slices.SortFunc(names, Name.compare)
	out := make([]Change, 0, len(names))
	for _, name := range names {
		r := resolved[name]
		c := Change{Service: name, Health: r.health, Since: taken[name]}
		c.Frontends, c.Problems = t.claims.won(name, r.frontends, r.problems)
		if delete(t.problems, name); len(c.Problems) > 0 {
			t.problems[name] = c.Problems
		}
		out = append(out, c)
	}
	return out
}

// Problems are those of all services, sorted by name.
func (t *Table) Problems() []Problem {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Problem
	for _, p := range t.problems {
		out = append(out, p...)
	}
	slices.SortStableFunc(out, func(a, b Problem) int { return a.Service.compare(b.Service) })
	return out
}

// resolved is a service by itself, before others' claims.
type resolved struct {
	age       time.Time
	frontends []Frontend
	problems  []Problem
	health    *HealthCheck
}

func (t *Table) resolve(n Node, name Name, pods map[string]bool) resolved {
	var r resolved
	if ports, ok := t.hostPorts[name]; ok {
		r.frontends, r.problems = resolveHostPorts(n, ports[0].Pod, ports)
		return r
	}
	s, ok := t.services[name]
	if !ok {
		return r
	}
	r.age = s.CreationTimestamp.Time
	endpoints := t.endpoints(name)
	r.frontends, r.problems = resolve(n, s, endpoints)
	r.frontends, r.problems = t.notTaken(r.frontends, r.problems, pods)
	r.health = healthCheck(n, s, endpoints)
	return r
}

func (t *Table) endpoints(name Name) []*discoveryv1.EndpointSlice {
	out := make([]*discoveryv1.EndpointSlice, 0, len(t.slices[name]))
	for _, e := range t.slices[name] {
		out = append(out, e)
	}
	return out
}

// Mark has the next Take resolve these again.
func (t *Table) Mark(services []Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range services {
		t.mark(s, t.now())
	}
}

// MarkAll has the next Take resolve everything, as when the node's zone changed.
func (t *Table) MarkAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.services {
		t.mark(name, t.now())
	}
	for name := range t.hostPorts {
		t.mark(name, t.now())
	}
}
