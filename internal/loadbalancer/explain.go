package loadbalancer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// A Reason says what decided about an endpoint.
type Reason string

// Why an endpoint may be chosen, and why not.
const (
	Choosable      Reason = "may be chosen"
	LastResort     Reason = "may be chosen as the last resort: it ends, but serves still, and none is ready"
	OtherFamily    Reason = "its slice has addresses of the other family"
	NoSuchPort     Reason = "its slice has no port of the service port's name and protocol"
	BadAddress     Reason = "its address is none of the slice's family"
	NotReady       Reason = "it isn't ready"
	Ended          Reason = "it ends and serves no more"
	OthersAreReady Reason = "it ends, and others are ready"
	OnOtherNode    Reason = "it is on another node, and the service's traffic policy is Local"
	OtherNodeHint  Reason = "its hints are for other nodes, and others' for this one"
	OtherZoneHint  Reason = "its hints are for other zones, and others' for this one"
)

// A Verdict is what becomes of one endpoint for the clients of a frontend.
type Verdict struct {
	Endpoint string   `json:"endpoint"` // its address as its slice has it, with the port if there is one
	Slice    string   `json:"slice"`
	Pod      string   `json:"pod,omitempty"` // for whoever knows to fill in: slices as they are kept don't say
	Node     string   `json:"node,omitempty"`
	Zones    []string `json:"zones,omitempty"` // for which it is hinted
	Nodes    []string `json:"nodes,omitempty"` // the same
	State    string   `json:"state"`           // ready, ending but serving, ending, not ready
	Chosen   bool     `json:"chosen"`
	Reason   Reason   `json:"reason"`

	address netip.AddrPort // valid for a chosen one
}

// Address is where a chosen one is reached.
func (v Verdict) Address() netip.AddrPort { return v.address }

// Host is the endpoint's address without the port.
func (v Verdict) Host() string {
	if at, err := netip.ParseAddrPort(v.Endpoint); err == nil {
		return at.Addr().Unmap().String()
	}
	return v.Endpoint
}

