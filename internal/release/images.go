// Package release makes what a version ships: images, binaries for each architecture, the chart,
// checksums and a bill of materials.
package release

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/weft-cni/weft/internal/image"
	"github.com/weft-cni/weft/internal/version"
)

// Registry is where the chart looks for the images.
const Registry = "ghcr.io/weft-cni"

// Component is one image and the binaries that are in it; the first is the entry point.
type Component struct {
	Name     string
	Binaries []string
	Dirs     []string
}

// Components are weft's images. lab never is one.
func Components() []Component {
	return []Component{
		{Name: "agent", Binaries: []string{"weft-agent", "weft-cni"}, Dirs: []string{"/tmp"}},
		{Name: "operator", Binaries: []string{"weft-operator"}},
		{Name: "probe", Binaries: []string{"weft-probe"}, Dirs: []string{"/tmp"}},
	}
}

// Reference is the image's name with its tag.
func (c Component) Reference() string {
	return fmt.Sprintf("%s/%s:%s", Registry, c.Name, version.Version)
}

// Images writes an archive for each component, from the static binaries in bin, and returns the files.
func Images(bin, out, arch string, created time.Time) ([]string, error) {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	var files []string
	for _, c := range Components() {
		s := image.Spec{
			Dirs: c.Dirs, Arch: arch, Created: created,
			Entrypoint: []string{"/" + c.Binaries[0]},
			Labels: map[string]string{
				"org.opencontainers.image.source":   "https://github.com/weft-cni/weft",
				"org.opencontainers.image.version":  version.Version,
				"org.opencontainers.image.licenses": "Apache-2.0",
			},
		}
		for _, b := range c.Binaries {
			s.Files = append(s.Files, image.File{Path: "/" + b, Source: filepath.Join(bin, b), Mode: 0o755})
		}
		img, err := image.Build(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
		file := filepath.Join(out, fmt.Sprintf("%s-%s.tar", c.Name, arch))
		if err := image.WriteArchive(file, c.Reference(), img); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
		files = append(files, file)
	}
	return files, nil
}
