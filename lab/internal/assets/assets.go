// Package assets builds the programs that a lab runs from their Go modules, each once, and keeps them in a
// cache that is keyed by what they are built from.
package assets

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// KubernetesVersion is what kubebox is and says that it is.
const KubernetesVersion = "v1.36.3"

// Program is one binary and how it is built.
type Program struct {
	// Name is the file; Links are other names of it.
	Name  string
	Links []string
	// Module is the module's folder inside lab/, Package what is built in it.
	Module, Package string
	// Sources limits what the cache key covers to these folders of the module; none is the whole module.
	Sources []string
	Tags    string
	LDFlags string
	CGO     bool
	// Test builds the program of the package's tests.
	Test bool
	// First is a hint of how long a first build takes.
	First string
}

// kubernetesFlags link Kubernetes' version in.
const kubernetesFlags = "-s -w -X k8s.io/component-base/version.gitVersion=" + KubernetesVersion +
	" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36" +
	" -X k8s.io/component-base/version.gitTreeState=clean"

// Programs lists everything that a lab runs, the slowest first.
func Programs() []Program {
	tool := func(name, pkg string) Program {
		return Program{Name: name, Module: "runtime", Package: pkg, LDFlags: "-s -w", First: "10 s"}
	}
	const plugins = "github.com/containernetworking/plugins/plugins/"
	return []Program{
		{
			Name: "kubebox", Module: "kubebox", Package: ".", First: "6 minutes",
			Links:   []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"},
			LDFlags: kubernetesFlags,
		},
		{Name: "containerd", Links: []string{"ctr"}, Module: "containerd", Package: "./daemon", Tags: "no_btrfs,no_zfs,no_devmapper,no_aufs", LDFlags: "-s -w -X github.com/containerd/containerd/v2/version.Version=2.4.2", First: "2 minutes"},
		{Name: "containerd-shim-runc-v2", Module: "containerd", Package: "./shim", LDFlags: "-s -w", First: "20 s"},
		{Name: "coredns", Module: "coredns", Package: ".", LDFlags: "-s -w", First: "1 minute"},
		{Name: "helm", Module: "clients", Package: "helm.sh/helm/v4/cmd/helm", LDFlags: "-s -w", First: "1 minute"},
		{
			Name: "runc", Module: "runtime", Package: "github.com/opencontainers/runc", CGO: true, First: "20 s",
			// Every sandbox has the runtime's default seccomp profile, so runc must know seccomp.
			Tags: "seccomp,netgo,osusergo", LDFlags: "-s -w -linkmode external -extldflags -static",
		},
		tool("cnitool", "github.com/containernetworking/cni/cnitool"),
		tool("host-local", plugins+"ipam/host-local"),
		tool("bridge", plugins+"main/bridge"),
		tool("loopback", plugins+"main/loopback"),
		tool("ptp", plugins+"main/ptp"),
		tool("portmap", plugins+"meta/portmap"),
		{
			Name: "nodebox", Links: []string{"runc-lab"}, Module: ".", Package: "./cmd/nodebox", LDFlags: "-s -w", First: "2 s",
			Sources: []string{"cmd/nodebox", "internal/node/boot", "internal/node/runc"},
		},
		{Name: "pause", Module: ".", Package: "./pause", LDFlags: "-s -w", First: "2 s", Sources: []string{"pause"}},
	}
}

// UpstreamModule is the module of lab/ whose sums cover Kubernetes' own tests.
const UpstreamModule = "e2e"

// Upstream lists Kubernetes' own end-to-end tests, what runs them in parallel, and the programs that are
// made for their pods. No lab needs them.
func Upstream() []Program {
	const images = "k8s.io/kubernetes/test/images/"
	return []Program{
		{Name: "e2e.test", Module: UpstreamModule, Package: "k8s.io/kubernetes/test/e2e", Test: true, LDFlags: kubernetesFlags, First: "8 minutes"},
		{Name: "agnhost", Module: UpstreamModule, Package: images + "agnhost", LDFlags: "-s -w -X main.Version=2.63.0", First: "1 minute"},
		{Name: "regression-issue-74839", Module: UpstreamModule, Package: images + "regression-issue-74839", LDFlags: "-s -w", First: "2 s"},
		{Name: "ginkgo", Module: UpstreamModule, Package: "github.com/onsi/ginkgo/v2/ginkgo", LDFlags: "-s -w", First: "10 s"},
	}
}

// CNIPlugins are those programs that a node has in /opt/cni/bin, as EKS's image has.
func CNIPlugins() []string { return []string{"host-local", "bridge", "loopback", "ptp", "portmap"} }

// Builder builds programs.
type Builder struct {
	// Source is the folder lab/ of the repository.
	Source string
	// Cache holds what was built.
	Cache string
	// Out is where progress goes.
	Out io.Writer
	// Go is the go command.
	Go string
}

// SourceError says that lab/ of the repository can't be found.
type SourceError struct{ Tried []string }

func (e *SourceError) Error() string {
	return fmt.Sprintf("the lab's source isn't at %s: expected the folder lab/ of a clone of weft, because the lab builds Kubernetes from it; say where it is with --source or WEFT_LAB_SOURCE",
		strings.Join(e.Tried, " or "))
}

// FindSource returns lab/ of the repository: what is given, or beside the executable's folder.
func FindSource(given, executable string) (string, error) {
	var tried []string
	for _, dir := range []string{given, filepath.Join(filepath.Dir(filepath.Dir(executable)), "lab")} {
		if dir == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "kubebox", "go.mod")); err == nil {
			return filepath.Abs(dir)
		}
		tried = append(tried, dir)
		if given != "" {
			break
		}
	}
	return "", &SourceError{Tried: tried}
}

