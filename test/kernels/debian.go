package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A kernel is a series and the Debian suites that carry it.
type kernel struct {
	name   string
	suites []string // lines of a sources.list, the first that has the series is taken
	// devices that pods can have.
	devices []string
}

const metaPackage = "linux-image-cloud-amd64"

func kernels() []kernel {
	return []kernel{
		{name: "6.1", suites: []string{"http://deb.debian.org/debian bookworm main"}, devices: []string{"veth"}},
		{name: "6.12", devices: []string{"veth", "netkit", "netkit-l2"}, suites: []string{
			"http://deb.debian.org/debian trixie main",
			"http://deb.debian.org/debian bookworm-backports main",
		}},
	}
}

func kernelNames() []string {
	var names []string
	for _, k := range kernels() {
		names = append(names, k.name)
	}
	return names
}

// An image is an unpacked kernel package.
type image struct {
	vmlinuz string
	modules string // folder
}

// fetch returns the kernel from the cache, or by Debian's own tools, with lists of its own: the machine's
// sources stay as they are.
func fetch(ctx context.Context, k kernel, cache string, update bool) (image, error) {
	record := filepath.Join(cache, k.name+".json")
	if !update {
		if img, ok := cached(record); ok {
			return img, nil
		}
	}
	var errs []error
	for _, suite := range k.suites {
		dir, err := download(ctx, k, suite, cache)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", suite, err))
			continue
		}
		b, err := json.Marshal(dir)
		if err != nil {
			return image{}, err
		}
		if err := os.WriteFile(record, b, 0o644); err != nil {
			return image{}, err
		}
		return find(dir)
	}
	return image{}, errors.Join(errs...)
}

func cached(record string) (image, bool) {
	b, err := os.ReadFile(record)
	if err != nil {
		return image{}, false
	}
	var dir string
	if err := json.Unmarshal(b, &dir); err != nil {
		return image{}, false
	}
	img, err := find(dir)
	return img, err == nil
}

// find looks at an unpacked package.
func find(dir string) (image, error) {
	vmlinuz, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil {
		return image{}, err
	}
	modules, err := filepath.Glob(filepath.Join(dir, "usr", "lib", "modules", "*", "kernel"))
	if err != nil {
		return image{}, err
	}
	if len(modules) == 0 {
		if modules, err = filepath.Glob(filepath.Join(dir, "lib", "modules", "*", "kernel")); err != nil {
			return image{}, err
		}
	}
	if len(vmlinuz) != 1 || len(modules) != 1 {
		return image{}, fmt.Errorf("%s holds %d kernels and %d folders of modules, expected one of each", dir, len(vmlinuz), len(modules))
	}
	return image{vmlinuz: vmlinuz[0], modules: modules[0]}, nil
}

// download unpacks the package that the suite's meta package names, if it is of the series.
func download(ctx context.Context, k kernel, suite, cache string) (string, error) {
	apt := filepath.Join(cache, "apt", strings.NewReplacer("/", "_", ":", "_", " ", "_").Replace(suite))
	options, err := aptRoot(apt, suite)
	if err != nil {
		return "", err
	}
	if _, err := output(ctx, "", "apt-get", append(options, "update")...); err != nil {
		return "", err
	}
	shown, err := output(ctx, "", "apt-cache", append(options, "show", "--no-all-versions", metaPackage)...)
	if err != nil {
		return "", err
	}
	name, version, err := dependency(shown)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(version, k.name+".") {
		return "", fmt.Errorf("the suite has kernel %s, expected %s", version, k.name)
	}
	dir := filepath.Join(cache, name+"_"+version)
	if _, err := find(dir); err == nil {
		return dir, nil
	}
	if _, err := output(ctx, apt, "apt-get", append(options, "download", name+"="+version)...); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(apt, name+"_*.deb"))
	if err != nil {
		return "", err
	}
	if len(debs) != 1 {
		return "", fmt.Errorf("apt-get downloaded %d packages %s, expected one", len(debs), name)
	}
	// Unpacked aside and renamed, so that a run that was cut off leaves nothing half.
	unpacked := dir + ".new"
	if err := os.RemoveAll(unpacked); err != nil {
		return "", err
	}
	if _, err := output(ctx, "", "dpkg-deb", "-x", debs[0], unpacked); err != nil {
		return "", err
	}
	if err := os.Remove(debs[0]); err != nil {
		return "", err
	}
	return dir, os.Rename(unpacked, dir)
}

// aptRoot is a place for apt with this one source.
func aptRoot(dir, suite string) ([]string, error) {
	for _, sub := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	list := filepath.Join(dir, "sources.list")
	line := "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " + suite + "\n"
	if err := os.WriteFile(list, []byte(line), 0o644); err != nil {
		return nil, err
	}
	var options []string
	for _, o := range []string{
		"Dir::State::Lists=" + filepath.Join(dir, "lists"),
		"Dir::Cache=" + filepath.Join(dir, "cache"),
		"Dir::Etc::SourceList=" + list,
		"Dir::Etc::SourceParts=/dev/null",
		"APT::Architecture=amd64",
		"APT::Architectures=amd64",
		"APT::Sandbox::User=root",
		"Acquire::Retries=2",
		"Acquire::http::Timeout=30",
	} {
		options = append(options, "-o", o)
	}
	return append(options, "-q"), nil
}

// dependency reads name and version from "Depends: linux-image-… (= version)".
func dependency(shown string) (name, version string, err error) {
	for line := range strings.Lines(shown) {
		depends, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: ")
		if !ok {
			continue
		}
		name, rest, ok := strings.Cut(depends, " (= ")
		version, _, closed := strings.Cut(rest, ")")
		if ok && closed && strings.HasPrefix(name, "linux-image-") {
			return name, version, nil
		}
	}
	return "", "", fmt.Errorf("%s names no kernel package; expected a line \"Depends: linux-image-… (= version)\"", metaPackage)
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
