package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/internal/connectivity"
)

func run(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, log bytes.Buffer
	root := New(Deps{Out: &out, Err: &log})
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return out.String(), log.String(), err
}

// nowhere is a kubeconfig whose cluster doesn't answer.
func nowhere(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: "arn:aws:eks:us-west-2:111122223333:cluster/found", user: u}}],
clusters: [{name: "arn:aws:eks:us-west-2:111122223333:cluster/found", cluster: {server: "https://127.0.0.1:1"}}], users: [{name: u, user: {}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEveryVerbHasHelp(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s has no description", c.CommandPath())
		}
		if c.Runnable() && c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(New(Deps{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}))
	out, _, err := run(t, "install", "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"--version", "--values", "--set ", "--set-string", "--namespace", "--context", "--kubeconfig", "--wait ", "--wait-duration", "--dry-run", "--allow-unknown-values"} {
		if !strings.Contains(out, flag) {
			t.Errorf("install has no %s", flag)
		}
	}
}

func TestInstallRefusals(t *testing.T) {
	kubeconfig := nowhere(t)
	t.Setenv("KUBECONFIG", kubeconfig)
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"no cluster", []string{"install"}, "no cluster reachable at https://127.0.0.1:1"},
		{"typo", []string{"install", "--set", "ipam.mdoe=eni"}, "did you mean ipam.mode?"},
		{"missing file", []string{"install", "-f", "/nowhere.yaml"}, "there is no such file"},
		{"version", []string{"install", "--version", "1.16.0"}, "this binary carries the chart of"},
		{"missing kubeconfig", []string{"install", "--kubeconfig", "/nowhere"}, "--kubeconfig: stat /nowhere"},
		{"missing context", []string{"install", "--context", "other"}, `context "other" does not exist`},
		{"arguments", []string{"install", "now"}, "unknown command"},
		{"status", []string{"status"}, "no cluster reachable at https://127.0.0.1:1"},
		{"status in another format", []string{"status", "-o", "yaml"}, `--output: found "yaml", expected json`},
		{"maps", []string{"datapath", "maps"}, "no cluster reachable at https://127.0.0.1:1"},
		{"maps in another format", []string{"datapath", "maps", "-o", "yaml"}, `--output: found "yaml", expected json`},
		{"an unknown map", []string{"datapath", "map", "dump", "ct"}, `found "ct", expected the name of a map: weft_addresses, `},
		{"no map", []string{"datapath", "map", "dump"}, "found 0 names, expected one of a map"},
		{"a limit below zero", []string{"datapath", "map", "dump", "config", "--limit", "-1"}, "--limit: found -1"},
		{"services", []string{"service", "list"}, "no cluster reachable at https://127.0.0.1:1"},
		{"services in another format", []string{"service", "list", "-o", "yaml"}, `--output: found "yaml", expected json`},
		{"no service", []string{"service", "get"}, "found 0 arguments, expected one: a service or a frontend"},
		{"a service of no port", []string{"service", "explain", "172.20.0.10"}, "without a port, expected for example 172.20.0.10:80"},
		{"an explanation in another format", []string{"service", "explain", "shop/web", "-o", "yaml"}, `--output: found "yaml", expected json`},
		{"a trace to nowhere", []string{"service", "trace", "--from", "shop/web"}, "--to: found none, expected a service such as"},
		{"a trace from nowhere", []string{"service", "trace", "--to", "shop/web"}, "--from: found none, expected a client"},
		{"a trace", []string{"service", "trace", "--from", "shop/web", "--to", "shop/web:80"}, "no cluster reachable at https://127.0.0.1:1"},
		{"uninstall", []string{"uninstall"}, "no cluster reachable at https://127.0.0.1:1"},
		{"connectivity test", []string{"connectivity", "test"}, "could not start: no cluster reachable at https://127.0.0.1:1"},
		{"a test of no name", []string{"connectivity", "test", "--test", "nothing"}, `found "nothing", which matches no test/scenario`},
		{"a list of nothing", []string{"connectivity", "test", "--list", "--test", "nothing"}, "matches no test/scenario"},
		{"a report nowhere", []string{"connectivity", "test", "--junit-file", "/nowhere/x.xml"}, "--junit-file: stat /nowhere"},
		{"a verb that isn't there", []string{"connectivity", "tset"}, `unknown command "tset"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, stderr, err := run(t, test.args...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("found %v, expected %q in it", err, test.want)
			}
			if stderr != "" {
				t.Errorf("an error is printed once, by main; found %q", stderr)
			}
		})
	}
}

// TestDryRunAlone: without a cluster a dry run prints objects, and nothing else, on standard output.
func TestDryRunAlone(t *testing.T) {
	t.Setenv("KUBECONFIG", nowhere(t))
	out, log, err := run(t, "install", "--dry-run", "--set", "tunnel=disabled")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(strings.TrimSpace(out), "---") || !strings.Contains(out, `name: "found"`) {
		t.Errorf("found %.200s, expected objects for the kubeconfig's cluster", out)
	}
	if !strings.Contains(log, "tunnel=disabled is taken as routingMode=native") {
		t.Errorf("the note is missing in %q", log)
	}
}

func TestVersion(t *testing.T) {
	out, _, err := run(t, "version", "--client")
	if err != nil || !strings.HasPrefix(out, "client:") || strings.Contains(out, "cluster") {
		t.Errorf("found %q, %v", out, err)
	}
	t.Setenv("KUBECONFIG", nowhere(t))
	out, _, err = run(t, "version", "-o", "json")
	if err != nil || !strings.Contains(out, `"error": "no cluster reachable`) {
		t.Errorf("found %q, %v", out, err)
	}
}

func TestReported(t *testing.T) {
	cause := errors.New("x")
	for err, want := range map[error]bool{cause: false, silent{cause}: true, connectivity.ErrFailed: true} {
		if got := Reported(err); got != want {
			t.Errorf("%v: found %v, expected %v", err, got, want)
		}
	}
	if !errors.Is(silent{cause}, cause) {
		t.Error("the cause is lost")
	}
}

func TestMapNamesAreCompleted(t *testing.T) {
	out, _, err := run(t, "__complete", "datapath", "map", "dump", "")
	if err != nil || !strings.Contains(out, "weft_ct_est\tTCP connections") {
		t.Errorf("found %q, %v; expected the maps with what they are", out, err)
	}
	// A cluster that doesn't answer completes nothing, and says nothing.
	t.Setenv("KUBECONFIG", nowhere(t))
	out, _, err = run(t, "__complete", "datapath", "maps", "--node", "")
	if err != nil || !strings.HasPrefix(out, ":") {
		t.Errorf("found %q, %v; expected no name", out, err)
	}
}
