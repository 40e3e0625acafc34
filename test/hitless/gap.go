package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// span is a time in which nothing came.
type span struct{ from, to time.Time }

func (s span) length() time.Duration { return s.to.Sub(s.from) }

// worthNoting is the shortest span that is kept.
const worthNoting = 10 * time.Millisecond

// union joins spans that overlap, in their order.
func union(lists ...[]span) (out []span) {
	for _, s := range sorted(slices.Concat(lists...)) {
		if n := len(out); n > 0 && !s.from.After(out[n-1].to) {
			out[n-1].to = later(out[n-1].to, s.to)
		} else {
			out = append(out, s)
		}
	}
	return out
}

func sorted(s []span) []span {
	slices.SortFunc(s, func(a, b span) int { return a.from.Compare(b.from) })
	return s
}

// covered is how much of s lies in the others, which are a union.
func covered(s span, others []span) (sum time.Duration) {
	first, _ := slices.BinarySearchFunc(others, s.from, func(o span, t time.Time) int { return o.to.Compare(t) })
	for _, o := range others[first:] {
		if !o.from.Before(s.to) {
			break
		}
		from, to := later(o.from, s.from), o.to
		if to.After(s.to) {
			to = s.to
		}
		sum += max(0, to.Sub(from))
	}
	return sum
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// gap is a span without an answer, and what is known of where it comes from.
type gap struct {
	traffic string
	span
	// machine is how long a thread that nothing may keep waiting was kept waiting in it: the machine, or one of
	// its processors, stood still. users is how long, besides, a thread like all others was kept waiting, asker the
	// same for one of the asking process.
	machine, users, asker time.Duration
}

// rest is what nothing explains: a packet that was lost and sent again would be here.
func (g gap) rest() time.Duration { return g.span.length() - g.machine - g.users - g.asker }

// gaps joins what the traffic missed with what the pulses missed.
func gaps(tallies []*tally, late lateness) []gap {
	first := union(late.machine)
	second := union(first, late.users)
	third := union(second, late.asker)
	var out []gap
	for _, t := range tallies {
		for _, s := range t.noted() {
			g := gap{traffic: t.name, span: s, machine: covered(s, first)}
			g.users = covered(s, second) - g.machine
			g.asker = covered(s, third) - g.machine - g.users
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b gap) int { return cmp.Compare(b.length(), a.length()) })
	return out
}

// during are the gaps that began in the phase, the longest first.
func during(all []gap, p phase) (out []gap) {
	for _, g := range all {
		if !g.from.Before(p.from) && g.from.Before(p.to) {
			out = append(out, g)
		}
	}
	return out
}

// longestRest is that of the gap that pulses explain least.
func longestRest(list []gap) (out time.Duration) {
	for _, g := range list {
		out = max(out, g.rest())
	}
	return out
}

// over counts the moments without an answer that were longer than d. One that several kinds of traffic
// share is one.
func over(list []gap, d time.Duration) int {
	var long []span
	for _, g := range list {
		if g.length() > d {
			long = append(long, g.span)
		}
	}
	return len(union(long))
}

// byRest has the gap that pulses explain least first.
func byRest(list []gap) []gap {
	out := slices.Clone(list)
	slices.SortStableFunc(out, func(a, b gap) int { return cmp.Compare(b.rest(), a.rest()) })
	return out
}

// apart are the first so many that don't overlap: a moment that several kinds of traffic share is told once.
func apart(list []gap, most int) (out []gap) {
	for _, g := range list {
		if len(out) == most {
			break
		}
		if !slices.ContainsFunc(out, func(o gap) bool { return o.from.Before(g.to) && g.from.Before(o.to) }) {
			out = append(out, g)
		}
	}
	return out
}

// before tells what happened last to each node's agent before the span's end, and how long before.
func (h *history) before(s span) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := map[string]moment{}
	for _, m := range h.moments {
		if m.at.Before(s.to) && !m.at.Before(last[m.node].at) {
			last[m.node] = m
		}
	}
	var out []string
	for _, node := range slices.Sorted(maps.Keys(last)) {
		m := last[node]
		out = append(out, fmt.Sprintf("%s %s %s before its end", node, m.what, short(s.to.Sub(m.at))))
	}
	return strings.Join(out, "; ")
}
