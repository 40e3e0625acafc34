package kubeproxy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

func addresses(texts ...string) []loadbalancer.Address {
	var out []loadbalancer.Address
	for _, s := range texts {
		out = append(out, loadbalancer.Address{AddrPort: netip.MustParseAddrPort(s), Protocol: "TCP"})
	}
	return out
}

func TestLacks(t *testing.T) {
	rules := frontends(t, "10.0.0.1:80/TCP", "10.0.0.2:80/TCP", "10.0.0.2:80/UDP", "10.0.0.3:80/TCP", ":30001/TCP", ":30002/TCP", ":30003/TCP")
	wanted := addresses("10.0.0.1:80", "10.0.0.2:80", "0.0.0.0:30001", "[::]:30002", "10.0.0.9:80")
	served := addresses("10.0.0.1:80", "0.0.0.0:30001")
	got := Lacks(rules, served, wanted)
	want := []Frontend{nodePort(30002, "TCP"), {netip.MustParseAddrPort("10.0.0.2:80"), "TCP"}}
	if !slices.Equal(got, want) {
		t.Errorf("it lacks %v, expected %v", got, want)
	}
	if got := Lacks(rules, wanted, wanted); len(got) != 0 {
		t.Errorf("it lacks %v", got)
	}
}

func TestDecide(t *testing.T) {
	found := Found{Kinds: []string{KindIPTables}, Chains: 9, Frontends: frontends(t, "10.0.0.1:80/TCP")}
	some := []Frontend{nodePort(30002, "TCP"), nodePort(30003, "TCP")}
	for _, test := range []struct {
		name   string
		in     Situation
		remove bool
		says   string
	}{
		{"never was there", Situation{Filled: true, Gone: time.Hour}, false, ""},
		{"runs, in parity", Situation{Runs: true, Found: found, Filled: true}, false, "has each of the 1 addresses that kube-proxy's rules have; take it away"},
		{"runs, not in parity", Situation{Runs: true, Found: found, Filled: true, Lacks: some}, false, "leave it where it is: weft doesn't serve node port 30002/TCP and 1 more"},
		{"runs, before there is anything", Situation{Runs: true, Found: found}, false, "aren't filled yet"},
		{"runs without rules", Situation{Runs: true, Filled: true}, false, "runs beside weft"},
		{"has just gone", Situation{Found: found, Filled: true, Gone: time.Second}, false, ""},
		{"has gone", Situation{Found: found, Filled: true, Gone: Grace}, true, ""},
		{"has gone, before there is anything", Situation{Found: found, Gone: time.Hour}, false, ""},
		{"has gone, not in parity", Situation{Found: found, Filled: true, Gone: time.Hour, Lacks: some}, false, "rules (iptables) stay although it has gone: weft doesn't serve node port 30002/TCP"},
		{"ipvs alone", Situation{Found: Found{Kinds: []string{KindIPVS}, Stays: []string{"device stays"}}, Filled: true, Gone: time.Hour}, false, "device stays"},
	} {
		t.Run(test.name, func(t *testing.T) {
			remove, says := Decide(test.in)
			if remove != test.remove {
				t.Errorf("remove is %t", remove)
			}
			if text := strings.Join(says, "\n"); (text == "") != (test.says == "") || !strings.Contains(text, test.says) {
				t.Errorf("it says %q, expected %q", text, test.says)
			}
		})
	}
}
