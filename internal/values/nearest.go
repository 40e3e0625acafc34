package values

import "strings"

// Nearest is the known name most like name, or nothing if none is like it. A slip in one part of a name
// is looked for among that part's siblings first, then a name that was put in the wrong section.
func (c *Catalogue) Nearest(name string) string {
	section, key := parent(name), name[strings.LastIndexByte(name, '.')+1:]
	best, cost := "", limit(key)+1
	for sibling := range c.below[section] {
		if d := distance(key, sibling, cost+1); d < cost || d == cost && best != "" && join(section, sibling) < best {
			best, cost = join(section, sibling), d
		}
	}
	if best != "" {
		return best
	}
	cost = limit(name) + 1
	for _, known := range c.sorted {
		if d := distance(name, known, cost); d < cost {
			best, cost = known, d
		}
	}
	if best != "" {
		return best
	}
	// The right key in another section: of those the shortest name, which is the most general.
	for _, known := range c.sorted {
		if !strings.EqualFold(known[strings.LastIndexByte(known, '.')+1:], key) {
			continue
		}
		_, acts := c.rules[known]
		_, bestActs := c.rules[best]
		if best == "" || acts && !bestActs || acts == bestActs && len(known) < len(best) {
			best = known
		}
	}
	return best
}

// limit is how many slips of the pen a name may hold and still be taken for another.
func limit(name string) int {
	switch n := len(name); {
	case n <= 3:
		return 1
	case n <= 8:
		return 2
	default:
		return 3
	}
}

// distance counts edits (a swap of neighbours is one) between a and b without regard to case; at least
// bound if it is bound or more.
func distance(a, b string, bound int) int {
	x, y := []rune(strings.ToLower(a)), []rune(strings.ToLower(b))
	if d := len(x) - len(y); d >= bound || -d >= bound {
		return bound
	}
	before, previous, current := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(x); i++ {
		current[0] = i
		for j := 1; j <= len(y); j++ {
			replace := 1
			if x[i-1] == y[j-1] {
				replace = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+replace)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return min(previous[len(y)], bound)
}
