package services

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// plan is what is run: what must pass, and what is listed, which is tried too.
type plan struct {
	must, listed []string
	// outside is how many specs other suites are about.
	outside int
}

// makePlan sorts all specs of upstream. A list that names what isn't there is wrong: it would hide nothing and
// be believed.
func makePlan(all []string, l list, only *regexp.Regexp) (plan, error) {
	var p plan
	var errs []error
	used := make([]bool, len(l.families))
	there := map[string]bool{}
	for _, name := range all {
		if there[name] {
			errs = append(errs, fmt.Errorf("upstream has two specs %q", name))
			continue
		}
		there[name] = true
		outside := false
		for i, f := range l.families {
			if f.match.MatchString(name) {
				used[i], outside = true, true
			}
		}
		_, listed := l.listed[name]
		switch {
		case outside && listed:
			errs = append(errs, fmt.Errorf("skipped.txt: %q is listed and of a family that this suite isn't about", name))
		case outside:
			p.outside++
		case !only.MatchString(name):
		case listed:
			p.listed = append(p.listed, name)
		default:
			p.must = append(p.must, name)
		}
	}
	for name := range l.listed {
		if !there[name] {
			errs = append(errs, fmt.Errorf("skipped.txt: upstream has no spec %q", name))
		}
	}
	for i, f := range l.families {
		if !used[i] {
			errs = append(errs, fmt.Errorf("skipped.txt: no spec matches %q", f.match))
		}
	}
	if len(p.must)+len(p.listed) == 0 {
		errs = append(errs, errors.New("no spec is chosen"))
	}
	slices.Sort(p.must)
	slices.Sort(p.listed)
	return p, errors.Join(errs...)
}

// focus is the regular expression by which ginkgo chooses exactly these specs: it looks for it in the suite's
// name, a space and the spec's.
func focus(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = regexp.QuoteMeta(n)
	}
	return "^" + suiteName + " (?:" + strings.Join(quoted, "|") + ")$"
}

// verdict is what became of one spec.
type verdict struct {
	name string
	took time.Duration
	// err says why a spec that must pass didn't, or that a listed one would.
	err error
	// why is the reason for which a listed spec may fail.
	why string
}

// judge compares what happened with what must be. Nothing passes that didn't run.
func judge(p plan, l list, results map[string]result) []verdict {
	var out []verdict
	for _, name := range p.must {
		r, ran := results[name]
		v := verdict{name: name, took: r.took}
		switch {
		case !ran:
			v.err = errors.New("didn't run")
		case r.state == passed:
		case r.state == skipped:
			v.err = fmt.Errorf("skipped itself, and skipped.txt doesn't say so: %s", r.message)
		default:
			v.err = fmt.Errorf("%s: %s", r.state, r.message)
		}
		out = append(out, v)
	}
	for _, name := range p.listed {
		r := results[name]
		v := verdict{name: name, took: r.took, why: l.listed[name]}
		if r.state == passed {
			v.err = fmt.Errorf("passes, but skipped.txt lists it (%s): take it out there", v.why)
		}
		out = append(out, v)
	}
	return out
}
