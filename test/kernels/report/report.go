// Package report is what the guest tells the host about one kernel, and the table made of it.
package report

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/weft-cni/weft/internal/datapath"
)

// Prefix marks the line of the console that carries the result.
const Prefix = "WEFT-KERNELS "

// A Result is what one kernel made of the datapath.
type Result struct {
	Name     string    `json:"name"` // as asked for: 6.1, 6.12, host
	Kernel   string    `json:"kernel"`
	TCX      bool      `json:"tcx"`
	Devices  []string  `json:"devices"` // that pods can have
	Variants []Variant `json:"variants"`
	Tests    Tests     `json:"tests"`
	Measured string    `json:"measured,omitempty"`
	Error    string    `json:"error,omitempty"` // what ended it early
}

// A Variant is one object of programs, as the verifier saw it.
type Variant struct {
	Name     string             `json:"name"`
	Programs []datapath.Program `json:"programs"`
	Error    string             `json:"error,omitempty"`
}

// The objects that every kernel is shown.
const (
	Shipped = "as shipped"
	Next    = "another layout"
)

// Variants lists them.
func Variants() []string { return []string{Shipped, Next} }

// Tests is the outcome of the datapath's tests.
type Tests struct {
	Passed  int      `json:"passed"`
	Failed  []string `json:"failed"`
	Skipped []string `json:"skipped"`
	Ended   bool     `json:"ended"` // the binary ended by itself, without a failure of its own
}

// And is the outcome of two binaries' tests.
func (t Tests) And(u Tests) Tests {
	return Tests{Passed: t.Passed + u.Passed, Failed: slices.Concat(t.Failed, u.Failed), Skipped: slices.Concat(t.Skipped, u.Skipped), Ended: t.Ended && u.Ended}
}

// Encode is the line of the console.
func (r Result) Encode() (string, error) {
	b, err := json.Marshal(r)
	return Prefix + string(b), err
}

// Find reads a console and returns the result in it.
func Find(console io.Reader) (Result, error) {
	scanner := bufio.NewScanner(console)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		_, text, ok := strings.Cut(scanner.Text(), Prefix)
		if !ok {
			continue
		}
		var r Result
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return r, fmt.Errorf("result line of the console: %w", err)
		}
		return r, nil
	}
	if err := scanner.Err(); err != nil {
		return Result{}, err
	}
	return Result{}, fmt.Errorf("the console has no line that begins with %q: the kernel didn't boot or was cut off", Prefix)
}

// ReadTests counts the tests, without their parts, in the output of a test binary run with -test.v.
func ReadTests(output io.Reader) (Tests, error) {
	var t Tests
	scanner := bufio.NewScanner(output)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) < 3 || fields[0] != "---" || strings.HasPrefix(scanner.Text(), " ") {
			continue
		}
		switch fields[1] {
		case "PASS:":
			t.Passed++
		case "FAIL:":
			t.Failed = append(t.Failed, fields[2])
		case "SKIP:":
			t.Skipped = append(t.Skipped, fields[2])
		}
	}
	return t, scanner.Err()
}

// Problems lists why the result isn't a pass; empty if it is one.
func (r Result) Problems() []string {
	var out []string
	if r.Error != "" {
		out = append(out, r.Error)
	}
	for _, name := range Variants() {
		i := slices.IndexFunc(r.Variants, func(v Variant) bool { return v.Name == name })
		if i < 0 {
			out = append(out, fmt.Sprintf("programs %s were not tried", name))
			continue
		}
		out = append(out, r.Variants[i].problems()...)
	}
	for _, name := range r.Tests.Failed {
		out = append(out, name+" failed")
	}
	if r.Tests.Passed == 0 {
		out = append(out, "no test passed")
	}
	if !r.Tests.Ended && len(r.Tests.Failed) == 0 {
		out = append(out, "the tests were cut off")
	}
	return out
}

func (v Variant) problems() []string {
	if v.Error != "" {
		return []string{fmt.Sprintf("programs %s: %s", v.Name, v.Error)}
	}
	var out []string
	for _, h := range datapath.Hooks() {
		if !slices.ContainsFunc(v.Programs, func(p datapath.Program) bool { return p.Name == h.String() }) {
			out = append(out, fmt.Sprintf("program %s, %s, was not loaded", h, v.Name))
		}
	}
	return out
}

// Table is the results in Markdown.
func Table(results []Result) string {
	var b strings.Builder
	b.WriteString("| kernel | release | attach | pod devices | tests | programs |")
	for _, h := range datapath.Hooks() {
		fmt.Fprintf(&b, " %s |", h)
	}
	b.WriteString("\n| --- | --- | --- | --- | --- | --- |" + strings.Repeat(" --- |", len(datapath.Hooks())) + "\n")
	for _, r := range results {
		attach := "clsact"
		if r.TCX {
			attach = "tcx"
		}
		tests := fmt.Sprintf("%d passed", r.Tests.Passed)
		if n := len(r.Tests.Failed); n > 0 {
			tests += fmt.Sprintf(", %d failed", n)
		}
		if n := len(r.Tests.Skipped); n > 0 {
			tests += fmt.Sprintf(", %d skipped", n)
		}
		for _, v := range r.Variants {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |%s\n", r.Name, r.Kernel, attach, strings.Join(r.Devices, ", "), tests, v.Name, v.columns())
		}
	}
	return b.String()
}

func (v Variant) columns() string {
	var b strings.Builder
	for _, h := range datapath.Hooks() {
		cell := "–"
		for _, p := range v.Programs {
			if p.Name == h.String() {
				cell = fmt.Sprintf("%d / %d", p.Verified, p.Translated/8)
			}
		}
		fmt.Fprintf(&b, " %s |", cell)
	}
	return b.String()
}

// Compare names the programs whose verified instructions grew by more than a quarter between an earlier
// table and a later one, by kernel.
func Compare(earlier, later string) []string {
	before := cells(earlier)
	var out []string
	for _, c := range cells(later) {
		for _, b := range before {
			if b.kernel == c.kernel && b.variant == c.variant && b.program == c.program && c.verified*4 > b.verified*5 {
				out = append(out, fmt.Sprintf("%s %s on %s: %d verified instructions, %d before", c.program, c.variant, c.kernel, c.verified, b.verified))
			}
		}
	}
	return out
}

type cell struct {
	kernel, variant, program string
	verified                 int
}

func cells(table string) []cell {
	var header []string
	var out []cell
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			header = nil
			continue
		}
		columns := strings.Split(strings.Trim(line, "|"), "|")
		for i := range columns {
			columns[i] = strings.TrimSpace(columns[i])
		}
		if header == nil {
			header = columns
			continue
		}
		for i, text := range columns {
			var verified, translated int
			if n, _ := fmt.Sscanf(text, "%d / %d", &verified, &translated); n == 2 && i < len(header) {
				out = append(out, cell{kernel: columns[0], variant: columns[max(0, slices.Index(header, "programs"))], program: header[i], verified: verified})
			}
		}
	}
	return out
}
