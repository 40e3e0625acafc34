package assets

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// module makes a Go module with one program.
func module(t *testing.T, text string) (source string) {
	t.Helper()
	source = t.TempDir()
	for name, content := range map[string]string{
		"containerd/go.mod": "module containerd\n\ngo 1.26\n",
		"one/go.mod":        "module one\n\ngo 1.26\n", "one/go.sum": "",
		"one/main.go": "package main\n\nfunc main() { println(\"" + text + "\") }\n",
	} {
		path := filepath.Join(source, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return source
}

func one() []Program {
	return []Program{{Name: "one", Links: []string{"uno"}, Module: "one", Package: ".", First: "1 s"}}
}

func TestBuildsOnceAndAgainWhenTheSourceChanges(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var said bytes.Buffer
	b := Builder{Source: module(t, "a"), Cache: t.TempDir(), Out: &said}
	first, err := b.Build(ctx, one())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said.String(), "building one") {
		t.Errorf("progress = %q", said.String())
	}
	if target, err := os.Readlink(filepath.Join(first, "uno")); err != nil || target != "one" {
		t.Errorf("other name leads to %q, %v", target, err)
	}
	said.Reset()
	again, err := b.Build(ctx, one())
	if err != nil || again != first || said.Len() > 0 {
		t.Errorf("second build: %s, %v, %q; want %s without a word", again, err, said.String(), first)
	}
	if err := os.WriteFile(filepath.Join(b.Source, "one", "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	changed, err := b.Build(ctx, one())
	if err != nil || changed == first {
		t.Errorf("build of a changed source: %s, %v; want another folder", changed, err)
	}
	// What a lab runs from stays whole.
	if _, err := os.Stat(filepath.Join(first, "one")); err != nil {
		t.Error(err)
	}
}

func TestBuildersWaitForEachOther(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	source, cache := module(t, "b"), t.TempDir()
	var wg sync.WaitGroup
	out := make([]bytes.Buffer, 3)
	dirs := make([]string, 3)
	for i := range out {
		wg.Go(func() {
			var err error
			if dirs[i], err = (Builder{Source: source, Cache: cache, Out: &out[i]}).Build(ctx, one()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	built := 0
	for i := range out {
		built += strings.Count(out[i].String(), "built one")
		if dirs[i] != dirs[0] {
			t.Errorf("folders differ: %v", dirs)
		}
	}
	if built != 1 {
		t.Errorf("built %d times", built)
	}
}

func TestABuildThatFailsSaysWhy(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b := Builder{Source: module(t, "c"), Cache: t.TempDir(), Out: &bytes.Buffer{}}
	if err := os.WriteFile(filepath.Join(b.Source, "one", "main.go"), []byte("package main\n\nfunc main() { nothing() }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := b.Build(ctx, one())
	if err == nil || !strings.Contains(err.Error(), "undefined: nothing") {
		t.Errorf("error = %v", err)
	}
}

func TestFindSource(t *testing.T) {
	root := t.TempDir()
	lab := filepath.Join(root, "lab")
	if err := os.MkdirAll(filepath.Join(lab, "kubebox"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(lab, "kubebox", "go.mod"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(root, "bin", "lab")
	for _, tt := range []struct {
		given, exe, want string
	}{
		{"", exe, lab},
		{lab, "/elsewhere/bin/lab", lab},
		{"", "/elsewhere/bin/lab", ""},
		{root, exe, ""}, // what is said counts, even if another would be right
	} {
		got, err := FindSource(tt.given, tt.exe)
		var missing *SourceError
		if got != tt.want || (tt.want == "") != errors.As(err, &missing) {
			t.Errorf("FindSource(%q, %q) = %q, %v; want %q", tt.given, tt.exe, got, err, tt.want)
		}
	}
}

func TestProgramsHaveModulesAndOneNameEach(t *testing.T) {
	names := map[string]bool{}
	for _, p := range Programs() {
		for _, n := range append([]string{p.Name}, p.Links...) {
			if names[n] {
				t.Errorf("%s is there twice", n)
			}
			names[n] = true
		}
		if _, err := (Builder{Source: "../.."}).key(p, "go"); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	for _, n := range append(CNIPlugins(), "kubelet", "containerd", "runc", "runc-lab", "kubectl") {
		if !names[n] {
			t.Errorf("%s is missing", n)
		}
	}
}
