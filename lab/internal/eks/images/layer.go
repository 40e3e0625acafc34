package images

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// File is one entry of an image. Exactly one of Source, Data, Link and Dir says what it is.
type File struct {
	// Path in the image, with or without the leading slash. Parents are made.
	Path string
	// Source is the file on disk whose content it has.
	Source string
	// Data is its content.
	Data []byte
	// Link makes it a symbolic link to this path.
	Link string
	// Dir makes it an empty directory.
	Dir bool
	// Mode is its permission bits: 0755 if zero.
	Mode int64
}

// layer is a tar stream that is made again whenever it is read. It isn't compressed: it goes from a disk to
// the same disk, and two nodes that unpack 55 MB each would spend more time on that than on anything else
// of a pull.
type layer struct {
	files []File
	hash  v1.Hash
	size  int64
}

func newLayer(files []File) (*layer, error) {
	entries, err := withParents(files)
	if err != nil {
		return nil, err
	}
	l := &layer{files: entries}
	sum := sha256.New()
	r := l.open()
	l.size, err = io.Copy(sum, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	l.hash = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	return l, nil
}

func (l *layer) Digest() (v1.Hash, error)             { return l.hash, nil }
func (l *layer) DiffID() (v1.Hash, error)             { return l.hash, nil }
func (l *layer) Size() (int64, error)                 { return l.size, nil }
func (l *layer) MediaType() (types.MediaType, error)  { return types.OCIUncompressedLayer, nil }
func (l *layer) Compressed() (io.ReadCloser, error)   { return l.open(), nil }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return l.open(), nil }

func (l *layer) open() io.ReadCloser { return &stream{files: l.files} }

// stream is a layer that is being read: a header, then the file's content, then the next. Files are opened
// when their turn comes.
type stream struct {
	files []File
	part  io.Reader
	src   *os.File
	ended bool
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		if s.part != nil {
			n, err := s.part.Read(p)
			if n > 0 || !errors.Is(err, io.EOF) {
				return n, err
			}
			s.part = nil
			if err := s.Close(); err != nil {
				return 0, err
			}
		}
		switch {
		case len(s.files) > 0:
			f := s.files[0]
			s.files = s.files[1:]
			if err := s.begin(f); err != nil {
				return 0, fmt.Errorf("add %s to the image: %w", f.Path, err)
			}
		case !s.ended:
			s.ended = true
			s.part = bytes.NewReader(make([]byte, 2*block)) // the end of a tar archive
		default:
			return 0, io.EOF
		}
	}
}

// Close releases the file that is being read.
func (s *stream) Close() error {
	if s.src == nil {
		return nil
	}
	src := s.src
	s.src = nil
	return src.Close()
}

// block is what tar rounds everything up to.
const block = 512

func (s *stream) begin(f File) error {
	h := &tar.Header{Name: f.Path, Mode: f.Mode, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
	var content io.Reader = bytes.NewReader(f.Data)
	switch {
	case f.Dir:
		h.Typeflag, h.Name = tar.TypeDir, f.Path+"/"
	case f.Link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Link, 0o777
	case f.Source != "":
		src, err := os.Open(f.Source)
		if err != nil {
			return err
		}
		s.src = src
		info, err := src.Stat()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", f.Source)
		}
		// A file that grows meanwhile must not spill over the next header; the digest tells of the change.
		h.Typeflag, h.Size, content = tar.TypeReg, info.Size(), io.LimitReader(src, info.Size())
	default:
		h.Typeflag, h.Size = tar.TypeReg, int64(len(f.Data))
	}
	var head bytes.Buffer
	if err := tar.NewWriter(&head).WriteHeader(h); err != nil {
		return err
	}
	padding := make([]byte, (block-h.Size%block)%block)
	s.part = io.MultiReader(&head, content, bytes.NewReader(padding))
	return nil
}

// withParents returns the entries cleaned and sorted, with the directories that they need.
func withParents(files []File) ([]File, error) {
	byPath := map[string]File{}
	for _, f := range files {
		p := strings.TrimPrefix(path.Clean("/"+f.Path), "/")
		if p == "" {
			return nil, fmt.Errorf("image file with path %q: expected a path below /", f.Path)
		}
		kinds := 0
		for _, is := range []bool{f.Source != "", f.Data != nil, f.Link != "", f.Dir} {
			if is {
				kinds++
			}
		}
		if kinds != 1 {
			return nil, fmt.Errorf("image file %s: set exactly one of Source, Data, Link and Dir, not %d", p, kinds)
		}
		if _, twice := byPath[p]; twice {
			return nil, fmt.Errorf("image file %s is given twice", p)
		}
		f.Path = p
		if f.Mode == 0 {
			f.Mode = 0o755
		}
		byPath[p] = f
	}
	for p := range byPath {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			have, ok := byPath[dir]
			if ok && !have.Dir {
				return nil, fmt.Errorf("image file %s: its parent %s is not a directory", p, dir)
			}
			if !ok {
				byPath[dir] = File{Path: dir, Dir: true, Mode: 0o755}
			}
		}
	}
	out := make([]File, 0, len(byPath))
	for _, f := range byPath {
		out = append(out, f)
	}
	if len(out) == 0 {
		return nil, errors.New("image has no files")
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}
