package inspect

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A Difference is something that isn't as the agent wants it.
type Difference struct {
	What     string `json:"what"`
	Found    string `json:"found"`
	Expected string `json:"expected"`
	Do       string `json:"do"`
}

// Line is the difference for a person.
func (d Difference) Line() string {
	return fmt.Sprintf("%s: found %s, expected %s -> %s", d.What, d.Found, d.Expected, d.Do)
}

// A Repair is what the agent has put back by itself.
type Repair struct {
	Time time.Time `json:"time"`
	What []string  `json:"what"`
}

// A Check compares what a node's agent wants with what is there.
type Check struct {
	Node        string       `json:"node"`
	Differences []Difference `json:"differences"`
	// Compared is how many things of each kind were looked at.
	Compared Fields `json:"compared"`
	// LastRepair is the last of this agent's; nil: none.
	LastRepair *Repair   `json:"lastRepair,omitempty"`
	Since      time.Time `json:"since"` // the agent's start
}

// Lasting are the differences that two looks have in common: what the agent was about to do, or has put back
// meanwhile, is none.
func Lasting(first, second []Difference) []Difference {
	out := slices.DeleteFunc(slices.Clone(second), func(d Difference) bool { return !slices.Contains(first, d) })
	slices.SortFunc(out, func(a, b Difference) int { return strings.Compare(a.Line(), b.Line()) })
	return out
}

// DrawCheck writes a line for each difference, or that there is none.
func DrawCheck(out io.Writer, c Check, now time.Time) {
	for _, d := range c.Differences {
		fmt.Fprintf(out, "%s: %s\n", c.Node, d.Line())
	}
	if len(c.Differences) == 0 {
		fmt.Fprintf(out, "%s: as it should be (%s)\n", c.Node, c.Compared)
	}
	ago := func(t time.Time) string { return now.Sub(t).Round(time.Second).String() }
	if c.LastRepair == nil {
		fmt.Fprintf(out, "%s: the agent has had nothing to put back since it began %s ago\n", c.Node, ago(c.Since))
		return
	}
	const most = 5
	what := c.LastRepair.What
	if len(what) > most {
		what = append(slices.Clone(what[:most]), fmt.Sprintf("%d more", len(what)-most))
	}
	fmt.Fprintf(out, "%s: the agent last put something back %s ago: %s\n", c.Node, ago(c.LastRepair.Time), strings.Join(what, "; "))
}
