package upstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/lab/internal/assets"
	"github.com/weft-cni/weft/lab/internal/eks/images"
)

// Archive is the file with the images in what Build returns.
const Archive = "images.tar"

// Build returns a folder that holds the tests' program e2e.test, the command ginkgo that runs it in parallel,
// and the archive of images. What was built before is used again.
func Build(ctx context.Context, b assets.Builder) (string, error) {
	needed := assets.Upstream()
	for _, p := range assets.Programs() {
		if p.Name == "coredns" || p.Name == "pause" {
			needed = append(needed, p)
		}
	}
	programs, err := b.Build(ctx, needed)
	if err != nil {
		return "", err
	}
	from := sources{Programs: programs}
	from.Kubernetes, err = output(ctx, filepath.Join(b.Source, assets.UpstreamModule), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	if err != nil {
		return "", fmt.Errorf("the source of Kubernetes: %w", err)
	}
	from.Kubernetes = strings.TrimSpace(from.Kubernetes)
	listed, err := output(ctx, programs, filepath.Join(programs, "e2e.test"), "--list-images")
	if err != nil {
		return "", fmt.Errorf("the images of upstream's tests: %w", err)
	}
	if err := checkRefs(recipes(), listed); err != nil {
		return "", err
	}
	p := NewPackages(b.Cache, runtime.GOARCH, b.Out)
	sum := sha256.New()
	fmt.Fprintln(sum, programs)
	var all []images.Named
	for _, r := range recipes() {
		img, err := r.make(ctx, p, from)
		if err != nil {
			return "", err
		}
		digest, err := img.Image.Digest()
		if err != nil {
			return "", fmt.Errorf("image %s: %w", r.ref, err)
		}
		fmt.Fprintln(sum, r.ref, digest)
		all = append(all, img)
	}
	dir := filepath.Join(b.Cache, "e2e-"+hex.EncodeToString(sum.Sum(nil))[:16])
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, assemble(b.Cache, dir, programs, all)
}

// checkRefs says which images have other names than in this version of Kubernetes. listed has a name a line.
func checkRefs(all []recipe, listed string) error {
	have := strings.Fields(listed)
	var errs []error
	for _, r := range all {
		if slices.Contains(have, r.ref) {
			continue
		}
		repo, _, _ := strings.Cut(r.ref, ":")
		var others []string
		for _, h := range have {
			if strings.HasPrefix(h, repo+":") {
				others = append(others, h)
			}
		}
		errs = append(errs, fmt.Errorf("image %s isn't one of upstream's tests; found %q: change the recipe's name, and look whether the image changed", r.ref, others))
	}
	return errors.Join(errs...)
}

// assemble fills the folder, which appears whole or not at all.
func assemble(cache, dir, programs string, all []images.Named) error {
	tmp, err := os.MkdirTemp(cache, ".e2e-*")
	if err != nil {
		return fmt.Errorf("upstream's tests: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := images.WriteArchive(filepath.Join(tmp, Archive), all...); err != nil {
		return err
	}
	for _, p := range assets.Upstream() {
		if err := os.Link(filepath.Join(programs, p.Name), filepath.Join(tmp, p.Name)); err != nil {
			return fmt.Errorf("upstream's tests: %w", err)
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("upstream's tests: %w", err)
	}
	err = os.Rename(tmp, dir)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		return nil // somebody else was faster
	}
	return err
}
