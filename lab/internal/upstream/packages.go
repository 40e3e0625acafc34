// Package upstream makes what Kubernetes' own end-to-end tests need: the tests' program, and the images that
// their pods run, under the names that they have upstream, from Go programs and Debian packages.
package upstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Suite is the Debian suite that packages come from, as a line of a sources.list.
const Suite = "http://deb.debian.org/debian bookworm main"

// Packages unpacks Debian packages with everything that they depend on.
type Packages struct {
	// Cache is where archives and unpacked trees are kept.
	Cache string
	// Arch is Debian's name for the architecture.
	Arch string
	// Out is where progress goes.
	Out io.Writer
	// run executes a program in a folder and returns what it printed.
	run func(ctx context.Context, dir, name string, args ...string) (string, error)
}

// NewPackages uses the machine's apt, with lists and a cache of its own: the machine's sources stay as they are.
func NewPackages(cache, arch string, out io.Writer) Packages {
	return Packages{Cache: cache, Arch: arch, Out: out, run: output}
}

// Tree returns a folder that holds the packages and their dependencies, unpacked but not configured. It is
// made once.
func (p Packages) Tree(ctx context.Context, names ...string) (string, error) {
	names = slices.Sorted(slices.Values(names))
	sum := sha256.Sum256([]byte(strings.Join(append(names, Suite, p.Arch), "\n")))
	tree := filepath.Join(p.Cache, "debian-"+hex.EncodeToString(sum[:])[:16])
	if _, err := os.Stat(tree); err == nil {
		return tree, nil
	}
	fmt.Fprintf(p.Out, "fetching Debian packages: %s\n", strings.Join(names, " "))
	work, err := os.MkdirTemp(p.Cache, ".debian-*")
	if err != nil {
		return "", fmt.Errorf("packages of Debian: %w", err)
	}
	err = p.unpack(ctx, work, names)
	if err == nil {
		// A run that was cut off leaves nothing half.
		err = os.Rename(filepath.Join(work, "tree"), tree)
	}
	if err := errors.Join(err, os.RemoveAll(work)); err != nil {
		return "", fmt.Errorf("packages of Debian %s: %w", strings.Join(names, " "), err)
	}
	return tree, nil
}

func (p Packages) unpack(ctx context.Context, work string, names []string) error {
	options, err := p.aptRoot(work)
	if err != nil {
		return err
	}
	if _, err := p.run(ctx, work, "apt-get", append(options, "update")...); err != nil {
		return err
	}
	// No package counts as installed, so that everything that one depends on comes along.
	args := append(slices.Clone(options), "install", "--yes", "--download-only", "--no-install-recommends")
	if _, err := p.run(ctx, work, "apt-get", append(args, names...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(work, "cache", "archives", "*.deb"))
	if err != nil {
		return err
	}
	if len(debs) < len(names) {
		return fmt.Errorf("apt-get downloaded %d packages, expected at least %d", len(debs), len(names))
	}
	for _, deb := range debs {
		if _, err := p.run(ctx, work, "dpkg-deb", "-x", deb, filepath.Join(work, "tree")); err != nil {
			return err
		}
	}
	return os.Chmod(filepath.Join(work, "tree"), 0o755)
}

// aptRoot is a place for apt in which nothing is installed, with one source.
func (p Packages) aptRoot(dir string) ([]string, error) {
	for _, sub := range []string{"lists/partial", "cache/archives/partial", "tree"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	list, status := filepath.Join(dir, "sources.list"), filepath.Join(dir, "status")
	for file, content := range map[string]string{
		list:   "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " + Suite + "\n",
		status: "",
	} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	options := []string{"-q"}
	for _, o := range []string{
		"Dir::State=" + dir,
		"Dir::State::Lists=" + filepath.Join(dir, "lists"),
		"Dir::State::Status=" + status,
		"Dir::Cache=" + filepath.Join(dir, "cache"),
		"Dir::Etc::SourceList=" + list,
		"Dir::Etc::SourceParts=/dev/null",
		"APT::Architecture=" + p.Arch,
		"APT::Architectures=" + p.Arch,
		"APT::Sandbox::User=root",
		"Acquire::Retries=2",
		"Acquire::http::Timeout=30",
	} {
		options = append(options, "-o", o)
	}
	return options, nil
}

// output runs a command and returns what it printed; its complaints go into the error.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
