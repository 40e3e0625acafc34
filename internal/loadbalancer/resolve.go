package loadbalancer

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// LabelOtherProxy takes a service away from a cluster's usual proxy, as corev1.IsHeadlessService does; their
// values don't matter.
const LabelOtherProxy = "service.kubernetes.io/service-proxy-name"

// Serves tells whether clients of s are to be connected by this proxy: not by a name alone, and not by
// another proxy.
func Serves(s *corev1.Service) bool {
	_, other := s.Labels[LabelOtherProxy]
	_, headless := s.Labels[corev1.IsHeadlessService]
	return !other && !headless && s.Spec.Type != corev1.ServiceTypeExternalName &&
		s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone
}

// SliceSelector chooses the EndpointSlices that count: those of headless services and of other proxies have the
// labels of Serves too, whatever their service says.
func SliceSelector() labels.Selector {
	selector := labels.NewSelector()
	for _, label := range []string{corev1.IsHeadlessService, LabelOtherProxy} {
		// Both are labels' names, so this can't fail.
		if r, err := labels.NewRequirement(label, selection.DoesNotExist, nil); err == nil {
			selector = selector.Add(*r)
		}
	}
	return selector
}

// Resolve are the frontends that s has for clients on the node and, if it is reached from outside, for those. Slices
// of other services are no business of this function, nor is who else claims an address.
func Resolve(n Node, s *corev1.Service, endpoints []*discoveryv1.EndpointSlice) []Frontend {
	frontends, _ := resolve(n, s, endpoints)
	return frontends
}

// resolve also tells what of s isn't served because it can't be.
func resolve(n Node, s *corev1.Service, endpoints []*discoveryv1.EndpointSlice) ([]Frontend, []Problem) {
	if !Serves(s) {
		return nil, nil
	}
	r := resolution{node: n, service: s, name: Name{s.Namespace, s.Name}, seen: map[Key]bool{}}
	r.maglev = r.algorithm()
	cluster, bad := clusterAddresses(s)
	for _, text := range bad {
		r.problem(Address{}, fmt.Sprintf("clusterIP %q is no address that can be served", text))
	}
	var families []netip.Addr
	for _, a := range cluster {
		if !slices.ContainsFunc(families, func(o netip.Addr) bool { return o.Is4() == a.Is4() }) {
			families = append(families, a)
		}
	}
	ranges := r.sourceRanges()
	for _, one := range families {
		v4 := one.Is4()
		for i := range s.Spec.Ports {
			p := &s.Spec.Ports[i]
			r.port(v4, p, cluster, candidates(endpoints, v4, p), ranges)
		}
	}
	if n.Settings.NorthSouth {
		r.otherFamilies(families)
	}
	return r.out, r.problems
}

// otherFamilies tells of addresses that can't have backends: endpoints are made in the families of the ClusterIPs.
func (r *resolution) otherFamilies(have []netip.Addr) {
	for _, text := range slices.Concat(loadBalancerAddresses(r.service), r.service.Spec.ExternalIPs) {
		a, err := netip.ParseAddr(text)
		if a = a.Unmap(); err == nil && !special(a) && !slices.ContainsFunc(have, func(o netip.Addr) bool { return o.Is4() == a.Is4() }) {
			r.problem(Address{}, fmt.Sprintf("address %s isn't served: the service has no ClusterIP of its family, add it to ipFamilies", a))
		}
	}
}

// resolution is of one service.
type resolution struct {
	node     Node
	service  *corev1.Service
	name     Name
	maglev   bool
	out      []Frontend
	problems []Problem
	seen     map[Key]bool
}

func (r *resolution) problem(at Address, reason string) {
	r.problems = appendProblem(r.problems, Problem{Service: r.name, Address: at, Reason: reason})
}

// port adds the frontends of a port in a family: its ClusterIPs as the policy for inside says, all others with every
// endpoint for clients inside and as the policy for outside says for the others.
func (r *resolution) port(v4 bool, p *corev1.ServicePort, cluster []netip.Addr, all []candidate, ranges []netip.Prefix) {
	if p.Port < 1 || p.Port > 65535 {
		r.problem(Address{}, fmt.Sprintf("port %d isn't served, expected 1 to 65535", p.Port))
		return
	}
	s, set := r.service, r.node.Settings
	f := Frontend{Service: r.name, Port: p.Name, Maglev: r.maglev}
	if !set.WithoutAffinity {
		f.Affinity = affinity(s)
	}
	if !carried(protocol(p.Protocol)) {
		r.problem(Address{}, fmt.Sprintf("protocol %q isn't served, expected TCP, UDP or SCTP", p.Protocol))
		return
	}
	at := func(a netip.Addr, port int32) Address {
		return Address{netip.AddrPortFrom(a, uint16(port)), protocol(p.Protocol)}
	}
	f.Kind, f.Outside = ClusterIP, set.ClusterIPOutside
	internal := s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	f.Backends, f.Refuse = r.backends(all, internal)
	for _, a := range cluster {
		if a.Is4() == v4 {
			r.add(f, at(a, p.Port))
		}
	}
	if !set.NorthSouth {
		return
	}
	f.Outside = true
	f.Backends, f.Refuse = r.backends(all, false)
	own := f
	if local := s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal; local {
		f.Outside, f.OutsideOwn = false, true
		own.Scope = Outside
		own.Backends, own.Refuse = r.backends(all, true)
	}
	both := func(kind Kind, addr Address) {
		f.Kind, own.Kind = kind, kind
		if r.add(f, addr) && f.OutsideOwn {
			own.Restricted, own.Ranges, own.HostAllowed = f.Restricted, f.Ranges, f.HostAllowed
			r.add(own, addr)
		}
	}
	if p.NodePort != 0 && !set.WithoutNodePorts {
		if p.NodePort < 1 || p.NodePort > 65535 {
			r.problem(Address{}, fmt.Sprintf("node port %d isn't served, expected 1 to 65535", p.NodePort))
		} else {
			for _, a := range nodePortAddresses(r.node, v4) {
				both(NodePort, at(a, p.NodePort))
			}
		}
	}
	if len(s.Spec.LoadBalancerSourceRanges) > 0 {
		f.Restricted, f.Ranges = true, ofFamily(ranges, v4)
		f.HostAllowed = slices.ContainsFunc(r.node.Addresses, func(a netip.Addr) bool {
			return slices.ContainsFunc(f.Ranges, func(p netip.Prefix) bool { return p.Contains(a) })
		})
	}
	for _, a := range r.external(loadBalancerAddresses(s), v4, "load balancer") {
		both(LoadBalancer, at(a, p.Port))
	}
	f.Restricted, f.Ranges, f.HostAllowed = false, nil, false
	if set.WithoutExternalIPs {
		return
	}
	for _, a := range r.external(s.Spec.ExternalIPs, v4, "external") {
		both(ExternalIP, at(a, p.Port))
	}
}

