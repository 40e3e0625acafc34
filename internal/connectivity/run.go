package connectivity

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"time"

	"golang.org/x/sync/errgroup"
)

// atOnce is how many actions of a scenario run together.
const atOnce = 8

// retries is how often a failed action is tried anew: rules and routes of a pod that has just become ready
// may be a moment behind. A path that stays broken fails each time.
const retries = 2

// ActionResult is an action with its outcome.
type ActionResult struct {
	Test, Scenario, Action string
	Outcome                Outcome
	Took                   time.Duration
}

// ScenarioResult is a scenario with its actions, or why it was skipped.
type ScenarioResult struct {
	Name    string
	Skipped string
	Actions []ActionResult
}

// TestResult is a test with its scenarios.
type TestResult struct {
	Name      string
	Skipped   string
	Scenarios []ScenarioResult
}

// Summary is the result of a run.
type Summary struct{ Tests []TestResult }

// Selection picks tests and scenarios by "test/scenario".
type Selection struct{ only *regexp.Regexp }

// Select parses the --test expression; "" selects all.
func Select(expr string) (Selection, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return Selection{}, fmt.Errorf("--test: found %q, expected a regular expression over test/scenario: %w", expr, err)
	}
	return Selection{re}, nil
}

func (s Selection) has(test, scenario string) bool {
	return s.only == nil || s.only.MatchString(test+"/"+scenario)
}

// any says whether something is selected.
func (s Selection) any(tests []Test) bool {
	for _, t := range tests {
		for _, sc := range t.Scenarios {
			if s.has(t.Name, sc.Name()) {
				return true
			}
		}
	}
	return false
}

// Run runs the selected tests and writes a line for each scenario as it ends.
func Run(ctx context.Context, tests []Test, sel Selection, env *Env, w io.Writer) Summary {
	var sum Summary
	for _, t := range tests {
		tr := TestResult{Name: t.Name}
		picked := filter(t.Scenarios, func(s Scenario) bool { return sel.has(t.Name, s.Name()) })
		if len(picked) == 0 {
			tr.Skipped = "not selected"
			sum.Tests = append(sum.Tests, tr)
			continue
		}
		fmt.Fprintf(w, "[=] %s: %s\n", t.Name, t.About)
		for _, s := range picked {
			sr := ScenarioResult{Name: s.Name(), Skipped: s.Skip(env)}
			if sr.Skipped == "" {
				sr.Actions = runScenario(ctx, t.Name, s, env)
			}
			fmt.Fprintf(w, "    %s\n", scenarioLine(sr))
			tr.Scenarios = append(tr.Scenarios, sr)
		}
		sum.Tests = append(sum.Tests, tr)
	}
	return sum
}

func runScenario(ctx context.Context, test string, s Scenario, env *Env) []ActionResult {
	actions := s.Actions(env)
	out := make([]ActionResult, len(actions))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, a := range actions {
		g.Go(func() error {
			started := time.Now()
			o := Outcome{Want: "to be tried", Seen: "it was not tried"}
			for try := 0; try <= retries && !o.OK && ctx.Err() == nil; try++ {
				o = a.Do(ctx)
			}
			if ctx.Err() != nil && !o.OK {
				o.Cause = "the run was ended: " + ctx.Err().Error()
			}
			out[i] = ActionResult{Test: test, Scenario: s.Name(), Action: a.Name, Outcome: o, Took: time.Since(started)}
			return nil
		})
	}
	// Actions put what they saw into out; none returns an error.
	_ = g.Wait()
	return out
}

// Counts of a run.
type Counts struct {
	Tests, FailedTests, SkippedTests  int
	Scenarios, SkippedScenarios       int
	Actions, FailedActions, NoActions int
}

// Count adds a run up. A scenario that had nothing to do counts as failed: it proved nothing.
func (s Summary) Count() Counts {
	var c Counts
	for _, t := range s.Tests {
		if t.Skipped != "" {
			c.SkippedTests++
			continue
		}
		c.Tests++
		bad := false
		for _, sc := range t.Scenarios {
			if sc.Skipped != "" {
				c.SkippedScenarios++
				continue
			}
			c.Scenarios++
			if len(sc.Actions) == 0 {
				c.NoActions++
				bad = true
			}
			for _, a := range sc.Actions {
				c.Actions++
				if !a.Outcome.OK {
					c.FailedActions++
					bad = true
				}
			}
		}
		if bad {
			c.FailedTests++
		}
	}
	return c
}

// OK says whether everything that ran passed, and something ran.
func (s Summary) OK() bool {
	c := s.Count()
	return c.FailedTests == 0 && c.Actions > 0
}