// CacheDir is where builds are kept: $WEFT_CACHE or the user's cache.
func CacheDir() (string, error) {
	if dir := os.Getenv("WEFT_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("where to keep built programs: %w; set WEFT_CACHE to a folder", err)
	}
	return filepath.Join(dir, "weft"), nil
}

// Build makes sure that every program is built and returns a folder that holds all of them, with their
// other names. A set that was built before costs a few hashes.
func (b Builder) Build(ctx context.Context, programs []Program) (string, error) {
	goVersion, err := b.goVersion(ctx)
	if err != nil {
		return "", err
	}
	set := sha256.New()
	keys := make([]string, len(programs))
	for i, p := range programs {
		if keys[i], err = b.key(p, goVersion); err != nil {
			return "", fmt.Errorf("build %s: %w", p.Name, err)
		}
		fmt.Fprintln(set, p.Name, strings.Join(p.Links, " "), keys[i])
	}
	dir := filepath.Join(b.Cache, "set-"+short(set.Sum(nil)))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return "", fmt.Errorf("cache of built programs: %w", err)
	}
	for i, p := range programs {
		if err := b.program(ctx, p, keys[i]); err != nil {
			return "", err
		}
	}
	return dir, b.assemble(dir, programs, keys)
}

// assemble links the programs into one folder, which appears whole or not at all.
func (b Builder) assemble(dir string, programs []Program, keys []string) error {
	tmp, err := os.MkdirTemp(b.Cache, ".set-*")
	if err != nil {
		return fmt.Errorf("cache of built programs: %w", err)
	}
	defer os.RemoveAll(tmp)
	for i, p := range programs {
		if err := os.Link(b.path(p, keys[i]), filepath.Join(tmp, p.Name)); err != nil {
			return fmt.Errorf("cache of built programs: %w", err)
		}
		for _, link := range p.Links {
			if err := os.Symlink(p.Name, filepath.Join(tmp, link)); err != nil {
				return fmt.Errorf("cache of built programs: %w", err)
			}
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("cache of built programs: %w", err)
	}
	err = os.Rename(tmp, dir)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		return nil // somebody else was faster
	}
	return err
}

func (b Builder) path(p Program, key string) string {
	return filepath.Join(b.Cache, p.Name+"-"+key)
}

func (b Builder) program(ctx context.Context, p Program, key string) error {
	out := b.path(p, key)
	if _, err := os.Stat(out); err == nil {
		return nil
	}
	unlock, err := b.lock(ctx, p.Name)
	if err != nil {
		return fmt.Errorf("build %s: %w", p.Name, err)
	}
	defer unlock()
	if _, err := os.Stat(out); err == nil {
		return nil
	}
	return b.compile(ctx, p, out)
}

// lock waits until no other process builds the same program.
func (b Builder) lock(ctx context.Context, name string) (func(), error) {
	f, err := os.OpenFile(filepath.Join(b.Cache, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for told := false; ; told = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			// Closing the file releases the lock.
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(err, f.Close())
		}
		if !told {
			fmt.Fprintf(b.Out, "waiting for another process that builds %s\n", name)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-tick.C:
		}
	}
}

func (b Builder) compile(ctx context.Context, p Program, out string) error {
	tmp := out + ".tmp"
	verb := []string{"build"}
	if p.Test {
		verb = []string{"test", "-c"}
	}
	args := append(verb, "-trimpath", "-buildvcs=false", "-ldflags", p.LDFlags, "-o", tmp)
	if p.Tags != "" {
		args = append(args, "-tags", p.Tags)
	}
	cmd := exec.CommandContext(ctx, b.goCommand(), append(args, p.Package)...)
	cmd.Dir = filepath.Join(b.Source, p.Module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if p.CGO {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	line := fmt.Sprintf("building %s, about %s the first time", p.Name, p.First)
	fmt.Fprintf(b.Out, "%s\n", line)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("build %s: %w", p.Name, err)
	}
	done := make(chan struct{})
	var building errgroup.Group
	building.Go(func() error {
		defer close(done)
		return cmd.Wait()
	})
	tick := time.NewTicker(20 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			if err := building.Wait(); err != nil {
				return fmt.Errorf("build %s: %w:\n%s", p.Name, err, strings.TrimSpace(said.String()))
			}
			fmt.Fprintf(b.Out, "built %s in %.0f s\n", p.Name, time.Since(began).Seconds())
			return os.Rename(tmp, out)
		case <-tick.C:
			fmt.Fprintf(b.Out, "%s … %.0f s\n", line, time.Since(began).Seconds())
		}
	}
}

func (b Builder) goCommand() string { return cmp.Or(b.Go, "go") }

func (b Builder) goVersion(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, b.goCommand(), "version")
	// Inside the module, because its go.mod may ask for another toolchain than the default.
	cmd.Dir = filepath.Join(b.Source, "containerd")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go version: %w; the lab builds Kubernetes, so Go 1.26 must be in PATH", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// key is a hash of everything that a program is made of.
func (b Builder) key(p Program, goVersion string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, goVersion, p.Package, p.Tags, p.LDFlags, p.CGO)
	if p.Test {
		fmt.Fprintln(h, "test")
	}
	root := filepath.Join(b.Source, p.Module)
	files := []string{filepath.Join(root, "go.mod"), filepath.Join(root, "go.sum")}
	folders := p.Sources
	if len(folders) == 0 {
		folders = []string{"."}
	}
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	slices.Sort(files)
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		rel, err := filepath.Rel(root, f)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, rel, len(content))
		h.Write(content)
	}
	return short(h.Sum(nil)), nil
}

func short(sum []byte) string { return hex.EncodeToString(sum)[:16] }
