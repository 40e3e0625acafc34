package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// record is one manifest under one name, as it is kept on disk.
type record struct {
	Repository  string `json:"repository"`
	Target      string `json:"target"` // a tag or a digest
	ContentType string `json:"contentType"`
	Manifest    []byte `json:"manifest"`
}

func (r record) file() string {
	sum := sha256.Sum256([]byte(r.Repository + "\x00" + r.Target))
	return hex.EncodeToString(sum[:]) + ".json"
}

// records is the directory of manifests: a file for each.
type records struct{ dir string }

// pending is a record on disk that isn't valid yet.
type pending struct{ from, to string }

func (p pending) commit() error  { return os.Rename(p.from, p.to) }
func (p pending) discard() error { return os.Remove(p.from) }

func (s *records) write(rec record) (pending, error) {
	raw, err := json.Marshal(rec)
	if err != nil {
		return pending{}, err
	}
	f, err := os.CreateTemp(s.dir, "new-*")
	if err != nil {
		return pending{}, fmt.Errorf("keep manifest: %w", err)
	}
	_, err = f.Write(raw)
	if err := errors.Join(err, f.Close()); err != nil {
		return pending{}, errors.Join(fmt.Errorf("keep manifest: %w", err), os.Remove(f.Name()))
	}
	return pending{from: f.Name(), to: filepath.Join(s.dir, rec.file())}, nil
}

// each visits every record, images before the indexes that name them.
func (s *records) each(visit func(record) error) error {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var all []record
	for _, f := range files {
		path := filepath.Join(s.dir, f.Name())
		if !strings.HasSuffix(f.Name(), ".json") {
			if err := os.Remove(path); err != nil { // half written by a process that was killed
				return err
			}
			continue
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var rec record
		if err := json.Unmarshal(raw, &rec); err != nil {
			return fmt.Errorf("manifest %s: %w", path, err)
		}
		all = append(all, rec)
	}
	slices.SortStableFunc(all, func(a, b record) int { return rank(a) - rank(b) })
	for _, rec := range all {
		if err := visit(rec); err != nil {
			return err
		}
	}
	return nil
}

func rank(r record) int {
	if types.MediaType(r.ContentType).IsIndex() {
		return 1
	}
	return 0
}

// verified passes content on and fails at its end if it isn't what the digest says.
func verified(r io.Reader, want v1.Hash) (io.ReadCloser, error) {
	if want.Algorithm != "sha256" {
		return nil, fmt.Errorf("digest algorithm %q: expected sha256", want.Algorithm)
	}
	return &verifier{r: r, sum: sha256.New(), want: want.Hex}, nil
}

type verifier struct {
	r    io.Reader
	sum  hash.Hash
	want string
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.sum.Write(p[:n])
	if errors.Is(err, io.EOF) {
		if got := hex.EncodeToString(v.sum.Sum(nil)); got != v.want {
			return n, fmt.Errorf("content has digest sha256:%s, expected sha256:%s: the file changed since the image was built", got, v.want)
		}
	}
	return n, err
}

func (v *verifier) Close() error { return nil }
