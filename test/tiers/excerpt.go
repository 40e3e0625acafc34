package main

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	excerptLines   = 16  // of all failed tiers together: whoever keeps 24 lines of the output has these
	excerptLeast   = 4   // of one, however many failed
	excerptColumns = 400 // of a line
	excerptOwn     = 5   // lines of what one test says itself
	excerptStack   = 8   // lines behind a panic
)

var (
	testFailed = regexp.MustCompile(`^( *)--- FAIL: `)
	testEnded  = regexp.MustCompile(`^ *--- (FAIL|PASS|SKIP): `)
	heading    = regexp.MustCompile(`^=== (RUN|NAME|CONT|PAUSE) +(\S*)`)
	panicked   = regexp.MustCompile(`^(panic:|fatal error:|SIGQUIT:|unexpected fault)`)
	// A script that failed, a package, a compiler, staticcheck and vet.
	decisive = regexp.MustCompile(`^\s*FAIL: |^FAIL\t|^(vet: )?[\w./-]+\.(go|c|h):\d+(:\d+)?: |^lint: `)
)

// excerpt is what of a failed tier's output says why: the tests that failed with what they say, panics and what
// compilers say; the last lines if there is none of that. At most so many lines.
func excerpt(output string, most int) []string {
	lines := strings.Split(strings.TrimRight(output, "\n"), "\n")
	keep := make([]bool, len(lines))
	found := false
	mark := func(from, n int, while func(string) bool) {
		for i := from; i < len(lines) && i < from+n && (while == nil || while(lines[i])); i++ {
			keep[i] = true
		}
	}
	for i, line := range lines {
		switch m := testFailed.FindStringSubmatch(line); {
		case m != nil:
			found = true
			mark(i, 1, nil)
			own := ownLines(lines, i, len(m[1]))
			for n, at := range own {
				// The last of what a test says is what ended it.
				keep[at] = keep[at] || n >= len(own)-excerptOwn
			}
		case panicked.MatchString(line):
			found = true
			mark(i, 1+excerptStack, nil)
		case strings.HasPrefix(line, "# "): // a package, and what is wrong with it
			found = true
			mark(i, 2, nil)
		case decisive.MatchString(line):
			found = true
			mark(i, 1, nil)
		}
	}
	if !found {
		return shorten(lines[max(0, len(lines)-most):])
	}
	var out []string
	for i, k := range keep {
		if k && strings.TrimSpace(lines[i]) != "" {
			out = append(out, lines[i])
		}
	}
	if left := len(out) - most; left > 0 {
		out = append(out[:most-1], fmt.Sprintf("(%d lines more like these)", left+1))
	}
	return shorten(out)
}

// ownLines are the places of what a test says: behind the line that it failed, or before it where go test -v
// shows output as it comes.
func ownLines(lines []string, at, indent int) []int {
	var out []int
	for i := at + 1; i < len(lines) && indentOf(lines[i]) > indent && !testEnded.MatchString(lines[i]) && !heading.MatchString(lines[i]); i++ {
		out = append(out, i)
	}
	if len(out) > 0 {
		return out
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(lines[at]), "--- FAIL: "), " ")
	current := ""
	for i, line := range lines[:at] {
		if m := heading.FindStringSubmatch(line); m != nil {
			current = m[2]
		} else if current == name && !testEnded.MatchString(line) && strings.TrimSpace(line) != "" {
			out = append(out, i)
		}
	}
	return out
}

func indentOf(line string) int {
	if strings.TrimSpace(line) == "" {
		return 1 << 20 // belongs to what is around it
	}
	return len(line) - len(strings.TrimLeft(line, " \t"))
}

func shorten(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		if r := []rune(l); len(r) > excerptColumns {
			l = string(r[:excerptColumns]) + "…"
		}
		out[i] = l
	}
	return out
}
