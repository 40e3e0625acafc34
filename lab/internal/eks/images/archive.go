package images

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Named is an image with the name that it is pulled by.
type Named struct {
	Ref   string
	Image v1.Image
}

// refName is the annotation by which an OCI layout names an image.
const refName = "org.opencontainers.image.ref.name"

// WriteArchive writes images as one docker-archive tarball, complete or not at all.
func WriteArchive(file string, named ...Named) error {
	byTag := map[name.Tag]v1.Image{}
	for _, n := range named {
		tag, err := name.NewTag(n.Ref)
		if err != nil {
			return fmt.Errorf("archive %s: image name %q: %w", file, n.Ref, err)
		}
		byTag[tag] = n.Image
	}
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	err = errors.Join(tarball.MultiWrite(byTag, f), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write archive %s: %w", file, err), os.Remove(f.Name()))
	}
	return nil
}

// ReadArchive reads every image with a name from a docker-archive tarball or from the directory of an OCI
// layout. The images read from it as long as they are used.
func ReadArchive(file string) ([]Named, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("read image archive: %w", err)
	}
	if info.IsDir() {
		return readLayout(file)
	}
	open := tarball.Opener(func() (io.ReadCloser, error) { return os.Open(file) })
	manifest, err := tarball.LoadManifest(open)
	if err != nil {
		return nil, fmt.Errorf("%s is not an image archive (expected what `docker save` writes): %w", file, err)
	}
	var out []Named
	for _, entry := range manifest {
		for _, ref := range entry.RepoTags {
			tag, err := name.NewTag(ref)
			if err != nil {
				return nil, fmt.Errorf("%s: image name %q: %w", file, ref, err)
			}
			img, err := tarball.Image(open, &tag)
			if err != nil {
				return nil, fmt.Errorf("%s: image %s: %w", file, ref, err)
			}
			out = append(out, Named{Ref: ref, Image: img})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s names no image: save it with a name, as in `docker save -o %s NAME:TAG`", file, filepath.Base(file))
	}
	return out, nil
}

// WriteLayout writes an image as an OCI layout into a directory.
func WriteLayout(dir string, n Named) error {
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write OCI layout %s: %w", dir, err)
	}
	if err := l.AppendImage(n.Image, layout.WithAnnotations(map[string]string{refName: n.Ref})); err != nil {
		return fmt.Errorf("write image %s to OCI layout %s: %w", n.Ref, dir, err)
	}
	return nil
}

func readLayout(dir string) ([]Named, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("%s is not an OCI layout (expected index.json and blobs in it): %w", dir, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("OCI layout %s: %w", dir, err)
	}
	var out []Named
	for _, d := range manifest.Manifests {
		ref := d.Annotations[refName]
		if ref == "" {
			continue
		}
		img, err := index.Image(d.Digest)
		if err != nil {
			return nil, fmt.Errorf("OCI layout %s: image %s: %w", dir, ref, err)
		}
		out = append(out, Named{Ref: ref, Image: img})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("OCI layout %s names no image: its index.json needs the annotation %s", dir, refName)
	}
	return out, nil
}
