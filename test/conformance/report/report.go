// Package report collects the outcome of each requirement of a suite.
package report

import (
	"fmt"
	"io"
)

// Report prints a line for each requirement as it is known.
type Report struct {
	out                     io.Writer
	passed, failed, skipped int
}

// New returns a report that prints to out.
func New(out io.Writer) *Report { return &Report{out: out} }

// Check records a requirement: err says how it was not met.
func (r *Report) Check(name string, err error) {
	if err != nil {
		r.failed++
		fmt.Fprintf(r.out, "FAIL  %s: %v\n", name, err)
		return
	}
	r.passed++
	fmt.Fprintf(r.out, "ok    %s\n", name)
}

// CouldNot records a requirement that could not be tried.
func (r *Report) CouldNot(name, why string) {
	r.skipped++
	fmt.Fprintf(r.out, "-     %s: could not run: %s\n", name, why)
}

// Note prints what is neither met nor unmet.
func (r *Report) Note(text string) { fmt.Fprintf(r.out, "      %s\n", text) }

// Failed says whether a requirement was not met, or nothing was tried at all.
func (r *Report) Failed() bool { return r.failed > 0 || r.passed == 0 }

// Summary is the last line.
func (r *Report) Summary() string {
	return fmt.Sprintf("%d passed, %d failed, %d could not run", r.passed, r.failed, r.skipped)
}