// add tells whether the frontend is one more, and not one that the service has already.
func (r *resolution) add(f Frontend, at Address) bool {
	f.Address = at
	if r.seen[f.Key()] {
		return false
	}
	r.seen[f.Key()] = true
	r.out = append(r.out, f)
	return true
}

func (r *resolution) backends(all []candidate, local bool) ([]netip.AddrPort, bool) {
	out, refuse := backends(r.node, all, local)
	return out, refuse && !r.node.Settings.Silent
}

// external are the addresses of the family that may be served; what is no address of somebody else's, or of
// everybody's, is told.
func (r *resolution) external(texts []string, v4 bool, what string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		a = a.Unmap()
		switch {
		case err != nil || a.Zone() != "":
			r.problem(Address{}, fmt.Sprintf("%s address %q is none", what, text))
		case special(a):
			r.problem(Address{}, fmt.Sprintf("%s address %s isn't served, expected one that isn't loopback, link-local or multicast", what, a))
		case a.Is4() == v4 && !slices.Contains(out, a):
			out = append(out, a)
		}
	}
	return out
}

// special addresses mean something of their own on every node.
func special(a netip.Addr) bool {
	return a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast()
}

// sourceRanges are those that a load balancer's clients must be in. One that can't be read has nobody.
func (r *resolution) sourceRanges() []netip.Prefix {
	var out []netip.Prefix
	if !r.node.Settings.NorthSouth {
		return nil
	}
	for _, text := range r.service.Spec.LoadBalancerSourceRanges {
		p, err := parseRange(text)
		if err != nil {
			r.problem(Address{}, fmt.Sprintf("loadBalancerSourceRanges: %q is no prefix, so nobody is in it", text))
			continue
		}
		if p = p.Masked(); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}

// clusterAddresses are each once, in the service's order.
func clusterAddresses(s *corev1.Service) (out []netip.Addr, bad []string) {
	for _, text := range append([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs...) {
		a, err := netip.ParseAddr(text)
		if err != nil || a.IsUnspecified() || a.Zone() != "" {
			bad = append(bad, text)
			continue
		}
		if a = a.Unmap(); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out, bad
}

// loadBalancerAddresses are those that nodes serve: to an address of mode Proxy packets go by the load balancer.
func loadBalancerAddresses(s *corev1.Service) []string {
	var out []string
	for _, i := range s.Status.LoadBalancer.Ingress {
		if i.IP != "" && (i.IPMode == nil || *i.IPMode == corev1.LoadBalancerIPModeVIP) {
			out = append(out, i.IP)
		}
	}
	return out
}

// nodePortAddresses are the wildcard, or those of the node's addresses that are to serve node ports.
func nodePortAddresses(n Node, v4 bool) []netip.Addr {
	if len(n.Settings.NodePortAddresses) == 0 {
		return []netip.Addr{wildcard(v4)}
	}
	var out []netip.Addr
	for _, a := range n.Addresses {
		if a.Is4() == v4 && slices.ContainsFunc(n.Settings.NodePortAddresses, func(p netip.Prefix) bool { return p.Contains(a) }) {
			out = append(out, a)
		}
	}
	return out
}

func wildcard(v4 bool) netip.Addr {
	if v4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func ofFamily(all []netip.Prefix, v4 bool) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range all {
		if p.Addr().Is4() == v4 {
			out = append(out, p)
		}
	}
	return out
}

func carried(p corev1.Protocol) bool {
	return p == corev1.ProtocolTCP || p == corev1.ProtocolUDP || p == corev1.ProtocolSCTP
}

func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

func affinity(s *corev1.Service) time.Duration {
	if s.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	seconds := int32(corev1.DefaultClientIPServiceAffinitySeconds)
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		seconds = *c.ClientIP.TimeoutSeconds
	}
	return time.Duration(max(seconds, 0)) * time.Second
}
