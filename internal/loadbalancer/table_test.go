package loadbalancer

import (
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
)

func took(t *Table) map[string]int {
	out := map[string]int{}
	for _, c := range t.Take(here) {
		n := -1
		for _, f := range c.Frontends {
			n = len(f.Backends)
		}
		out[c.Service.Name] = n
	}
	return out
}

func TestTable(t *testing.T) {
	tab := NewTable()
	expect := func(when, name string, backends int) {
		t.Helper()
		select {
		case <-tab.Changed():
		default:
			t.Errorf("%s: no change is told", when)
		}
		got := took(tab)
		if n, ok := got[name]; !ok || n != backends || len(got) != 1 {
			t.Errorf("%s: %v, expected %s with %d backends (-1: no frontend)", when, got, name, backends)
		}
	}
	// A slice may be told before its service, and by another name later.
	tab.SetSlice(endpointSlice("s1", 8080, endpoint("10.0.0.1")))
	expect("slice", "web", -1)
	tab.SetService(service(nil))
	expect("service", "web", 1)
	tab.SetSlice(endpointSlice("s2", 8080, endpoint("10.0.0.2"), endpoint("10.0.0.3")))
	expect("another slice", "web", 3)
	tab.DeleteSlice(Name{"default", "s1"})
	expect("a slice less", "web", 2)
	moved := endpointSlice("s2", 8080, endpoint("10.0.0.2"))
	moved.Labels = map[string]string{discoveryv1.LabelServiceName: "api"}
	tab.SetSlice(moved)
	<-tab.Changed()
	if got := took(tab); got["web"] != 0 || got["api"] != -1 || len(got) != 2 {
		t.Errorf("a slice of another service: %v, expected web without backends and api unknown", got)
	}
	moved = moved.DeepCopy()
	moved.Labels = nil
	tab.SetSlice(moved)
	expect("a slice of nobody", "api", -1)
	tab.MarkAll()
	expect("all again", "web", 0)
	tab.DeleteService(Name{"default", "web"})
	expect("gone", "web", -1)
	if got := took(tab); len(got) > 0 {
		t.Errorf("%v without a change", got)
	}
}
