package masquerade

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func prefixes(in ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range in {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestFlatten(t *testing.T) {
	native, both, stack := Traits{Native: true}, Traits{Native: true, Stack: true}, Traits{Stack: true}
	tests := []struct {
		name string
		in   Destinations
		want map[string]Traits
	}{
		{name: "nothing", want: map[string]Traits{}},
		{
			name: "a service inside the VPC is native too",
			in:   Destinations{Native: prefixes("10.0.0.0/8"), Stack: prefixes("10.100.0.0/16", "203.0.113.7/32")},
			want: map[string]Traits{"10.0.0.0/8": native, "10.100.0.0/16": both, "203.0.113.7/32": stack},
		},
		{
			name: "what a wider one says already",
			in:   Destinations{Native: prefixes("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/8"), Stack: prefixes("10.1.2.0/24")},
			want: map[string]Traits{"10.0.0.0/8": native, "10.1.2.0/24": both},
		},
		{
			name: "bits behind the length; both families; mapped",
			in:   Destinations{Native: prefixes("10.1.2.3/8", "fd00::1/64", "::ffff:192.168.1.1/112", "0.0.0.0/0")},
			want: map[string]Traits{"fd00::/64": native, "0.0.0.0/0": native},
		},
		{
			name: "native inside a range of services",
			in:   Destinations{Native: prefixes("172.20.1.0/24"), Stack: prefixes("172.20.0.0/16")},
			want: map[string]Traits{"172.20.0.0/16": stack, "172.20.1.0/24": both},
		},
		{
			name: "invalid",
			in:   Destinations{Native: []netip.Prefix{{}}, Stack: prefixes("192.0.2.0/24")},
			want: map[string]Traits{"192.0.2.0/24": stack},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := map[string]Traits{}
			for p, traits := range Flatten(tt.in) {
				got[p.String()] = traits
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("expected -, got +\n%s", diff)
			}
		})
	}
}

// What a lookup of the longest prefix finds is the union of everything that covers the address.
func TestFlattenMeansTheSame(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	// Few bits vary, so that prefixes nest.
	address := func() netip.Addr {
		if r.IntN(4) == 0 {
			return netip.AddrFrom16([16]byte{0xfd, 0, 0, byte(r.IntN(3)), 15: byte(r.IntN(256))})
		}
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(256)), byte(r.IntN(4))})
	}
	some := func() []netip.Prefix {
		var out []netip.Prefix
		for range r.IntN(12) {
			a := address()
			out = append(out, netip.PrefixFrom(a, r.IntN(a.BitLen()+1)))
		}
		return out
	}
	covered := func(in []netip.Prefix, a netip.Addr) bool {
		for _, p := range in {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	for round := range 2000 {
		d := Destinations{Native: some(), Stack: some()}
		table := Flatten(d)
		for range 20 {
			a := address()
			var got Traits
			for bits := a.BitLen(); bits >= 0; bits-- {
				if traits, ok := table[netip.PrefixFrom(a, bits).Masked()]; ok {
					got = traits
					break
				}
			}
			want := Traits{Native: covered(d.Native, a), Stack: covered(d.Stack, a)}
			if got != want {
				t.Fatalf("seed %d, round %d: %s is %+v, expected %+v by %+v; the table is %v", seed, round, a, got, want, d, table)
			}
		}
	}
}
