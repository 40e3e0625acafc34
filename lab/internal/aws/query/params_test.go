package query

import (
	"net/url"
	"slices"
	"testing"
)

func params(t *testing.T, raw string) *Params {
	t.Helper()
	v, err := url.ParseQuery(raw)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParseParams(v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParams(t *testing.T) {
	p := params(t, "A.2=y&A.1=x&A.10=z&M.member.1=m&F.1.Name=n&F.1.Value.1=v&F.1.Value.2=w&S.Value=true&N=7&IP=10.0.0.1")
	if got := p.List("A"); !slices.Equal(got, []string{"x", "y", "z"}) {
		t.Errorf("list %v", got)
	}
	if got := p.List("M"); !slices.Equal(got, []string{"m"}) {
		t.Errorf("member list %v", got)
	}
	f := p.Structs("F")
	if len(f) != 1 || f[0].String("Name") != "n" || !slices.Equal(f[0].List("Value"), []string{"v", "w"}) {
		t.Errorf("structs %+v", f)
	}
	if !p.Struct("S").Bool("Value") || p.Int("N", 0) != 7 || p.Addr("IP").String() != "10.0.0.1" || p.Err() != nil {
		t.Errorf("scalars, error %v", p.Err())
	}
	if got := p.Names(); !slices.Equal(got, []string{"A", "F", "IP", "M", "N", "S"}) {
		t.Errorf("names %v", got)
	}
	for name, use := range map[string]func(*Params){
		"number":  func(p *Params) { p.Int("X", 0) },
		"count":   func(p *Params) { p.Count("Z") },
		"bool":    func(p *Params) { p.Bool("X") },
		"address": func(p *Params) { p.Addr("X") },
		"prefix":  func(p *Params) { p.Prefix("X") },
		"missing": func(p *Params) { p.Required("Y") },
		"index":   func(p *Params) { p.List("L") },
	} {
		p := params(t, "X=what&Z=0&L.x=1")
		use(p)
		if p.Err() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if a, b := params(t, "b=2&a=1&ClientToken=x"), params(t, "a=1&b=2&ClientToken=y"); a.Canonical("ClientToken") != b.Canonical("ClientToken") {
		t.Error("the same parameters have two canonical texts")
	}
}

// FuzzParams: reading any form in every way ends without a panic, and lists keep to what was sent.
func FuzzParams(f *testing.F) {
	f.Add("A.1=x&A.1.B=y&A.member.2.C=z")
	f.Add("A.999999999999999999999=1&.=2&A..=3&=4")
	f.Fuzz(func(t *testing.T, raw string) {
		v, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		p, err := ParseParams(v)
		if err != nil {
			return
		}
		for _, name := range append(p.Names(), "A") {
			if n := len(p.Structs(name)); n > len(v) {
				t.Fatalf("%d structures of %d parameters", n, len(v))
			}
			p.List(name)
			p.Int(name, 0)
			p.Bool(name)
			p.Addrs(name)
			p.Prefixes(name)
			p.Struct(name).Names()
		}
		again, err := url.ParseQuery(p.Canonical())
		if err != nil || len(again) != len(v) {
			t.Fatalf("canonical text of %q is %q: %v", raw, p.Canonical(), err)
		}
	})
}
