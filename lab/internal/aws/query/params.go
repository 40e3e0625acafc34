// Package query is AWS's Query protocol: parameters in a form, answers in XML. It verifies signatures,
// decides by policies, throttles and records; a service adds its actions.
package query

import (
	"cmp"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
)

// Params are a request's parameters, or the part of them that a structure has.
type Params struct {
	values map[string]string
	// prefix is for messages.
	prefix string
	first  *apierror.Error
}

const (
	maxParams = 10000
	maxIndex  = 100000
)

// ParseParams reads a form. A parameter may occur once.
func ParseParams(form url.Values) (*Params, error) {
	if len(form) > maxParams {
		return nil, apierror.New("RequestEntityTooLarge", "The request has %d parameters, at most %d are read", len(form), maxParams)
	}
	p := &Params{values: make(map[string]string, len(form))}
	for k, v := range form {
		if len(v) != 1 {
			return nil, apierror.New("InvalidParameterCombination", "The parameter %s may be specified once", k)
		}
		p.values[k] = v[0]
	}
	return p, nil
}

// Names are the first parts of the parameters' names, sorted.
func (p *Params) Names() []string {
	seen := map[string]bool{}
	for k := range p.values {
		name, _, _ := strings.Cut(k, ".")
		seen[name] = true
	}
	out := make([]string, 0, len(seen))
	for k := range seen {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Err is the first thing that was wrong with what was read.
func (p *Params) Err() error {
	if p.first == nil {
		return nil
	}
	return p.first
}

func (p *Params) fail(code, format string, args ...any) {
	if p.first == nil {
		p.first = apierror.New(code, format, args...)
	}
}

// Has says whether a parameter, or a part of it, is there.
func (p *Params) Has(name string) bool {
	if _, ok := p.values[name]; ok {
		return true
	}
	for k := range p.values {
		if strings.HasPrefix(k, name+".") {
			return true
		}
	}
	return false
}

// String is a text; empty if absent.
func (p *Params) String(name string) string { return p.values[name] }

// Required is a text that must be there.
func (p *Params) Required(name string) string {
	v := p.values[name]
	if v == "" {
		p.fail("MissingParameter", "The request must contain the parameter %s", p.prefix+name)
	}
	return v
}

// Int is a number; absent, it is otherwise.
func (p *Params) Int(name string, otherwise int) int {
	v, ok := p.values[name]
	if !ok {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		p.fail("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Expecting a number.", v, p.prefix+name)
	}
	return n
}

// Count is a number that must be above zero if it is there.
func (p *Params) Count(name string) int {
	n := p.Int(name, 0)
	if _, ok := p.values[name]; ok && n < 1 {
		p.fail("InvalidParameterValue", "Value (%d) for parameter %s is invalid. Expecting a positive number.", n, p.prefix+name)
	}
	return n
}

// Bool is true or false; absent, it is false.
func (p *Params) Bool(name string) bool {
	switch v := p.values[name]; strings.ToLower(v) {
	case "true":
		return true
	case "", "false":
	default:
		p.fail("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Expecting true or false.", v, p.prefix+name)
	}
	return false
}

// Addr is an IPv4 address; absent, it is invalid.
func (p *Params) Addr(name string) netip.Addr {
	v, ok := p.values[name]
	if !ok {
		return netip.Addr{}
	}
	return p.addr(name, v)
}

func (p *Params) addr(name, v string) netip.Addr {
	a, err := netip.ParseAddr(v)
	if err != nil || !a.Is4() {
		p.fail("InvalidParameterValue", "invalid value for parameter %s: '%s'", p.prefix+name, v)
		return netip.Addr{}
	}
	return a
}

// Addrs is a list of IPv4 addresses.
func (p *Params) Addrs(name string) []netip.Addr {
	var out []netip.Addr
	for _, v := range p.List(name) {
		out = append(out, p.addr(name, v))
	}
	return out
}

// Prefix reads one IPv4 CIDR.
func (p *Params) Prefix(name string) netip.Prefix { return p.prefixOf(name, p.values[name]) }

func (p *Params) prefixOf(name, v string) netip.Prefix {
	x, err := netip.ParsePrefix(v)
	if err != nil || !x.Addr().Is4() {
		p.fail("InvalidParameterValue", "invalid value for parameter %s: '%s'", p.prefix+name, v)
		return netip.Prefix{}
	}
	return x
}

// Prefixes is a list of IPv4 CIDRs.
func (p *Params) Prefixes(name string) []netip.Prefix {
	var out []netip.Prefix
	for _, v := range p.List(name) {
		out = append(out, p.prefixOf(name, v))
	}
	return out
}

// List is a list of texts: Name.1, Name.2, or Name.member.1 as IAM and STS have it.
func (p *Params) List(name string) []string {
	var out []string
	for _, s := range p.Structs(name) {
		if v, ok := s.values[""]; ok {
			out = append(out, v)
		}
	}
	return out
}

// Structs is a list of structures: Name.1.Field, Name.2.Field.
func (p *Params) Structs(name string) []*Params {
	parts := map[int]*Params{}
	for k, v := range p.values {
		rest, ok := strings.CutPrefix(k, name+".")
		if !ok {
			continue
		}
		rest = strings.TrimPrefix(rest, "member.")
		number, field, _ := strings.Cut(rest, ".")
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || n > maxIndex {
			p.fail("InvalidParameterValue", "The parameter %s has an invalid index", p.prefix+k)
			continue
		}
		s := parts[n]
		if s == nil {
			s = &Params{values: map[string]string{}, prefix: p.prefix + name + "." + number + "."}
			parts[n] = s
		}
		s.values[field] = v
	}
	type numbered struct {
		n int
		p *Params
	}
	var all []numbered
	for n, s := range parts {
		all = append(all, numbered{n, s})
	}
	slices.SortFunc(all, func(a, b numbered) int { return cmp.Compare(a.n, b.n) })
	out := make([]*Params, 0, len(all))
	for _, s := range all {
		out = append(out, s.p)
	}
	return out
}

// Struct is one structure: Name.Field.
func (p *Params) Struct(name string) *Params {
	out := &Params{values: map[string]string{}, prefix: p.prefix + name + "."}
	for k, v := range p.values {
		if rest, ok := strings.CutPrefix(k, name+"."); ok {
			out.values[rest] = v
		}
	}
	return out
}

// Merge makes what was wrong with a part wrong with the whole.
func (p *Params) Merge(part *Params) {
	if p.first == nil {
		p.first = part.first
	}
}

// Canonical is a text that is the same for the same parameters, whatever their order, without those named.
func (p *Params) Canonical(without ...string) string {
	v := url.Values{}
	for k, x := range p.values {
		name, _, _ := strings.Cut(k, ".")
		if !slices.Contains(without, name) {
			v.Set(k, x)
		}
	}
	return v.Encode()
}
