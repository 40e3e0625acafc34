package iampolicy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// operator is a condition operator taken apart: its comparison, whether it is negated, and how it treats
// several values and a missing key.
type operator struct {
	compare  func(want, have string) bool
	negate   bool
	ifExists bool
	set      string
	null     bool
}

func parseOperator(text string) (operator, error) {
	op := operator{}
	name := text
	if set, rest, ok := strings.Cut(name, ":"); ok {
		if set != "ForAllValues" && set != "ForAnyValue" {
			return op, fmt.Errorf("condition operator %q: unknown qualifier %q", text, set)
		}
		op.set, name = set, rest
	}
	if base, ok := strings.CutSuffix(name, "IfExists"); ok {
		op.ifExists, name = true, base
	}
	if name == "Null" {
		if op.ifExists || op.set != "" {
			return op, fmt.Errorf("condition operator %q: Null stands alone", text)
		}
		op.null = true
		return op, nil
	}
	if compare, ok := comparisons()[name]; ok {
		op.compare = compare
		return op, nil
	}
	for _, negated := range []struct{ name, base string }{
		{"StringNotEquals", "StringEquals"}, {"StringNotEqualsIgnoreCase", "StringEqualsIgnoreCase"}, {"StringNotLike", "StringLike"},
		{"ArnNotEquals", "ArnEquals"}, {"ArnNotLike", "ArnLike"}, {"NumericNotEquals", "NumericEquals"}, {"DateNotEquals", "DateEquals"},
		{"NotIpAddress", "IpAddress"},
	} {
		if name == negated.name {
			op.compare, op.negate = comparisons()[negated.base], true
			return op, nil
		}
	}
	return op, fmt.Errorf("condition operator %q is unknown", text)
}

func comparisons() map[string]func(want, have string) bool {
	number := func(cmp func(a, b float64) bool) func(want, have string) bool {
		return func(want, have string) bool {
			w, err1 := strconv.ParseFloat(want, 64)
			h, err2 := strconv.ParseFloat(have, 64)
			return err1 == nil && err2 == nil && cmp(h, w)
		}
	}
	date := func(cmp func(a, b time.Time) bool) func(want, have string) bool {
		return func(want, have string) bool {
			w, ok1 := parseTime(want)
			h, ok2 := parseTime(have)
			return ok1 && ok2 && cmp(h, w)
		}
	}
	return map[string]func(want, have string) bool{
		"StringEquals":             func(w, h string) bool { return w == h },
		"StringEqualsIgnoreCase":   strings.EqualFold,
		"StringLike":               Match,
		"ArnEquals":                Match,
		"ArnLike":                  Match,
		"Bool":                     strings.EqualFold,
		"NumericEquals":            number(func(a, b float64) bool { return a == b }),
		"NumericLessThan":          number(func(a, b float64) bool { return a < b }),
		"NumericLessThanEquals":    number(func(a, b float64) bool { return a <= b }),
		"NumericGreaterThan":       number(func(a, b float64) bool { return a > b }),
		"NumericGreaterThanEquals": number(func(a, b float64) bool { return a >= b }),
		"DateEquals":               date(func(a, b time.Time) bool { return a.Equal(b) }),
		"DateLessThan":             date(func(a, b time.Time) bool { return a.Before(b) }),
		"DateLessThanEquals":       date(func(a, b time.Time) bool { return !a.After(b) }),
		"DateGreaterThan":          date(func(a, b time.Time) bool { return a.After(b) }),
		"DateGreaterThanEquals":    date(func(a, b time.Time) bool { return !a.Before(b) }),
		"IpAddress": func(want, have string) bool {
			a, err := netip.ParseAddr(have)
			if err != nil {
				return false
			}
			if p, err := netip.ParsePrefix(want); err == nil {
				return p.Contains(a)
			}
			return want == have
		},
	}
}

func parseTime(text string) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, true
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(n, 0), true
	}
	return time.Time{}, false
}

// holds says whether every operator and every key of the condition holds.
func (c Condition) holds(ctx map[string][]string) bool {
	for name, keys := range c {
		op, err := parseOperator(name)
		if err != nil {
			return false
		}
		for key, want := range keys {
			have, present := ctx[strings.ToLower(key)]
			if !op.holds(want, have, present, ctx) {
				return false
			}
		}
	}
	return true
}

func (op operator) holds(want List, have []string, present bool, ctx map[string][]string) bool {
	if op.null {
		return slices.ContainsFunc(want, func(w string) bool { return strings.EqualFold(w, "true") }) == !present
	}
	if !present {
		// A negated comparison holds for a key that isn't there; so does ForAllValues.
		return op.ifExists || op.negate || op.set == "ForAllValues"
	}
	one := func(h string) bool {
		matched := slices.ContainsFunc(want, func(w string) bool { return op.compare(expand(w, ctx), h) })
		return matched != op.negate
	}
	if op.set == "ForAllValues" || op.set == "" && op.negate {
		return !slices.ContainsFunc(have, func(h string) bool { return !one(h) })
	}
	return slices.ContainsFunc(have, one)
}
