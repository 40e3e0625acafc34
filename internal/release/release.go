package release

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"helm.sh/helm/v4/pkg/action"

	"github.com/weft-cni/weft/internal/version"
)

// Options of a release.
type Options struct {
	Source  string // the repository
	Out     string
	Commit  string
	Created time.Time
	Log     io.Writer
}

// Architectures that weft is released for.
func Architectures() []string { return []string{"amd64", "arm64"} }

// Run builds everything of a release into o.Out: the same commit gives the same bytes.
func Run(ctx context.Context, o Options) error {
	if err := os.RemoveAll(o.Out); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return err
	}
	var binaries []string
	for _, arch := range Architectures() {
		bin := filepath.Join(o.Out, "..", "release-bin", arch)
		fmt.Fprintf(o.Log, "release: building for linux/%s\n", arch)
		if err := build(ctx, o, bin, arch); err != nil {
			return err
		}
		if _, err := Images(bin, o.Out, arch, o.Created); err != nil {
			return err
		}
		b, err := os.ReadFile(filepath.Join(bin, "weft"))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(o.Out, "weft-linux-"+arch), b, 0o755); err != nil {
			return err
		}
		for _, c := range append(Components(), Component{Binaries: []string{"weft"}}) {
			for _, name := range c.Binaries {
				binaries = append(binaries, filepath.Join(bin, name))
			}
		}
	}
	p := action.NewPackage()
	p.Destination, p.Version, p.AppVersion = o.Out, version.Version[1:], version.Version
	chart, err := p.Run(filepath.Join(o.Source, "charts", "weft"), nil)
	if err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	fmt.Fprintf(o.Log, "release: chart %s\n", filepath.Base(chart))
	sbom, err := SBOM(binaries, o.Created)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(o.Out, "weft.spdx.json"), sbom, 0o644); err != nil {
		return err
	}
	return Checksums(o.Out)
}

func build(ctx context.Context, o Options, bin, arch string) error {
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	abs, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X github.com/weft-cni/weft/internal/version.Commit="+o.Commit,
		"-o", abs+"/", "./cmd/...")
	cmd.Dir, cmd.Stdout, cmd.Stderr = o.Source, o.Log, o.Log
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build for %s: %w", arch, err)
	}
	return nil
}
