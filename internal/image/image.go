// Package image builds container images of static binaries without a container engine. The same inputs
// give the same bytes: files are sorted, owned by root, and carry one timestamp.
package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// File is one file of an image.
type File struct {
	Path   string // absolute, inside the image
	Source string // on this machine
	Mode   int64
}

// Spec is what an image holds.
type Spec struct {
	Files      []File
	Dirs       []string // empty directories, absolute
	Entrypoint []string
	User       string // "" is root
	Arch       string // amd64, arm64
	Created    time.Time
	Labels     map[string]string
}

// Build makes the image: one layer, no shell, nothing but the files.
func Build(s Spec) (v1.Image, error) {
	layer, err := s.tar()
	if err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer)), nil })
	if err != nil {
		return nil, fmt.Errorf("image layer: %w", err)
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("image configuration: %w", err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", s.Arch
	cfg.Created = v1.Time{Time: s.Created.UTC()}
	cfg.History = []v1.History{{Created: cfg.Created, CreatedBy: "weft"}}
	cfg.Config = v1.Config{Entrypoint: s.Entrypoint, User: s.User, Env: []string{"PATH=/"}, Labels: s.Labels}
	return mutate.ConfigFile(img, cfg)
}

// tar is the image's layer.
func (s Spec) tar() ([]byte, error) {
	dirs := map[string]bool{}
	add := func(p string) {
		for d := path.Clean(p); d != "/" && d != "."; d = path.Dir(d) {
			dirs[d] = true
		}
	}
	for _, d := range s.Dirs {
		add(d)
	}
	files := slices.Clone(s.Files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range files {
		if !path.IsAbs(f.Path) {
			return nil, fmt.Errorf("image file %q: the path is not absolute", f.Path)
		}
		add(path.Dir(f.Path))
	}
	sorted := make([]string, 0, len(dirs))
	for d := range dirs {
		sorted = append(sorted, d)
	}
	slices.Sort(sorted)

	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, d := range sorted {
		h := &tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(d, "/") + "/", Mode: 0o755, ModTime: s.Created}
		if d == "/tmp" {
			h.Mode = 0o1777
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("image directory %s: %w", d, err)
		}
	}
	for _, f := range files {
		b, err := os.ReadFile(f.Source)
		if err != nil {
			return nil, fmt.Errorf("image file %s: %w", f.Path, err)
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(f.Path, "/"), Mode: f.Mode, Size: int64(len(b)), ModTime: s.Created}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("image file %s: %w", f.Path, err)
		}
		if _, err := w.Write(b); err != nil {
			return nil, fmt.Errorf("image file %s: %w", f.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("image layer: %w", err)
	}
	return buf.Bytes(), nil
}

// WriteArchive writes the image under its reference as an archive that docker load, ctr images import and
// crane push take.
func WriteArchive(file, ref string, img v1.Image) error {
	tag, err := name.NewTag(ref, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("image reference %q: %w", ref, err)
	}
	tmp := file + ".tmp"
	if err := tarball.WriteToFile(tmp, tag, img); err != nil {
		return fmt.Errorf("image archive %s: %w", file, err)
	}
	return os.Rename(tmp, file)
}
