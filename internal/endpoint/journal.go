package endpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weft-cni/weft/internal/cni"
)

// journalVersion is the layout of a journal entry.
const journalVersion = 1

// entry is one file of the journal.
type entry struct {
	Version  int      `json:"version"`
	Instance string   `json:"instance"`
	Boot     string   `json:"boot"`
	Endpoint Endpoint `json:"endpoint"`
}

// Journal keeps one file for each endpoint.
type Journal struct{ dir, instance, boot string }

// Loaded is what a journal held when it was opened.
type Loaded struct {
	// Endpoints of this boot, released ones among them.
	Endpoints []Endpoint
	// OldBoot are endpoints of an earlier boot: their pods are gone.
	OldBoot []Endpoint
	// SetAside counts entries of another instance (the disk is a golden image), Bad names files that
	// can't be read; both were moved out of the way and kept.
	SetAside int
	Bad      []string
}

// ErrVersion is returned for a journal that a later version wrote.
var ErrVersion = errors.New("journal of a later version")

// OpenJournal reads the journal of an instance and boot.
func OpenJournal(dir, instance, boot string) (*Journal, Loaded, error) {
	j := &Journal{dir: dir, instance: instance, boot: boot}
	var l Loaded
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, l, fmt.Errorf("journal: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, l, fmt.Errorf("journal: %w", err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		switch {
		case f.IsDir():
			continue
		case !strings.HasSuffix(f.Name(), ".json"):
			// The temporary file of a write that a crash cut short.
			if err := os.Remove(path); err != nil {
				return nil, l, fmt.Errorf("journal: %w", err)
			}
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, l, fmt.Errorf("journal: %w", err)
		}
		e, err := parseEntry(b)
		if errors.Is(err, ErrVersion) {
			return nil, l, fmt.Errorf("journal: %s: %w: this agent would give its address to a second pod; install the version that wrote it or newer", path, err)
		}
		switch {
		case err != nil:
			l.Bad = append(l.Bad, f.Name())
			err = j.setAside(f.Name(), "unreadable")
		case e.Instance != instance:
			l.SetAside++
			err = j.setAside(f.Name(), "instance-"+safeName(e.Instance))
		case e.Boot != boot:
			l.OldBoot = append(l.OldBoot, e.Endpoint)
			err = nil
		default:
			l.Endpoints = append(l.Endpoints, e.Endpoint)
			err = nil
		}
		if err != nil {
			return nil, l, err
		}
	}
	return j, l, nil
}

// checkVersion refuses what a later version wrote, before anything else of it is read.
func checkVersion(b []byte, ours int) error {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	if v.Version > ours {
		return fmt.Errorf("%w: it has version %d, expected %d", ErrVersion, v.Version, ours)
	}
	return nil
}

// parseEntry reads an entry and refuses one that can't be whole.
func parseEntry(b []byte) (entry, error) {
	if err := checkVersion(b, journalVersion); err != nil {
		return entry{}, err
	}
	var e entry
	if err := json.Unmarshal(b, &e); err != nil {
		return entry{}, err
	}
	switch {
	case e.Version != journalVersion:
		return entry{}, fmt.Errorf("version is %d, expected %d", e.Version, journalVersion)
	case e.Instance == "" || e.Boot == "":
		return entry{}, errors.New("instance or boot is missing")
	case e.Endpoint.ContainerID == "" || e.Endpoint.IfName == "" || !e.Endpoint.Address.Is4():
		return entry{}, errors.New("endpoint is incomplete")
	}
	return e, nil
}

// setAside moves a file into a directory beside the others, where nothing reads it.
func (j *Journal) setAside(name, why string) error {
	dir := filepath.Join(j.dir, why)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("journal: set %s aside: %w", name, err)
	}
	if err := os.Rename(filepath.Join(j.dir, name), filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("journal: set %s aside: %w", name, err)
	}
	return nil
}

func safeName(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, s)
}

func (j *Journal) path(k Key) string {
	h := sha256.Sum256([]byte(k.Network + "\x00" + k.ContainerID + "\x00" + k.IfName))
	return filepath.Join(j.dir, hex.EncodeToString(h[:16])+".json")
}

// Put makes the endpoint durable. When it fails the old entry stands.
func (j *Journal) Put(e Endpoint) error {
	b, err := json.Marshal(entry{Version: journalVersion, Instance: j.instance, Boot: j.boot, Endpoint: e})
	if err != nil {
		return fmt.Errorf("journal: %s: %w", e.Key, err)
	}
	if err := cni.WriteFileSync(j.path(e.Key), b, 0o600); err != nil {
		return fmt.Errorf("journal: %s: %w", e.Key, err)
	}
	return nil
}

// Release marks the endpoint released. Where there is no room to say so the entry is removed: the
// address then rests in memory only.
func (j *Journal) Release(e Endpoint, now time.Time) error {
	e.Released = now
	if err := j.Put(e); err != nil {
		return j.Remove(e.Key)
	}
	return nil
}

// Remove forgets the endpoint.
func (j *Journal) Remove(k Key) error {
	if err := os.Remove(j.path(k)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("journal: %s: %w", k, err)
	}
	if err := cni.SyncDir(j.dir); err != nil {
		return fmt.Errorf("journal: %s: %w", k, err)
	}
	return nil
}
