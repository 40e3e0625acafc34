package loadbalancer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// mayAnswer is a naive reading of the API's documentation, endpoint by endpoint: may this one answer a client on
// the node, given all of the service's endpoints at the port?
func mayAnswer(n Node, e *discoveryv1.Endpoint, all []*discoveryv1.Endpoint, local bool) bool {
	isReady := func(e *discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }
	isLast := func(e *discoveryv1.Endpoint) bool {
		return !isReady(e) && e.Conditions.Terminating != nil && *e.Conditions.Terminating && e.Conditions.Serving != nil && *e.Conditions.Serving
	}
	inReach := func(e *discoveryv1.Endpoint) bool { return !local || e.NodeName != nil && *e.NodeName == n.Name }
	if !inReach(e) {
		return false
	}
	anyReady, everyNode, everyZone, nodeHere, zoneHere := false, true, true, false, false
	for _, o := range all {
		if !inReach(o) || !isReady(o) {
			continue
		}
		anyReady = true
		h := o.Hints
		if h == nil {
			h = &discoveryv1.EndpointHints{}
		}
		everyNode = everyNode && len(h.ForNodes) > 0
		everyZone = everyZone && len(h.ForZones) > 0
		nodeHere = nodeHere || slices.Contains(h.ForNodes, discoveryv1.ForNode{Name: n.Name})
		zoneHere = zoneHere || slices.Contains(h.ForZones, discoveryv1.ForZone{Name: n.Zone})
	}
	switch {
	case !anyReady:
		return isLast(e)
	case !isReady(e):
		return false
	case local: // hints are about choosing among nodes
		return true
	case everyNode && nodeHere:
		return slices.Contains(e.Hints.ForNodes, discoveryv1.ForNode{Name: n.Name})
	case n.Zone != "" && everyZone && zoneHere:
		return slices.Contains(e.Hints.ForZones, discoveryv1.ForZone{Name: n.Zone})
	}
	return true
}

func TestResolveAgainstTheDocumentation(t *testing.T) {
	local := corev1.ServiceInternalTrafficPolicyLocal
	for seed := range uint64(20000) {
		r := rand.New(rand.NewPCG(seed, 3))
		n := Node{Name: fmt.Sprint("n", r.IntN(3)), Zone: []string{"", "a", "b"}[r.IntN(3)]}
		s := service(nil)
		if r.IntN(4) == 0 {
			s.Spec.InternalTrafficPolicy = &local
		}
		hinted := r.IntN(3)
		var all []*discoveryv1.Endpoint
		var given []*discoveryv1.EndpointSlice
		for i := range r.IntN(3) {
			es := endpointSlice(fmt.Sprint(i), 8080)
			for j := range r.IntN(5) {
				es.Endpoints = append(es.Endpoints, randomEndpoint(r, i*10+j, hinted))
			}
			for j := range es.Endpoints {
				all = append(all, &es.Endpoints[j])
			}
			given = append(given, Strip(es)) // which must not matter
		}
		want := map[netip.AddrPort]bool{}
		for _, e := range all {
			if mayAnswer(n, e, all, s.Spec.InternalTrafficPolicy != nil) {
				want[netip.AddrPortFrom(netip.MustParseAddr(e.Addresses[0]), 8080)] = true
			}
		}
		got := Resolve(n, s, given)[0].Backends
		if len(got) != len(want) || slices.ContainsFunc(got, func(a netip.AddrPort) bool { return !want[a] }) {
			t.Fatalf("seed %d: backends %v, expected %v", seed, got, want)
		}
	}
}

func randomEndpoint(r *rand.Rand, number, hinted int) discoveryv1.Endpoint {
	e := endpoint(fmt.Sprintf("10.0.0.%d", number+1))
	maybe := func() *bool { return []*bool{nil, ptr(true), ptr(false)}[r.IntN(3)] }
	e.Conditions.Ready = maybe()
	if e.Conditions.Ready != nil && !*e.Conditions.Ready {
		e.Conditions.Serving, e.Conditions.Terminating = maybe(), maybe()
	}
	if r.IntN(3) > 0 {
		on(fmt.Sprint("n", r.IntN(3)))(&e)
	}
	if hinted > 0 && r.IntN(8) > 0 {
		forZones([]string{"a", "b"}[r.IntN(2)])(&e)
	}
	if hinted > 1 && r.IntN(8) > 0 {
		forNodes(fmt.Sprint("n", r.IntN(3)))(&e)
	}
	return e
}
