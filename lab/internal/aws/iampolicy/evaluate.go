package iampolicy

import (
	"slices"
	"strings"
)

// Request is what is to be decided: one action on one resource, with the keys that conditions may name.
type Request struct {
	Action   string
	Resource string
	// Context maps condition keys to values; keys compare without regard to case.
	Context map[string][]string
}

// Decision is the outcome.
type Decision int

// The decisions. Whatever no statement mentions is denied.
const (
	ImplicitDeny Decision = iota
	ExplicitDeny
	Allow
)

// Evaluate decides by identity policies: an explicit deny wins, then an allow.
func Evaluate(docs []Document, r Request) Decision {
	out := ImplicitDeny
	ctx := lowerKeys(r.Context)
	for _, d := range docs {
		for i := range d.Statements {
			s := &d.Statements[i]
			if !s.matchesAction(r.Action) || !s.matchesResource(r.Resource, ctx) || !s.Condition.holds(ctx) {
				continue
			}
			if s.Effect == "Deny" {
				return ExplicitDeny
			}
			out = Allow
		}
	}
	return out
}

// Caller is who wants to take a role: of one kind (Federated, AWS, Service), under any of several names.
type Caller struct {
	Kind  string
	Names []string
}

// EvaluateTrust decides by a role's trust policy.
func EvaluateTrust(d Document, who Caller, action string, context map[string][]string) Decision {
	out := ImplicitDeny
	ctx := lowerKeys(context)
	for i := range d.Statements {
		s := &d.Statements[i]
		if !s.matchesAction(action) || !s.matchesCaller(who) || !s.Condition.holds(ctx) {
			continue
		}
		if s.Effect == "Deny" {
			return ExplicitDeny
		}
		out = Allow
	}
	return out
}

func (s *Statement) matchesCaller(who Caller) bool {
	if !s.NotPrincipal.IsZero() {
		return !s.NotPrincipal.includes(who)
	}
	return s.Principal.includes(who)
}

func (p Principal) includes(who Caller) bool {
	if p.Any {
		return who.Kind == "AWS"
	}
	for _, name := range p.ByKind[who.Kind] {
		if name == "*" || slices.Contains(who.Names, name) {
			return true
		}
	}
	return false
}

func (s *Statement) matchesAction(action string) bool {
	any := func(list List) bool {
		return slices.ContainsFunc(list, func(p string) bool { return Match(strings.ToLower(p), strings.ToLower(action)) })
	}
	if len(s.NotAction) > 0 {
		return !any(s.NotAction)
	}
	return any(s.Action)
}

func (s *Statement) matchesResource(resource string, ctx map[string][]string) bool {
	any := func(list List) bool {
		return slices.ContainsFunc(list, func(p string) bool { return Match(expand(p, ctx), resource) })
	}
	if len(s.NotResource) > 0 {
		return !any(s.NotResource)
	}
	return any(s.Resource)
}

func lowerKeys(in map[string][]string) map[string][]string {
	out := make(map[string][]string, len(in))
	for k, v := range in {
		out[strings.ToLower(k)] = v
	}
	return out
}

// expand replaces policy variables, ${aws:username}, by the context's values; an unknown one matches nothing.
func expand(pattern string, ctx map[string][]string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(pattern, "${")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		key, after, ok := strings.Cut(rest, "}")
		if !ok {
			b.WriteString("${" + rest)
			return b.String()
		}
		if v := ctx[strings.ToLower(key)]; len(v) == 1 {
			b.WriteString(v[0])
		} else {
			b.WriteString("${" + key + "}")
		}
		pattern = after
	}
}

// Match compares with wildcards: * for any text, ? for one character.
func Match(pattern, text string) bool {
	p, t := []rune(pattern), []rune(text)
	star, mark := -1, 0
	i, j := 0, 0
	for j < len(t) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == t[j]):
			i++
			j++
		case star >= 0:
			i = star + 1
			mark++
			j = mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
