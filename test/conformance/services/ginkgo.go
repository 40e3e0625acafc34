package services

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// suiteName is what upstream calls its suite; ginkgo's focus sees it before each spec's name.
const suiteName = "Kubernetes e2e suite"

// States of a spec that mean something here; the others are ways to fail.
const (
	passed  = "passed"
	skipped = "skipped"
)

// result is what ginkgo says of a spec that it looked at.
type result struct {
	state, message string
	took           time.Duration
}

// report is as much of ginkgo's report as is needed.
type ginkgoReport struct {
	SpecialSuiteFailureReasons []string
	SpecReports                []struct {
		ContainerHierarchyTexts []string
		LeafNodeType            string
		LeafNodeText            string
		State                   string
		RunTime                 time.Duration
		Failure                 struct {
			Message  string
			Location struct {
				FileName   string
				LineNumber int
			}
		}
	}
}

// outcome is what a run of ginkgo says.
type outcome struct {
	specs map[string]result
	// aside are failures outside of specs: before or after the suite, or the whole of it.
	aside []string
}

// readReport reads ginkgo's report in JSON. Specs that weren't chosen are left out.
func readReport(r io.Reader) (outcome, error) {
	var reports []ginkgoReport
	if err := json.NewDecoder(r).Decode(&reports); err != nil {
		return outcome{}, fmt.Errorf("ginkgo's report: %w", err)
	}
	out := outcome{specs: map[string]result{}}
	for _, rep := range reports {
		out.aside = append(out.aside, rep.SpecialSuiteFailureReasons...)
		for _, s := range rep.SpecReports {
			message := strings.TrimSpace(s.Failure.Message)
			if s.LeafNodeType != "It" {
				if s.State != passed && s.State != skipped && message != "" {
					out.aside = append(out.aside, fmt.Sprintf("%s %s: %s", s.LeafNodeType, s.State, message))
				}
				continue
			}
			if s.State == "pending" || s.State == skipped && message == "" {
				continue
			}
			name := strings.Join(append(s.ContainerHierarchyTexts, s.LeafNodeText), " ")
			out.specs[name] = result{state: s.State, message: firstLines(message, 6), took: s.RunTime}
		}
	}
	return out, nil
}

// firstLines shortens what a failure says to what fits a report; all of it is in the log.
func firstLines(s string, n int) string {
	lines := strings.Split(s, "\n")
	if len(lines) > n {
		lines = append(lines[:n], "…")
	}
	for i, l := range lines {
		if len(l) > 300 {
			lines[i] = l[:300] + "…"
		}
	}
	return strings.Join(lines, "\n      ")
}
