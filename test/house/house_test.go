// Package house holds the rules that the whole tree keeps: which way dependencies point, and that every
// package says what it is.
package house

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/weft-cni/weft/"

type pkg struct {
	ImportPath string
	Name       string
	Doc        string
	Imports    []string
	Deps       []string
	GoFiles    []string
}

// list asks the go command for every package of a module.
func list(t *testing.T, dir string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Doc,Imports,Deps,GoFiles", "./...")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list in %s: %s", dir, exit.Stderr)
		}
		t.Fatal(err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// Kinds of dependency that a rule forbids, as prefixes of import paths.
var (
	kernel     = []string{"github.com/vishvananda/netlink", "github.com/cilium/ebpf", "github.com/google/nftables"}
	kubernetes = []string{"k8s.io/client-go/kubernetes", "k8s.io/client-go/rest", "sigs.k8s.io/controller-runtime"}
	ec2        = []string{"github.com/aws/aws-sdk-go-v2/service/ec2"}
	people     = []string{"github.com/spf13/cobra", "helm.sh/helm"}
)

func TestDependenciesPointOneWay(t *testing.T) {
	rules := []struct {
		packages []string // below the module
		never    []string
		why      string
	}{
		{[]string{"internal/ipam", "internal/values", "internal/contract"}, slices.Concat(kernel, kubernetes, ec2, []string{"os/exec"}),
			"decisions are pure: the same function runs in a test, in the agent and on a person's machine"},
		{[]string{"internal/operator", "cmd/weft-operator"}, slices.Concat(kernel, people[1:]), "only the agent touches the kernel"},
		{[]string{"internal/agent", "cmd/weft-agent", "internal/endpoint", "internal/nodenet", "internal/datapath"}, slices.Concat(ec2, people[1:]),
			"only the operator talks to EC2"},
		{[]string{"cmd/weft-cni"}, slices.Concat(kernel, kubernetes, ec2, people),
			"the plugin is started for every pod: it hands the request on and links nothing else"},
		{[]string{"internal/datapath", "internal/nodenet", "internal/ec2"}, kubernetes, "an adapter knows one outside"},
		{[]string{"cmd", "internal"}, []string{module + "lab/"}, "nothing in weft knows that the lab exists"},
	}
	for _, p := range list(t, "../..") {
		rel := strings.TrimPrefix(p.ImportPath, module)
		for _, r := range rules {
			if !slices.ContainsFunc(r.packages, func(q string) bool { return rel == q || strings.HasPrefix(rel, q+"/") }) {
				continue
			}
			for _, d := range p.Deps {
				for _, n := range r.never {
					if d == strings.TrimSuffix(n, "/") || strings.HasPrefix(d, strings.TrimSuffix(n, "/")+"/") {
						t.Errorf("%s depends on %s: %s", rel, d, r.why)
					}
				}
			}
		}
		for _, i := range p.Imports {
			if strings.HasPrefix(i, module+"cmd/") {
				t.Errorf("%s imports %s: a main is nobody's library", rel, i)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, dir := range []string{"../..", "../../lab"} {
		for _, p := range list(t, dir) {
			if len(p.GoFiles) == 0 {
				continue
			}
			want := "Package " + p.Name + " "
			if p.Name == "main" {
				want = "Command " + filepath.Base(p.ImportPath) + " "
			}
			if !strings.HasPrefix(p.Doc, want) {
				t.Errorf("%s: its documentation starts with %q, expected %q", p.ImportPath, firstWords(p.Doc), want)
			}
		}
	}
}

func firstWords(s string) string { return s[:min(len(s), 40)] }
