// Package e2e replays walkthroughs on the lab, as scripts that use the same commands as a person: lab, weft,
// kubectl, helm, aws. One script is one cluster, made and removed by the script itself.
package e2e

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var (
	walk   = flag.String("walk", "", "run the scripts whose name matches this regular expression, ignoring case; none without it")
	atOnce = flag.Int("lanes", 1, "scripts to run at a time: a lab mostly waits, so others can work beside it")
)

// longest are the scripts that take longest: they begin first, so that none is left alone at the end.
func longest() []string { return []string{"why", "recovery", "breaks", "errors"} }

// exitCouldNotRun tells the runner of tiers that this machine can't run the tier.
const exitCouldNotRun = 77

func TestMain(m *testing.M) {
	flag.Parse()
	if *walk != "" && os.Getuid() != 0 {
		fmt.Println("e2e: the lab needs root: namespaces, mounts and control groups")
		os.Exit(exitCouldNotRun)
	}
	os.Exit(m.Run())
}

func TestWalkthroughs(t *testing.T) {
	if *walk == "" {
		t.Skip("a tier of its own: make e2e")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	match, err := regexp.Compile("(?i)" + *walk)
	if err != nil {
		t.Fatalf("-walk: %v", err)
	}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	rank := func(file string) int {
		if i := slices.Index(longest(), scriptName(file)); i >= 0 {
			return i
		}
		return len(longest())
	}
	slices.SortStableFunc(files, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	ran := 0
	n, restore := raiseInotify(*atOnce)
	t.Cleanup(restore)
	turn := newLanes(n)
	for _, f := range files {
		if !match.MatchString(scriptName(f)) {
			continue
		}
		number := ran
		ran++
		t.Run(scriptName(f), func(t *testing.T) {
			t.Parallel()
			turn.enter(number)
			t.Cleanup(turn.leave) // after the lab's, which comes later
			script(t, root, f, fmt.Sprintf("e%d%c", os.Getpid(), 'a'+number))
		})
	}
	if ran == 0 {
		t.Fatalf("no script of testdata matches %q", *walk)
	}
}

func scriptName(file string) string { return strings.TrimSuffix(filepath.Base(file), ".txtar") }

// script runs one file on the lab. However it ends, its lab goes.
func script(t *testing.T, root, file, lab string) {
	bin := filepath.Join(root, "bin")
	remove := func() {
		if out, err := exec.Command(filepath.Join(bin, "lab"), "delete", "cluster", "--name", lab).CombinedOutput(); err != nil {
			t.Errorf("lab delete: %v\n%s", err, out)
		}
	}
	t.Cleanup(remove)
	testscript.Run(t, testscript.Params{
		Files: []string{file},
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+":"+e.Getenv("PATH")+":/usr/local/go/bin:/usr/sbin:/sbin")
			e.Setenv("ROOT", root)
			e.Setenv("LAB", lab)
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("WEFT_CACHE", cache())
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"retry": retry, "labenv": labenv, "set": set, "capture": capture,
		},
	})
}

// cache is where the lab keeps what it built: HOME is another one inside a script.
func cache() string {
	if c := os.Getenv("WEFT_CACHE"); c != "" {
		return c
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "/var/cache/weft"
	}
	return filepath.Join(home, ".cache", "weft")
}

// retry LIMIT COMMAND…: runs the command until it succeeds (fails, after "!") or the limit is over.
func retry(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: retry LIMIT COMMAND [ARG]…")
	}
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ts.Exec(args[1], args[2:]...)
		if (err == nil) != neg {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("still not so after %s: %s: %v", limit, strings.Join(args[1:], " "), err)
		case <-tick.C:
		}
	}
}

// labenv: takes over what `eval "$(lab env)"` sets in a person's shell.
func labenv(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(ts.Exec("bash", "-c", `eval "$(lab env --name $LAB)"; env -0`))
	for _, pair := range strings.Split(ts.ReadFile("stdout"), "\x00") {
		name, value, ok := strings.Cut(pair, "=")
		if ok && (name == "PATH" || name == "KUBECONFIG" || strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "WEFT_")) {
			ts.Setenv(name, value)
		}
	}
}

// set NAME VALUE: sets a variable.
func set(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: set NAME VALUE")
	}
	ts.Setenv(args[0], args[1])
}

// capture NAME COMMAND…: sets a variable to what the command prints.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: capture NAME COMMAND [ARG]…")
	}
	ts.Check(ts.Exec(args[1], args[2:]...))
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}
