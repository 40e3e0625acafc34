package connectivity

import (
	"encoding/xml"
	"fmt"
	"io"
	"time"
)

func scenarioLine(s ScenarioResult) string {
	if s.Skipped != "" {
		return fmt.Sprintf("[-] %s: skipped, %s", s.Name, s.Skipped)
	}
	failed := 0
	for _, a := range s.Actions {
		if !a.Outcome.OK {
			failed++
		}
	}
	switch {
	case len(s.Actions) == 0:
		return fmt.Sprintf("[!] %s: found nothing to test", s.Name)
	case failed > 0:
		return fmt.Sprintf("[!] %s: %d of %d actions failed", s.Name, failed, len(s.Actions))
	}
	return fmt.Sprintf("[+] %s: %d actions", s.Name, len(s.Actions))
}

// Report ends a run: the summary line, and what failed, by test.
func (s Summary) Report(w io.Writer) {
	c := s.Count()
	if s.OK() {
		fmt.Fprintf(w, "\nAll %d tests (%d actions) successful, %d tests skipped, %d scenarios skipped.\n", c.Tests, c.Actions, c.SkippedTests, c.SkippedScenarios)
		return
	}
	fmt.Fprintf(w, "\n%d/%d tests failed (%d/%d actions), %d tests skipped, %d scenarios skipped:\n", c.FailedTests, c.Tests, c.FailedActions, c.Actions, c.SkippedTests, c.SkippedScenarios)
	if c.Tests == 0 {
		fmt.Fprintln(w, "  no test was selected: see --list")
	}
	for _, t := range s.Tests {
		head := false
		for _, sc := range t.Scenarios {
			lines := failures(sc)
			if len(lines) == 0 {
				continue
			}
			if !head {
				fmt.Fprintf(w, "Test [%s]:\n", t.Name)
				head = true
			}
			for _, l := range lines {
				fmt.Fprintln(w, l)
			}
		}
	}
}

func failures(sc ScenarioResult) []string {
	if sc.Skipped == "" && len(sc.Actions) == 0 {
		return []string{fmt.Sprintf("  %s: found nothing to test", sc.Name)}
	}
	var out []string
	for _, a := range sc.Actions {
		if a.Outcome.OK {
			continue
		}
		out = append(out, fmt.Sprintf("  %s: %s", sc.Name, a.Action),
			"      expected: "+a.Outcome.Want,
			"      seen:     "+a.Outcome.Seen,
			"      likely:   "+a.Outcome.Cause)
	}
	return out
}

type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Seconds string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure,omitempty"`
	Skipped *junitMessage `xml:"skipped,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// JUnit writes the run as JUnit XML: a suite for each test, a case for each action.
func (s Summary) JUnit(w io.Writer) error {
	var doc junitSuites
	for _, t := range s.Tests {
		suite := junitSuite{Name: t.Name}
		if t.Skipped != "" {
			suite.Cases = append(suite.Cases, junitCase{Class: t.Name, Name: t.Name, Seconds: "0", Skipped: &junitMessage{Message: t.Skipped}})
			suite.Skipped++
		}
		for _, sc := range t.Scenarios {
			if sc.Skipped != "" {
				suite.Cases = append(suite.Cases, junitCase{Class: t.Name, Name: sc.Name, Seconds: "0", Skipped: &junitMessage{Message: sc.Skipped}})
				suite.Skipped++
				continue
			}
			if len(sc.Actions) == 0 {
				suite.Cases = append(suite.Cases, junitCase{Class: t.Name, Name: sc.Name, Seconds: "0", Failure: &junitMessage{Message: "found nothing to test"}})
				suite.Failures++
			}
			for _, a := range sc.Actions {
				c := junitCase{Class: t.Name + "." + sc.Name, Name: a.Action, Seconds: fmt.Sprintf("%.3f", a.Took.Round(time.Millisecond).Seconds())}
				if !a.Outcome.OK {
					c.Failure = &junitMessage{Message: a.Outcome.Seen, Text: "expected: " + a.Outcome.Want + "\nlikely: " + a.Outcome.Cause}
					suite.Failures++
				}
				suite.Cases = append(suite.Cases, c)
			}
		}
		suite.Tests = len(suite.Cases)
		doc.Suites = append(doc.Suites, suite)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	return e.Encode(doc)
}
