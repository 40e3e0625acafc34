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

// chosen are those that Explain says may be chosen, as Resolve has them.
func chosen(all []Verdict) []netip.AddrPort {
	var out []netip.AddrPort
	for _, v := range all {
		if v.Chosen {
			out = append(out, v.Address())
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

// What is told of each endpoint is what Resolve does with it, for whatever services and slices.
func TestExplainAgreesWithResolve(t *testing.T) {
	for seed := range uint64(20000) {
		r := rand.New(rand.NewPCG(seed, 7))
		n := Node{Name: fmt.Sprint("n", r.IntN(3)), Zone: []string{"", "a", "b"}[r.IntN(3)]}
		s, all := randomService(r)
		for _, f := range Resolve(n, s, all) {
			told := Explain(n, s, all, f)
			if got := chosen(told); !slices.Equal(got, f.Backends) {
				t.Fatalf("seed %d: %s on %+v: told %v, resolved %v: %+v", seed, f.Address, n, got, f.Backends, told)
			}
			for _, v := range told {
				if v.Reason == "" || v.State == "" || v.Chosen != (v.Reason == Choosable || v.Reason == LastResort) {
					t.Fatalf("seed %d: %+v isn't whole", seed, v)
				}
			}
			if why := Nobody(told); (why == "") != (len(f.Backends) > 0) {
				t.Fatalf("seed %d: %d backends, and nobody because %q", seed, len(f.Backends), why)
			}
		}
	}
}

// randomService has slices of both families, with and without the port, and endpoints in every state.
func randomService(r *rand.Rand) (*corev1.Service, []*discoveryv1.EndpointSlice) {
	s := service(func(s *corev1.Service) {
		if r.IntN(3) == 0 {
			s.Spec.ClusterIPs = []string{"172.20.0.10", "fd00:1::10"}
		}
		if r.IntN(3) == 0 {
			local := corev1.ServiceInternalTrafficPolicyLocal
			s.Spec.InternalTrafficPolicy = &local
		}
	})
	hinted := r.IntN(3)
	var all []*discoveryv1.EndpointSlice
	for i := range r.IntN(4) {
		es := endpointSlice(fmt.Sprint(i), int32(8080+r.IntN(2)))
		if r.IntN(4) == 0 {
			es.AddressType = discoveryv1.AddressTypeIPv6
		}
		if r.IntN(6) == 0 {
			es.Ports[0].Name = ptr("other")
		}
		for j := range r.IntN(5) {
			e := randomEndpoint(r, i*10+j, hinted)
			if es.AddressType == discoveryv1.AddressTypeIPv6 && r.IntN(8) > 0 {
				e.Addresses = []string{fmt.Sprintf("fd00:2::%d", i*10+j+1)}
			}
			if r.IntN(20) == 0 {
				e.Addresses = nil
			}
			es.Endpoints = append(es.Endpoints, e)
		}
		all = append(all, es)
	}
	return s, all
}

func TestExplain(t *testing.T) {
	local := corev1.ServiceInternalTrafficPolicyLocal
	for name, test := range map[string]struct {
		local  bool
		slices []*discoveryv1.EndpointSlice
		want   map[string]Reason
	}{
		"each by itself": {slices: []*discoveryv1.EndpointSlice{
			endpointSlice("a", 8080, endpoint("10.0.0.1"), endpoint("10.0.0.2", ready(false)), endpoint("10.0.0.3", terminating(true)),
				endpoint("10.0.0.4", terminating(false)), endpoint("nonsense")),
			{AddressType: discoveryv1.AddressTypeIPv6, Endpoints: []discoveryv1.Endpoint{endpoint("fd00::1")}, Ports: endpointSlice("", 1).Ports},
			{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{endpoint("10.0.0.9")}},
		}, want: map[string]Reason{"10.0.0.1:8080": Choosable, "10.0.0.2:8080": NotReady, "10.0.0.3:8080": OthersAreReady, "10.0.0.4:8080": Ended,
			"nonsense": BadAddress, "[fd00::1]:1": OtherFamily, "10.0.0.9": NoSuchPort}},
		"the last resort": {slices: []*discoveryv1.EndpointSlice{endpointSlice("a", 80, endpoint("10.0.0.3", terminating(true)))},
			want: map[string]Reason{"10.0.0.3:80": LastResort}},
		"local": {local: true, slices: []*discoveryv1.EndpointSlice{endpointSlice("a", 80, endpoint("10.0.0.1", on("n2")), endpoint("10.0.0.2", on("n1")))},
			want: map[string]Reason{"10.0.0.1:80": OnOtherNode, "10.0.0.2:80": Choosable}},
		"zones": {slices: []*discoveryv1.EndpointSlice{endpointSlice("a", 80, endpoint("10.0.0.1", forZones("b")), endpoint("10.0.0.2", forZones("a")))},
			want: map[string]Reason{"10.0.0.1:80": OtherZoneHint, "10.0.0.2:80": Choosable}},
		"nodes": {slices: []*discoveryv1.EndpointSlice{endpointSlice("a", 80, endpoint("10.0.0.1", forNodes("n2")), endpoint("10.0.0.2", forNodes("n1")))},
			want: map[string]Reason{"10.0.0.1:80": OtherNodeHint, "10.0.0.2:80": Choosable}},
	} {
		t.Run(name, func(t *testing.T) {
			s := service(func(s *corev1.Service) {
				if test.local {
					s.Spec.InternalTrafficPolicy = &local
				}
			})
			got := map[string]Reason{}
			for _, v := range Explain(here, s, test.slices, Resolve(here, s, test.slices)[0]) {
				got[v.Endpoint] = v.Reason
			}
			if len(got) != len(test.want) {
				t.Errorf("found %v, expected %v", got, test.want)
			}
			for e, want := range test.want {
				if got[e] != want {
					t.Errorf("%s: found %q, expected %q", e, got[e], want)
				}
			}
		})
	}
}
