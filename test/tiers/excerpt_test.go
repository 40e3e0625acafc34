package main

import (
	"slices"
	"strings"
	"testing"
)

func TestExcerpt(t *testing.T) {
	for _, c := range []struct {
		name, output string
		most         int
		want         []string
	}{
		{"a test and what it says", `
ok  	example.com/a	0.1s
--- FAIL: TestA (0.17s)
    --- FAIL: TestA/second (0.01s)
        a_test.go:9: got 1
            expected 2
    --- PASS: TestA/third (0.01s)
FAIL
FAIL	example.com/b	12.3s
ok  	example.com/c	0.1s
FAIL
exit status 1`, 20, []string{"--- FAIL: TestA (0.17s)", "    --- FAIL: TestA/second (0.01s)", "        a_test.go:9: got 1", "            expected 2", "FAIL\texample.com/b\t12.3s"}},
		{"output that came before, of tests side by side", `
=== RUN   TestScripts/w1
=== PAUSE TestScripts/w1
=== CONT  TestScripts/w1
=== NAME  TestScripts/w1
    e2e.go:5: > exec weft status
        ready: 2 of 3
    e2e.go:6: FAIL: w1.txtar:57: unexpected failure
=== NAME  TestScripts/w2
    e2e.go:5: > exec kubectl get pods
--- FAIL: TestScripts (9.00s)
    --- FAIL: TestScripts/w1 (8.00s)
    --- PASS: TestScripts/w2 (9.00s)
FAIL`, 20, []string{"    e2e.go:5: > exec weft status", "        ready: 2 of 3", "    e2e.go:6: FAIL: w1.txtar:57: unexpected failure", "--- FAIL: TestScripts (9.00s)", "    --- FAIL: TestScripts/w1 (8.00s)"}},
		{"only the end of what a test says", "--- FAIL: TestA (1s)\n    1\n    2\n    3\n    4\n    5\n    6\n    7\n", 20,
			[]string{"--- FAIL: TestA (1s)", "    3", "    4", "    5", "    6", "    7"}},
		{"a panic", "ok a\npanic: test timed out after 10m0s\n\trunning tests:\n\t\tTestB (9m0s)\n", 20,
			[]string{"panic: test timed out after 10m0s", "\trunning tests:", "\t\tTestB (9m0s)"}},
		{"what doesn't compile", "ok a\n# example.com/d [example.com/d.test]\nd/d.go:3:1: undefined: e\nFAIL\texample.com/d [build failed]\nok b\n", 20,
			[]string{"# example.com/d [example.com/d.test]", "d/d.go:3:1: undefined: e", "FAIL\texample.com/d [build failed]"}},
		{"what isn't there", "# ./d\nstat /d: directory not found\nFAIL\t./d [setup failed]\n", 20,
			[]string{"# ./d", "stat /d: directory not found", "FAIL\t./d [setup failed]"}},
		{"nothing of the kind", "one\ntwo\nthree\n", 2, []string{"two", "three"}},
		{"too much", "--- FAIL: A (1s)\n--- FAIL: B (1s)\n--- FAIL: C (1s)\n--- FAIL: D (1s)\n", 3,
			[]string{"--- FAIL: A (1s)", "--- FAIL: B (1s)", "(2 lines more like these)"}},
		{"a long line", strings.Repeat("é", 500), 2, []string{strings.Repeat("é", 400) + "…"}},
		{"nothing", "", 5, []string{""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := excerpt(c.output, c.most); !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func FuzzExcerpt(f *testing.F) {
	f.Add("--- FAIL: TestA (1s)\n    a_test.go:1: no\npanic: x\n", 3)
	f.Fuzz(func(t *testing.T, output string, most int) {
		most = 1 + max(most, -most-1)%50
		if got := excerpt(output, most); len(got) > most {
			t.Errorf("%d lines, expected at most %d", len(got), most)
		}
	})
}
