package upstream

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weft-cni/weft/lab/internal/eks/images"
)

// fakeApt behaves as apt-get and dpkg-deb do: a download leaves archives of the packages and of one that they
// need, unpacking makes files.
func fakeApt(calls *[]string, fail string) func(context.Context, string, string, ...string) (string, error) {
	return func(_ context.Context, dir, name string, args ...string) (string, error) {
		*calls = append(*calls, name+" "+strings.Join(args, " "))
		switch {
		case fail != "" && slices.Contains(args, fail):
			return "", errors.New("no route to host")
		case slices.Contains(args, "install"):
			i := slices.Index(args, "--no-install-recommends")
			for _, p := range append(slices.Clone(args[i+1:]), "libneeded") {
				if err := os.WriteFile(filepath.Join(dir, "cache/archives", p+".deb"), nil, 0o644); err != nil {
					return "", err
				}
			}
		case name == "dpkg-deb":
			file := filepath.Join(args[2], "usr/bin", strings.TrimSuffix(filepath.Base(args[1]), ".deb"))
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				return "", err
			}
			return "", os.WriteFile(file, []byte("program"), 0o755)
		}
		return "", nil
	}
}

func TestTreeIsFetchedOnce(t *testing.T) {
	var calls []string
	var said bytes.Buffer
	cache := t.TempDir()
	p := Packages{Cache: cache, Arch: "amd64", Out: &said, run: fakeApt(&calls, "")}
	tree, err := p.Tree(t.Context(), "curl", "bash")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"curl", "bash", "libneeded"} {
		if _, err := os.Stat(filepath.Join(tree, "usr/bin", name)); err != nil {
			t.Error(err)
		}
	}
	for _, c := range calls {
		if strings.HasPrefix(c, "apt-get") && !strings.Contains(c, "Dir::State::Status="+cache) {
			t.Errorf("apt looks at what the machine has installed: %s", c)
		}
	}
	n := len(calls)
	again, err := p.Tree(t.Context(), "bash", "curl")
	if err != nil || again != tree || len(calls) != n {
		t.Errorf("the second time: %s, %v, %d calls; expected %s without a call", again, err, len(calls)-n, tree)
	}
	other, err := p.Tree(t.Context(), "bash")
	if err != nil || other == tree {
		t.Errorf("other packages: %s, %v", other, err)
	}
	left, err := filepath.Glob(filepath.Join(cache, ".debian-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestTreeLeavesNothingHalf(t *testing.T) {
	for _, step := range []string{"update", "install", "-x"} {
		var calls []string
		p := Packages{Cache: t.TempDir(), Arch: "amd64", Out: &bytes.Buffer{}, run: fakeApt(&calls, step)}
		if _, err := p.Tree(t.Context(), "curl"); err == nil {
			t.Errorf("%s fails: no error", step)
		}
		left, err := os.ReadDir(p.Cache)
		if err != nil || len(left) > 0 {
			t.Errorf("%s fails: %v is left, %v", step, left, err)
		}
	}
}

func TestRootfs(t *testing.T) {
	tree := t.TempDir()
	for file, content := range map[string]string{"bin/busybox": "b", "usr/bin/curl": "c", "usr/share/doc/curl/copyright": "d", "etc/hosts.conf": "e"} {
		file = filepath.Join(tree, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("curl", filepath.Join(tree, "usr/bin/fetch")); err != nil {
		t.Fatal(err)
	}
	r := newRootfs()
	r.add(images.File{Path: "/etc/hosts.conf", Data: []byte("mine")})
	r.addBase()
	if err := r.addTree(tree); err != nil {
		t.Fatal(err)
	}
	r.addApplets([]string{"sh", "curl"})
	have := map[string]images.File{}
	for _, f := range r.files {
		have[f.Path] = f
	}
	if f := have["/bin/sh"]; f.Link != "/bin/busybox" {
		t.Errorf("/bin/sh is %+v, expected busybox", f)
	}
	if _, twice := have["/bin/curl"]; twice {
		t.Error("busybox stands in for a program that a package brings")
	}
	if f := have["/usr/bin/fetch"]; f.Link != "curl" {
		t.Errorf("a link became %+v", f)
	}
	if f := have["/usr/bin/curl"]; f.Source == "" || f.Mode != 0o644 {
		t.Errorf("a file became %+v", f)
	}
	if f := have["/etc/hosts.conf"]; string(f.Data) != "mine" {
		t.Errorf("a package replaced what the recipe gives: %+v", f)
	}
	if _, doc := have["/usr/share/doc/curl/copyright"]; doc {
		t.Error("documentation is in the image")
	}
	if _, err := images.Build(images.Spec{Entrypoint: []string{"/bin/sh"}, Files: r.files}); err != nil {
		t.Error(err)
	}
}

func TestRecipesAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range recipes() {
		if seen[r.ref] || len(r.entrypoint) == 0 || !strings.HasPrefix(r.ref, registry) {
			t.Errorf("recipe %+v: expected a name of its own in %s and an entry point", r, registry)
		}
		seen[r.ref] = true
	}
}

func TestCheckRefs(t *testing.T) {
	all := []recipe{{ref: "registry.k8s.io/a:1"}, {ref: "registry.k8s.io/b:2"}}
	if err := checkRefs(all, "registry.k8s.io/c:9\nregistry.k8s.io/b:2\nregistry.k8s.io/a:1\n"); err != nil {
		t.Error(err)
	}
	err := checkRefs(all, "registry.k8s.io/b:3\nregistry.k8s.io/a:1\n")
	if err == nil || !strings.Contains(err.Error(), "registry.k8s.io/b:2") || !strings.Contains(err.Error(), "b:3") {
		t.Errorf("another version: found %v, expected both names", err)
	}
}
