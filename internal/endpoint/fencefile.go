package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/weft-cni/weft/internal/cni"
)

// fencesVersion is the layout of the file.
const fencesVersion = 1

type fenceFile struct {
	Version  int     `json:"version"`
	Instance string  `json:"instance"`
	Fences   []Fence `json:"fences"`
}

// Fences is the file of an instance's fences.
type Fences struct{ path, instance string }

// OpenFences reads the file. One that can't be read or is of another instance, because the disk is a golden
// image, is moved aside; aside is its new name.
func OpenFences(path, instance string) (f *Fences, all []Fence, aside string, err error) {
	f = &Fences{path, instance}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, nil, "", fmt.Errorf("fences: %w", err)
	}
	// What a write that a crash cut short left.
	cut, err := filepath.Glob(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp-*"))
	if err != nil {
		return nil, nil, "", fmt.Errorf("fences: %w", err)
	}
	for _, name := range cut {
		if err := os.Remove(name); err != nil {
			return nil, nil, "", fmt.Errorf("fences: %w", err)
		}
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil, "", nil
	}
	if err != nil {
		return nil, nil, "", fmt.Errorf("fences: %w", err)
	}
	file, err := parseFences(b)
	switch {
	case errors.Is(err, ErrVersion):
		return nil, nil, "", fmt.Errorf("fences: %s: %w: this agent would give away addresses that may be gone; install the version that wrote it or newer", path, err)
	case err != nil:
		aside = path + ".unreadable"
	case file.Instance != instance:
		aside = path + ".instance-" + safeName(file.Instance)
	default:
		return f, file.Fences, "", nil
	}
	if err := os.Rename(path, aside); err != nil {
		return nil, nil, "", fmt.Errorf("fences: set aside: %w", err)
	}
	return f, nil, aside, nil
}

// parseFences reads the file and refuses one that can't be whole.
func parseFences(b []byte) (fenceFile, error) {
	if err := checkVersion(b, fencesVersion); err != nil {
		return fenceFile{}, err
	}
	var f fenceFile
	if err := json.Unmarshal(b, &f); err != nil {
		return fenceFile{}, err
	}
	if f.Version != fencesVersion || f.Instance == "" {
		return fenceFile{}, errors.New("version or instance is missing")
	}
	for _, one := range f.Fences {
		if !one.Address.IsValid() {
			return fenceFile{}, errors.New("a fence has no address")
		}
	}
	return f, nil
}

// Put writes all fences.
func (f *Fences) Put(all []Fence) error {
	b, err := json.Marshal(fenceFile{Version: fencesVersion, Instance: f.instance, Fences: all})
	if err != nil {
		return fmt.Errorf("fences: %w", err)
	}
	if err := cni.WriteFileSync(f.path, b, 0o600); err != nil {
		return fmt.Errorf("fences: %w", err)
	}
	return nil
}