// Explain says of every endpoint in the slices of a service whether clients of its frontend f on the node may be
// connected to it, and why not: with Resolve's f, the chosen ones are f.Backends. It is a reading of its own, one
// endpoint after the other, which a test compares with Resolve's.
func Explain(n Node, s *corev1.Service, endpoints []*discoveryv1.EndpointSlice, f Frontend) []Verdict {
	x := explanation{node: n, local: localOnly(s, f)}
	for _, slice := range endpoints {
		for i := range slice.Endpoints {
			x.look(slice, &slice.Endpoints[i], f)
		}
	}
	x.decide()
	slices.SortStableFunc(x.all, func(a, b Verdict) int {
		if a.Chosen != b.Chosen {
			if a.Chosen {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Endpoint, b.Endpoint)
	})
	return x.all
}

// localOnly tells whether the frontend's clients reach endpoints of their own node alone: those inside by the internal
// traffic policy, which is about ClusterIPs, those outside by the external one, which is about all other addresses.
func localOnly(s *corev1.Service, f Frontend) bool {
	if f.Kind == ClusterIP {
		return s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	}
	return f.Scope == Outside && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// explanation is made in two steps: what an endpoint is by itself, then what it is among the others. Those that
// are still in question have no reason yet.
type explanation struct {
	node  Node
	local bool
	all   []Verdict
}

func (x *explanation) look(slice *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint, f Frontend) {
	v := Verdict{Slice: slice.Name, State: stateOf(e.Conditions)}
	if len(e.Addresses) > 0 {
		v.Endpoint = e.Addresses[0]
	}
	if e.NodeName != nil {
		v.Node = *e.NodeName
	}
	if e.Hints != nil {
		for _, h := range e.Hints.ForZones {
			v.Zones = append(v.Zones, h.Name)
		}
		for _, h := range e.Hints.ForNodes {
			v.Nodes = append(v.Nodes, h.Name)
		}
	}
	want := discoveryv1.AddressTypeIPv6
	if f.Address.Addr().Is4() {
		want = discoveryv1.AddressTypeIPv4
	}
	port, hasPort := portOf(slice, &corev1.ServicePort{Name: f.Port, Protocol: f.Address.Protocol})
	addr, err := netip.ParseAddr(v.Endpoint)
	if err == nil && hasPort {
		v.Endpoint = netip.AddrPortFrom(addr, port).String()
	}
	switch {
	case slice.AddressType != want:
		v.Reason = OtherFamily
	case !hasPort:
		v.Reason = NoSuchPort
	case err != nil || addr.Zone() != "" || addr.Unmap().Is4() != f.Address.Addr().Is4():
		v.Reason = BadAddress
	case v.State == stateEnding:
		v.Reason = Ended
	case v.State == stateNotReady:
		v.Reason = NotReady
	case x.local && v.Node != x.node.Name:
		v.Reason = OnOtherNode
	default:
		v.address = netip.AddrPortFrom(addr.Unmap(), port)
	}
	x.all = append(x.all, v)
}

// States of an endpoint.
const (
	stateReady    = "ready"
	stateServing  = "ending but serving"
	stateEnding   = "ending"
	stateNotReady = "not ready"
)

func stateOf(c discoveryv1.EndpointConditions) string {
	ending := c.Terminating != nil && *c.Terminating
	switch {
	case c.Ready == nil || *c.Ready:
		return stateReady
	case ending && c.Serving != nil && *c.Serving:
		return stateServing
	case ending:
		return stateEnding
	}
	return stateNotReady
}

// decide is about those that are in question.
func (x *explanation) decide() {
	ready := x.anyIs(stateReady)
	hints := ready && !x.local && !x.node.Settings.WithoutHints
	byNode := hints && x.hinted(func(v Verdict) []string { return v.Nodes }, x.node.Name)
	byZone := hints && !byNode && x.node.Zone != "" && x.hinted(func(v Verdict) []string { return v.Zones }, x.node.Zone)
	for i := range x.all {
		v := &x.all[i]
		switch {
		case v.Reason != "":
			continue
		case v.State == stateServing && ready:
			v.Reason = OthersAreReady
		case v.State == stateServing:
			v.Chosen, v.Reason = true, LastResort
		case byNode && !slices.Contains(v.Nodes, x.node.Name):
			v.Reason = OtherNodeHint
		case byZone && !slices.Contains(v.Zones, x.node.Zone):
			v.Reason = OtherZoneHint
		default:
			v.Chosen, v.Reason = true, Choosable
		}
		if !v.Chosen {
			v.address = netip.AddrPort{}
		}
	}
}

func (x *explanation) anyIs(state string) bool {
	return slices.ContainsFunc(x.all, func(v Verdict) bool { return v.Reason == "" && v.State == state })
}

// hinted tells whether hints count: every ready endpoint has one, and one is for us.
func (x *explanation) hinted(hints func(Verdict) []string, own string) bool {
	found := false
	for _, v := range x.all {
		if v.Reason != "" || v.State != stateReady {
			continue
		}
		if len(hints(v)) == 0 {
			return false
		}
		found = found || slices.Contains(hints(v), own)
	}
	return found
}

// Nobody says why a frontend has no backend, in words; empty: it has one.
func Nobody(all []Verdict) string {
	if len(all) == 0 {
		return "the service has no endpoints: look at its selector and its pods"
	}
	counts, order := map[Reason]int{}, []Reason{}
	for _, v := range all {
		if v.Chosen {
			return ""
		}
		if counts[v.Reason] == 0 {
			order = append(order, v.Reason)
		}
		counts[v.Reason]++
	}
	slices.SortStableFunc(order, func(a, b Reason) int { return counts[b] - counts[a] })
	var parts []string
	for _, r := range order {
		parts = append(parts, fmt.Sprintf("%d of %d: %s", counts[r], len(all), r))
	}
	return strings.Join(parts, "; ")
}
