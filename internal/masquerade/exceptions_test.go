package masquerade

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestParseExceptions(t *testing.T) {
	tests := []struct {
		name, in string
		bad      bool
		has, not []string // what is native with the ip-masq-agent on
	}{
		{name: "empty", has: []string{"10.0.0.0/8", "192.168.0.0/16", "169.254.0.0/16", "fe80::/10"}},
		{
			name: "the guides' document", in: "nonMasqueradeCIDRs:\n- 10.40.0.0/14\nresyncInterval: 60s\nmasqLinkLocal: true\n",
			has: []string{"10.40.0.0/14", "fe80::/10"}, not: []string{"10.0.0.0/8", "169.254.0.0/16"},
		},
		{name: "JSON", in: `{"nonMasqueradeCIDRs":["192.0.2.1/24","fd00::/8"],"masqLinkLocalIPv6":true}`, has: []string{"192.0.2.0/24", "fd00::/8", "169.254.0.0/16"}, not: []string{"fe80::/10"}},
		{name: "no prefix", in: "nonMasqueradeCIDRs: [10.0.0.0]", bad: true},
		{name: "unknown name", in: "nonMasqueradeCIDR: [10.0.0.0/8]", bad: true},
		{name: "no document", in: "[", bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, err := ParseExceptions([]byte(tt.in))
			if (err != nil) != tt.bad {
				t.Fatalf("error %v, expected one: %t", err, tt.bad)
			}
			if err != nil {
				return
			}
			native := Native(true, e)
			for _, s := range tt.has {
				if !slices.Contains(native, netip.MustParsePrefix(s)) {
					t.Errorf("%s is missing from %v", s, native)
				}
			}
			for _, s := range tt.not {
				if slices.Contains(native, netip.MustParsePrefix(s)) {
					t.Errorf("%s is in %v", s, native)
				}
			}
		})
	}
}

func TestExceptionsOff(t *testing.T) {
	got := Native(false, Exceptions{NonMasqueradeCIDRs: prefixes("10.0.0.0/8"), MasqLinkLocal: true})
	if want := prefixes("169.254.0.0/16", "fe80::/10"); !slices.Equal(got, want) {
		t.Errorf("native are %v, expected %v", got, want)
	}
}

func TestReadExceptions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ip-masq-agent")
	if e, err := ReadExceptions(path); err != nil || len(e.NonMasqueradeCIDRs) != 0 {
		t.Errorf("a missing file gives %+v, %v", e, err)
	}
	if err := os.WriteFile(path, []byte("nonMasqueradeCIDRs: [10.0.0.0/33]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadExceptions(path); err == nil {
		t.Error("a bad prefix is taken")
	}
}

func FuzzParseExceptions(f *testing.F) {
	f.Add([]byte("nonMasqueradeCIDRs: [10.0.0.0/8]\nmasqLinkLocal: true"))
	f.Add([]byte(`{"nonMasqueradeCIDRs":["::ffff:10.0.0.0/104"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseExceptions(b)
		if err != nil {
			return
		}
		for _, p := range e.NonMasqueradeCIDRs {
			if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() && p.Bits() >= 96 {
				t.Errorf("%q gives %s, expected prefixes in their shortest form", b, p)
			}
		}
	})
}
