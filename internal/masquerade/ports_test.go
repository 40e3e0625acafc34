package masquerade

import (
	"math/rand/v2"
	"testing"
)

func TestChoosePorts(t *testing.T) {
	tests := []struct {
		name      string
		ephemeral Ports
		want      Ports
		bad       bool
	}{
		{name: "Linux's default", ephemeral: Ports{32768, 60999}, want: Ports{1024, 29999}},
		{name: "nearly everything", ephemeral: Ports{1024, 65535}, bad: true},
		{name: "from 15000, as some guides tune it", ephemeral: Ports{15000, 65000}, want: Ports{1024, 14999}},
		{name: "from 1024 up to the node ports", ephemeral: Ports{1024, 29999}, want: Ports{32768, 65535}},
		{name: "from 10000", ephemeral: Ports{10000, 65535}, want: Ports{1024, 9999}},
		{name: "from 2000", ephemeral: Ports{2000, 65000}, bad: true},
		{name: "overlaps the node ports", ephemeral: Ports{31000, 40000}, want: Ports{1024, 29999}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ChoosePorts(tt.ephemeral, NodePorts())
			if (err != nil) != tt.bad || got != tt.want {
				t.Errorf("got %s, %v, expected %s, an error: %t", got, err, tt.want, tt.bad)
			}
		})
	}
}

func TestChoosePortsNeverOverlaps(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	apart := func(a, b Ports) bool { return a.Last < b.First || b.Last < a.First }
	for range 20000 {
		a, b := uint16(1+r.IntN(65535)), uint16(1+r.IntN(65535))
		e := Ports{min(a, b), max(a, b)}
		got, err := ChoosePorts(e, NodePorts())
		if err != nil {
			continue
		}
		if got.First < 1024 || got.size() < fewest || !apart(got, e) || !apart(got, NodePorts()) {
			t.Fatalf("seed %d: beside %s got %s", seed, e, got)
		}
	}
}

func TestParsePorts(t *testing.T) {
	for in, want := range map[string]Ports{"1024-29999": {1024, 29999}, "32768\t60999\n": {32768, 60999}, "5-5": {5, 5}} {
		if got, err := ParsePorts(in); err != nil || got != want {
			t.Errorf("%q gives %s, %v, expected %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "1024", "2-1", "0-5", "1-70000", "1-2-3", "a-b", "-5"} {
		if got, err := ParsePorts(in); err == nil {
			t.Errorf("%q gives %s, expected an error", in, got)
		}
	}
}

func FuzzParsePorts(f *testing.F) {
	f.Add("1024-29999")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePorts(s); err == nil && (p.First < 1 || p.Last < p.First) {
			t.Errorf("%q gives %s", s, p)
		}
	})
}
