package loadbalancer

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// A candidate is an endpoint at a port.
type candidate struct {
	addr  netip.AddrPort
	ready bool
	// serving says that it is on its way out but answers still.
	serving bool
	node    string
	zones   []string // hints; nil: none were given
	nodes   []string
}

// candidates are the endpoints of the family that have the service's port.
func candidates(endpoints []*discoveryv1.EndpointSlice, v4 bool, port *corev1.ServicePort) []candidate {
	family := discoveryv1.AddressTypeIPv6
	if v4 {
		family = discoveryv1.AddressTypeIPv4
	}
	var out []candidate
	for _, slice := range endpoints {
		if slice.AddressType != family {
			continue
		}
		number, ok := portOf(slice, port)
		if !ok {
			continue
		}
		for i := range slice.Endpoints {
			if c, ok := newCandidate(&slice.Endpoints[i], number, v4); ok {
				out = append(out, c)
			}
		}
	}
	return out
}

// portOf finds the service's port in the slice by its name: named target ports may have different numbers in
// different slices.
func portOf(slice *discoveryv1.EndpointSlice, port *corev1.ServicePort) (uint16, bool) {
	for _, p := range slice.Ports {
		name, proto := "", corev1.ProtocolTCP
		if p.Name != nil {
			name = *p.Name
		}
		if p.Protocol != nil {
			proto = *p.Protocol
		}
		if name == port.Name && proto == protocol(port.Protocol) && p.Port != nil && *p.Port > 0 && *p.Port <= 65535 {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

func newCandidate(e *discoveryv1.Endpoint, port uint16, v4 bool) (candidate, bool) {
	if len(e.Addresses) == 0 {
		return candidate{}, false
	}
	// Consumers take the first address alone: the others have no meaning.
	a, err := netip.ParseAddr(e.Addresses[0])
	if err != nil || a.Unmap().Is4() != v4 || a.Zone() != "" {
		return candidate{}, false
	}
	c := candidate{addr: netip.AddrPortFrom(a.Unmap(), port)}
	c.ready = e.Conditions.Ready == nil || *e.Conditions.Ready
	terminating := e.Conditions.Terminating != nil && *e.Conditions.Terminating
	serving := c.ready
	if e.Conditions.Serving != nil {
		serving = *e.Conditions.Serving
	}
	c.serving = terminating && serving
	if e.NodeName != nil {
		c.node = *e.NodeName
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			c.zones = append(c.zones, z.Name)
		}
		for _, h := range e.Hints.ForNodes {
			c.nodes = append(c.nodes, h.Name)
		}
	}
	return c, true
}

// backends chooses who may answer: those that are ready and, by the hints, near; without any, those that are
// going but serve still. refuse tells that there is nobody in the whole cluster.
func backends(n Node, all []candidate, local bool) (_ []netip.AddrPort, refuse bool) {
	anywhere := usable(all)
	if local {
		here := usable(slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return c.node != n.Name }))
		return addresses(here), len(anywhere) == 0
	}
	if len(anywhere) > 0 && anywhere[0].ready && !n.Settings.WithoutHints {
		anywhere = near(n, anywhere)
	}
	return addresses(anywhere), len(anywhere) == 0
}

// usable are the ready ones or, as the last resort, those that serve on while they end.
func usable(all []candidate) []candidate {
	var ready, serving []candidate
	for _, c := range all {
		switch {
		case c.ready:
			ready = append(ready, c)
		case c.serving:
			serving = append(serving, c)
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return serving
}

// near follows the hints if every endpoint has one, and at least one of them is for this node or, failing
// that, its zone. Half-written hints would send everybody to the few that have them.
func near(n Node, ready []candidate) []candidate {
	pick := func(hints func(candidate) []string, own string) []candidate {
		var out []candidate
		for _, c := range ready {
			h := hints(c)
			if len(h) == 0 {
				return nil
			}
			if slices.Contains(h, own) {
				out = append(out, c)
			}
		}
		return out
	}
	if out := pick(func(c candidate) []string { return c.nodes }, n.Name); len(out) > 0 {
		return out
	}
	if n.Zone != "" {
		if out := pick(func(c candidate) []string { return c.zones }, n.Zone); len(out) > 0 {
			return out
		}
	}
	return ready
}

func addresses(of []candidate) []netip.AddrPort {
	var out []netip.AddrPort
	for _, c := range of {
		out = append(out, c.addr)
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}
