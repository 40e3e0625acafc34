package services

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Sections of the list. An entry of the first two says what can't pass and why; a family isn't asked for.
const (
	sectionAlways  = "everywhere"
	sectionWithout = "without kube-proxy"
	sectionBeside  = "beside kube-proxy"
	sectionFamily  = "another suite's"
)

// family is a group of specs that this suite isn't about.
type family struct {
	match  *regexp.Regexp
	reason string
}

// list is what isn't asked for and what is expected not to pass.
type list struct {
	// listed has the reason of each spec, by its full name.
	listed   map[string]string
	families []family
}

// ListError is a line of the list that can't be read.
type ListError struct {
	Line int
	Text string
}

func (e *ListError) Error() string { return fmt.Sprintf("skipped.txt, line %d: %s", e.Line, e.Text) }

// readList reads the list as it is for one way to run: section is sectionWithout or sectionBeside. A section
// begins with "== NAME"; an entry is a line and below it, indented, the reason.
func readList(r io.Reader, section string) (list, error) {
	l := list{listed: map[string]string{}}
	var errs []error
	current, entry, entryLine := "", "", 0
	reason := []string{}
	end := func() {
		if entry == "" {
			return
		}
		why := strings.Join(reason, " ")
		if why == "" {
			errs = append(errs, &ListError{entryLine, "the entry has no reason: expected it below, indented"})
		}
		switch current {
		case sectionFamily:
			match, err := regexp.Compile(entry)
			if err != nil {
				errs = append(errs, &ListError{entryLine, err.Error()})
				break
			}
			l.families = append(l.families, family{match, why})
		case sectionAlways, section:
			if _, twice := l.listed[entry]; twice {
				errs = append(errs, &ListError{entryLine, "the spec is listed twice"})
			}
			l.listed[entry] = why
		}
		entry, reason = "", nil
	}
	scanner := bufio.NewScanner(r)
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimRight(scanner.Text(), " \t")
		name, begins := strings.CutPrefix(line, "== ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case begins:
			end()
			if !slices.Contains([]string{sectionAlways, sectionWithout, sectionBeside, sectionFamily}, name) {
				errs = append(errs, &ListError{n, fmt.Sprintf("section %q, expected %s, %s, %s or %s", name, sectionAlways, sectionWithout, sectionBeside, sectionFamily)})
			}
			current = name
		case line[0] == ' ' || line[0] == '\t':
			if entry == "" {
				errs = append(errs, &ListError{n, "a reason without an entry above"})
			}
			reason = append(reason, strings.TrimSpace(line))
		default:
			end()
			if current == "" {
				errs = append(errs, &ListError{n, "an entry before the first section (== NAME)"})
			}
			entry, entryLine = line, n
		}
	}
	end()
	return l, errors.Join(append(errs, scanner.Err())...)
}
