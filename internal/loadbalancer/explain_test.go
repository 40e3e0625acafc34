package loadbalancer

import (
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

// What is told of each endpoint is what Resolve does with it, for whatever services, slices and nodes.
func TestExplainAgreesWithResolve(t *testing.T) {
	looked, nobody := 0, 0
	for seed := range uint64(20000) {
		r := rand.New(rand.NewPCG(seed, 7))
		w := randomWorld(r)
		w.node.Settings.WithoutHints = r.IntN(4) == 0
		for _, es := range w.slices {
			switch {
			case r.IntN(10) == 0 && len(es.Endpoints) > 0:
				es.Endpoints[0].Addresses = nil
			case r.IntN(10) == 0 && len(es.Endpoints) > 0:
				es.Endpoints[0].Addresses = []string{"nonsense"}
			case r.IntN(10) == 0:
				es.Ports[0].Name = ptr("other")
			}
		}
		for _, f := range Resolve(w.node, w.service, w.slices) {
			told := Explain(w.node, w.service, w.slices, f)
			if got := chosen(told); !slices.Equal(got, f.Backends) {
				t.Fatalf("seed %d: %s (%s, %s) on %+v: told %v, resolved %v: %+v", seed, f.Key(), f.Kind, f.Scope, w.node, got, f.Backends, told)
			}
			for _, v := range told {
				if v.Reason == "" || v.State == "" || v.Chosen != (v.Reason == Choosable || v.Reason == LastResort) {
					t.Fatalf("seed %d: %+v isn't whole", seed, v)
				}
			}
			if why := Nobody(told); (why == "") != (len(f.Backends) > 0) {
				t.Fatalf("seed %d: %d backends, and nobody because %q", seed, len(f.Backends), why)
			}
			if looked++; len(f.Backends) == 0 {
				nobody++
			}
		}
	}
	if looked < 20000 || nobody < 1000 || nobody > looked*9/10 {
		t.Errorf("%d frontends, %d of them without a backend: too few to mean anything", looked, nobody)
	}
}

func TestLook(t *testing.T) {
	tab := NewTable()
	tab.SetService(service(nil))
	tab.SetSlice(endpointSlice("s1", 8080, endpoint("10.0.0.1")))
	for range 2 { // it takes nothing away
		if got := tab.Look(here); len(got) != 1 || len(got[0].Frontends) != 1 || len(got[0].Frontends[0].Backends) != 1 {
			t.Fatalf("found %+v, expected one frontend with one backend", got)
		}
	}
	if got := took(tab); got["web"] != 1 {
		t.Errorf("taken %v, expected the service with its backend", got)
	}
	if s, endpoints := tab.Of(Name{"default", "web"}); s == nil || len(endpoints) != 1 {
		t.Errorf("found %v, %v, expected the service and its slice", s, endpoints)
	}
	if s, _ := tab.Of(Name{"default", "db"}); s != nil {
		t.Errorf("found %v, expected none", s)
	}
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
