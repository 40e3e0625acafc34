// Package images makes container images from static binaries, the same bytes each time, and reads and
// writes them as archives.
package images

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Spec says what is in an image and how it is started.
type Spec struct {
	Files      []File
	Entrypoint []string
	Cmd        []string
	Env        []string
	User       string
	WorkingDir string
	Labels     map[string]string
	// Architecture is Go's name for it; empty means this machine's.
	Architecture string
}

// Build makes the image. Its digest depends on the spec and the files' contents alone: neither the time nor
// the names and modes of the source files go into it. The files are read again whenever the image is
// written, so they must not change before then; if they do, writing fails on the digest.
func Build(spec Spec) (v1.Image, error) {
	if len(spec.Entrypoint) == 0 {
		return nil, errors.New("image has no entrypoint: set Spec.Entrypoint to the program's path in the image")
	}
	l, err := newLayer(spec.Files)
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: time.Unix(0, 0).UTC()}
	img, err := mutate.Append(mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1),
		mutate.Addendum{Layer: l, History: v1.History{Created: created}})
	if err != nil {
		return nil, fmt.Errorf("append the layer: %w", err)
	}
	have, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the image's configuration: %w", err)
	}
	config := have.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", spec.Architecture, created
	if config.Architecture == "" {
		config.Architecture = runtime.GOARCH
	}
	config.Config = v1.Config{
		Entrypoint: slices.Clone(spec.Entrypoint),
		Cmd:        slices.Clone(spec.Cmd),
		Env:        slices.Clone(spec.Env),
		User:       spec.User,
		WorkingDir: spec.WorkingDir,
		Labels:     spec.Labels,
	}
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		return nil, fmt.Errorf("set the image's configuration: %w", err)
	}
	return img, nil
}
