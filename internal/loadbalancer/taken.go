package loadbalancer

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// externalAddresses are those that a service has from outside, in the form in which they are compared.
func externalAddresses(s *corev1.Service) []string {
	if s == nil || !Serves(s) {
		return nil
	}
	var out []string
	for _, text := range slices.Concat(loadBalancerAddresses(s), s.Spec.ExternalIPs) {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, a.Unmap().String())
		}
	}
	return out
}

func (t *Table) indexExternal(name Name, before, now *corev1.Service) {
	for _, a := range externalAddresses(before) {
		if delete(t.external[a], name); len(t.external[a]) == 0 {
			delete(t.external, a)
		}
	}
	for _, a := range externalAddresses(now) {
		if t.external[a] == nil {
			t.external[a] = map[Name]bool{}
		}
		t.external[a][name] = true
	}
}

// markExternal has services resolved again that claim the address of a pod of the slice.
func (t *Table) markExternal(s *discoveryv1.EndpointSlice) {
	if s == nil || len(t.external) == 0 {
		return
	}
	for i := range s.Endpoints {
		if e := &s.Endpoints[i]; isPod(e) && len(e.Addresses) > 0 {
			for name := range t.external[e.Addresses[0]] {
				t.mark(name, t.now())
			}
		}
	}
}

// podsAt are those of the services' external addresses that a pod has. Addresses that somebody wrote into a slice
// by hand may well be a load balancer's.
func (t *Table) podsAt(services map[Name]time.Time) map[string]bool {
	asked := map[string]bool{}
	for name := range services {
		for _, a := range externalAddresses(t.services[name]) {
			asked[a] = true
		}
	}
	out := map[string]bool{}
	if len(asked) == 0 {
		return out
	}
	for _, of := range t.slices {
		for _, s := range of {
			for i := range s.Endpoints {
				if e := &s.Endpoints[i]; isPod(e) && len(e.Addresses) > 0 && asked[e.Addresses[0]] {
					out[e.Addresses[0]] = true
				}
			}
		}
	}
	return out
}

// notTaken leaves out addresses from outside that are a node's or a pod's: its traffic would be the service's.
func (t *Table) notTaken(all []Frontend, problems []Problem, pods map[string]bool) ([]Frontend, []Problem) {
	return slices.DeleteFunc(all, func(f Frontend) bool {
		if f.Kind != LoadBalancer && f.Kind != ExternalIP {
			return false
		}
		whose := t.taken[f.Address.Addr()]
		if whose == "" && pods[f.Address.Addr().String()] {
			whose = "a pod"
		}
		if whose == "" {
			return false
		}
		problems = appendProblem(problems, Problem{Service: f.Service, Address: f.Address,
			Reason: fmt.Sprintf("isn't served, as it is the address of %s; expected one that nobody has", whose)})
		return true
	}), problems
}
