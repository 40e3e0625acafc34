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

func isReady(e *discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }

func isLastResort(e *discoveryv1.Endpoint) bool {
	return !isReady(e) && e.Conditions.Terminating != nil && *e.Conditions.Terminating && e.Conditions.Serving != nil && *e.Conditions.Serving
}

// mayAnswer is a naive reading of the API's documentation, endpoint by endpoint: may this one answer a client on
// the node, given all of the service's endpoints at the port?
func mayAnswer(n Node, e *discoveryv1.Endpoint, all []*discoveryv1.Endpoint, local bool) bool {
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
		return isLastResort(e)
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

// world is a service with endpoints of two families.
type world struct {
	node    Node
	service *corev1.Service
	slices  []*discoveryv1.EndpointSlice
}

// asDocumented is what the API's documentation promises a client that sends to the address: whether the service
// answers there at all, by whom, and if by nobody whether the client is told.
func (w world) asDocumented(to Address, from Scope) (served bool, who map[netip.AddrPort]bool, refused bool) {
	s := w.service
	for _, label := range []string{LabelOtherProxy, corev1.IsHeadlessService} {
		if _, ok := s.Labels[label]; ok {
			return false, nil, false
		}
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == "None" {
		return false, nil, false
	}
	v4 := to.Addr().Is4()
	if !slices.ContainsFunc(s.Spec.ClusterIPs, func(ip string) bool { return netip.MustParseAddr(ip).Is4() == v4 }) {
		return false, nil, false
	}
	for _, p := range s.Spec.Ports {
		if p.Protocol != to.Protocol {
			continue
		}
		local := false
		switch {
		case int32(to.Port()) == p.Port && slices.Contains(s.Spec.ClusterIPs, to.Addr().String()):
			if from == Outside {
				continue
			}
			local = s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
		case int32(to.Port()) == p.NodePort && to.Addr().IsUnspecified(),
			int32(to.Port()) == p.Port && slices.Contains(s.Spec.ExternalIPs, to.Addr().String()),
			int32(to.Port()) == p.Port && slices.ContainsFunc(s.Status.LoadBalancer.Ingress, func(i corev1.LoadBalancerIngress) bool {
				return i.IP == to.Addr().String() && (i.IPMode == nil || *i.IPMode != corev1.LoadBalancerIPModeProxy)
			}):
			local = from == Outside && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
		default:
			continue
		}
		var all []*discoveryv1.Endpoint
		numbers := map[*discoveryv1.Endpoint]int32{}
		for _, es := range w.slices {
			if (es.AddressType == discoveryv1.AddressTypeIPv4) != v4 {
				continue
			}
			for _, ep := range es.Ports {
				if *ep.Name != p.Name || *ep.Protocol != p.Protocol {
					continue
				}
				for i := range es.Endpoints {
					all = append(all, &es.Endpoints[i])
					numbers[&es.Endpoints[i]] = *ep.Port
				}
			}
		}
		who, refused = map[netip.AddrPort]bool{}, true
		for _, e := range all {
			if isReady(e) || isLastResort(e) {
				refused = false // but not everybody may have them
			}
			if mayAnswer(w.node, e, all, local) {
				who[netip.AddrPortFrom(netip.MustParseAddr(e.Addresses[0]), uint16(numbers[e]))] = true
			}
		}
		return true, who, refused
	}
	return false, nil, false
}

// lookup does what the programs do.
func lookup(all []Frontend, to Address, from Scope) *Frontend {
	find := func(scope Scope) *Frontend {
		i := slices.IndexFunc(all, func(f Frontend) bool { return f.Key() == Key{to, scope} })
		if i < 0 {
			return nil
		}
		return &all[i]
	}
	f := find(Cluster)
	switch {
	case f == nil || from == Cluster || f.Outside:
		return f
	case f.OutsideOwn:
		return find(Outside)
	}
	return nil
}

func TestResolveAgainstTheDocumentation(t *testing.T) {
	served, local := 0, 0
	for seed := range uint64(20000) {
		w := randomWorld(rand.New(rand.NewPCG(seed, 3)))
		var given []*discoveryv1.EndpointSlice
		for _, es := range w.slices {
			given = append(given, Strip(es)) // which must not matter
		}
		got := Resolve(w.node, w.service, given)
		for _, to := range everyAddress() {
			for _, from := range []Scope{Cluster, Outside} {
				is, who, refused := w.asDocumented(to, from)
				f := lookup(got, to, from)
				if (f != nil) != is {
					t.Fatalf("seed %d: %s from %s: %+v, expected that it is served: %v", seed, to, from, f, is)
				}
				if f == nil {
					continue
				}
				if served++; from == Outside && f.Scope == Outside {
					local++
				}
				if len(f.Backends) != len(who) || slices.ContainsFunc(f.Backends, func(a netip.AddrPort) bool { return !who[a] }) || f.Refuse != refused {
					t.Fatalf("seed %d: %s from %s: backends %v, refuse %v; expected %v, %v", seed, to, from, f.Backends, f.Refuse, who, refused)
				}
			}
		}
	}
	if served < 20000 || local < 1000 {
		t.Errorf("%d questions were about something that is served, %d of them about local endpoints: too few to mean anything", served, local)
	}
}

// everyAddress is each that a random service may have, and some that none has.
func everyAddress() []Address {
	var out []Address
	for _, ip := range []string{"172.20.0.10", "fd00:1::10", "203.0.113.1", "203.0.113.2", "2001:db8::1", "0.0.0.0", "::"} {
		for _, port := range []uint16{80, 81, 30080, 30081} {
			for _, p := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
				out = append(out, Address{netip.AddrPortFrom(netip.MustParseAddr(ip), port), p})
			}
		}
	}
	return out
}

func randomWorld(r *rand.Rand) world {
	local := corev1.ServiceInternalTrafficPolicyLocal
	s := service(nil)
	w := world{service: s, node: Node{Name: fmt.Sprint("n", r.IntN(3)), Zone: []string{"", "a", "b"}[r.IntN(3)], Settings: Settings{NorthSouth: true}}}
	if r.IntN(4) == 0 {
		s.Spec.InternalTrafficPolicy = &local
	}
	if r.IntN(2) == 0 {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	s.Spec.Type = []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer}[r.IntN(3)]
	switch r.IntN(3) {
	case 0:
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, "fd00:1::10")
	case 1:
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "fd00:1::10", []string{"fd00:1::10", "172.20.0.10"}[:1+r.IntN(2)]
	}
	switch r.IntN(20) {
	case 0:
		s.Labels = map[string]string{LabelOtherProxy: ""}
	case 1:
		s.Labels = map[string]string{corev1.IsHeadlessService: ""}
	case 2:
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"}
	case 3:
		s.Spec.Type = corev1.ServiceTypeExternalName
	}
	s.Spec.Ports = s.Spec.Ports[:0]
	for i, name := range []string{"http", "dns"}[:1+r.IntN(2)] {
		p := corev1.ServicePort{Name: name, Port: int32(80 + i), Protocol: []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}[r.IntN(2)]}
		if s.Spec.Type != corev1.ServiceTypeClusterIP && r.IntN(4) > 0 {
			p.NodePort = int32(30080 + i)
		}
		s.Spec.Ports = append(s.Spec.Ports, p)
	}
	modes := []*corev1.LoadBalancerIPMode{nil, ptr(corev1.LoadBalancerIPModeVIP), ptr(corev1.LoadBalancerIPModeProxy)}
	for _, ip := range []string{"203.0.113.1", "2001:db8::1"} {
		if s.Spec.Type == corev1.ServiceTypeLoadBalancer && r.IntN(2) == 0 {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip, IPMode: modes[r.IntN(3)]})
		}
	}
	for _, ip := range []string{"203.0.113.2", "2001:db8::1"} {
		if r.IntN(3) == 0 {
			s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, ip)
		}
	}
	hinted := r.IntN(3)
	for i := range r.IntN(4) {
		es := endpointSlice(fmt.Sprint(i), int32(8080+r.IntN(2)))
		es.Ports[0].Protocol = ptr([]corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}[r.IntN(2)])
		if r.IntN(2) == 0 {
			es.Ports = append(es.Ports, discoveryv1.EndpointPort{Name: ptr("dns"), Port: ptr(int32(53)), Protocol: ptr([]corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}[r.IntN(2)])})
		}
		form := "10.0.0.%d"
		if r.IntN(3) == 0 {
			es.AddressType, form = discoveryv1.AddressTypeIPv6, "fd00:2::%d"
		}
		for j := range r.IntN(5) {
			es.Endpoints = append(es.Endpoints, randomEndpoint(r, fmt.Sprintf(form, i*10+j+1), hinted))
		}
		w.slices = append(w.slices, es)
	}
	return w
}

func randomEndpoint(r *rand.Rand, addr string, hinted int) discoveryv1.Endpoint {
	e := endpoint(addr)
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
