package status

import (
	"context"
	"errors"
	"time"
)

// Wait judges again and again until all is well, and gives the last report. changed is called with each
// report that differs from the one before. A reading that fails is tried again: API servers restart. Where
// nothing was installed nothing is waited for.
func Wait(ctx context.Context, read func(context.Context) (Snapshot, error), ignoreWarnings bool, interval time.Duration, changed func(Report)) (Report, error) {
	var (
		last Report
		have bool
		line string
		fail error
	)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		s, err := read(ctx)
		if err == nil {
			r := Evaluate(s)
			if now := r.Brief(); !have || now != line {
				line = now
				changed(r)
			}
			last, have, fail = r, true, nil
			if r.OK(ignoreWarnings) {
				return r, nil
			}
			if s.Absent() {
				return r, ErrAbsent
			}
		} else if ctx.Err() == nil {
			fail = err
		}
		select {
		case <-ctx.Done():
			if !have {
				if fail == nil {
					fail = err
				}
				return last, fail
			}
			return last, errors.Join(ErrUnhealthy, fail)
		case <-tick.C:
		}
	}
}

// Absent: weft is not there and nobody is installing it.
func (s Snapshot) Absent() bool { return s.Agent == nil && s.Operator == nil && !s.Release }

// ErrAbsent ends a wait for what was never installed.
var ErrAbsent = errors.New("weft is not installed")

// ErrUnhealthy ends a status whose report names what is missing.
var ErrUnhealthy = errors.New("weft is not healthy")

// Brief is the report on one line.
func (r Report) Brief() string {
	s := ""
	for _, c := range r.Components {
		if c.State == Disabled {
			continue
		}
		if s != "" {
			s += ", "
		}
		s += c.Name + " " + string(c.State)
		if c.Detail != "" {
			s += " (" + c.Detail + ")"
		}
	}
	findings := r.Errors
	if len(findings) == 0 {
		findings = r.Warnings
	}
	if len(findings) > 0 {
		s += "; " + findings[0].Where + ": " + findings[0].What
	}
	return s
}
