package bpfcover

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// A Profile says of each line that has instructions whether any of them ran.
type Profile map[Line]bool

func (p Profile) sorted() []Line {
	return slices.SortedFunc(maps.Keys(p), func(a, b Line) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Number, b.Number))
	})
}

// Write prints a line for each: file, number, 1 or 0.
func (p Profile) Write(w io.Writer) error {
	buffered := bufio.NewWriter(w)
	for _, l := range p.sorted() {
		ran := 0
		if p[l] {
			ran = 1
		}
		fmt.Fprintf(buffered, "%s:%d %d\n", l.File, l.Number, ran)
	}
	return buffered.Flush()
}

// ReadProfile reads what Write has printed; a line that stands there twice has run if it has once.
func ReadProfile(r io.Reader) (Profile, error) {
	p := Profile{}
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		at := strings.LastIndexByte(scanner.Text(), ':')
		var number, ran int
		if at < 0 {
			return nil, fmt.Errorf("line of the profile is %q, expected FILE:LINE and 0 or 1", scanner.Text())
		}
		if n, err := fmt.Sscanf(scanner.Text()[at+1:], "%d %d", &number, &ran); err != nil || n != 2 || ran < 0 || ran > 1 {
			return nil, fmt.Errorf("line of the profile is %q, expected FILE:LINE and 0 or 1", scanner.Text())
		}
		l := Line{File: scanner.Text()[:at], Number: number}
		p[l] = p[l] || ran == 1
	}
	return p, scanner.Err()
}

// A Count is how many lines there are, and how many of them ran.
type Count struct{ Ran, Lines int }

// Percent of the lines that ran; of no lines, all.
func (c Count) Percent() float64 {
	if c.Lines == 0 {
		return 100
	}
	return 100 * float64(c.Ran) / float64(c.Lines)
}

// Count sums up.
func (p Profile) Count() Count {
	c := Count{Lines: len(p)}
	for _, ran := range p {
		if ran {
			c.Ran++
		}
	}
	return c
}

// Select keeps the files that keep says, under the names that it gives them.
func (p Profile) Select(keep func(file string) (string, bool)) Profile {
	out := Profile{}
	for l, ran := range p {
		if name, ok := keep(l.File); ok {
			l.File = name
			out[l] = out[l] || ran
		}
	}
	return out
}

// Report is the figures of each file and of all, and every line that didn't run, as source gives it.
func (p Profile) Report(source func(Line) string) string {
	var b strings.Builder
	files := map[string]Profile{}
	for l, ran := range p {
		if files[l.File] == nil {
			files[l.File] = Profile{}
		}
		files[l.File][l] = ran
	}
	row := func(name string, c Count) {
		fmt.Fprintf(&b, "%-28s %5d of %5d lines  %5.1f %%\n", name, c.Ran, c.Lines, c.Percent())
	}
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		row(name, files[name].Count())
	}
	row("all", p.Count())
	for _, name := range names {
		missed := files[name].Select(func(file string) (string, bool) { return file, true })
		maps.DeleteFunc(missed, func(_ Line, ran bool) bool { return ran })
		if len(missed) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\nnot run in %s:\n", name)
		for _, l := range missed.sorted() {
			fmt.Fprintf(&b, "%6d  %s\n", l.Number, source(l))
		}
	}
	return b.String()
}
