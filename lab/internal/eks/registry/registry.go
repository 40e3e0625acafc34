// Package registry is the lab's stand-in for every container registry: it serves images by repository and
// tag whatever the registry's name was, and keeps them on disk.
package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	upstream "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weft-cni/weft/lab/internal/eks/images"
)

// Registry serves the OCI distribution protocol. containerd sends it the pulls of every host, with the host
// taken off: ghcr.io/weft-cni/agent arrives as weft-cni/agent, pause as library/pause.
type Registry struct {
	blobs   string
	store   upstream.BlobHandler
	records *records
	handler http.Handler
	// push orders writers of the same blob.
	push sync.Mutex
}

// New opens the registry that is kept in a directory, or begins one there.
func New(dir string) (*Registry, error) {
	r := &Registry{blobs: filepath.Join(dir, "blobs"), records: &records{dir: filepath.Join(dir, "manifests")}}
	for _, d := range []string{r.blobs, r.records.dir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("open registry: %w", err)
		}
	}
	if err := r.sweep(); err != nil {
		return nil, err
	}
	r.store = upstream.NewDiskBlobHandler(r.blobs)
	r.handler = upstream.New(upstream.WithBlobHandler(r.store), upstream.Logger(log.New(io.Discard, "", 0)))
	if err := r.records.each(func(rec record) error { return r.announce(context.Background(), rec) }); err != nil {
		return nil, fmt.Errorf("open registry %s: %w", dir, err)
	}
	return r, nil
}

// sweep removes what a killed process left half written.
func (r *Registry) sweep() error {
	left, err := filepath.Glob(filepath.Join(r.blobs, "upload-*"))
	if err != nil {
		return err
	}
	for _, f := range left {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("open registry: %w", err)
		}
	}
	return nil
}

// ServeHTTP answers pulls and pushes. A pushed manifest is on disk before the client hears of success.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	repo, target, ok := manifestPath(req.URL.Path)
	if !ok || req.Method != http.MethodPut {
		r.handler.ServeHTTP(w, req)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxManifest))
	if err != nil {
		http.Error(w, fmt.Sprintf("read manifest: %v", err), http.StatusRequestEntityTooLarge)
		return
	}
	rec := record{Repository: repo, Target: target, ContentType: req.Header.Get("Content-Type"), Manifest: body}
	if err := r.accept(req.Context(), rec); err != nil {
		var refused *refusal
		if errors.As(err, &refused) {
			refused.write(w)
			return
		}
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h, _, err := v1.SHA256(bytes.NewReader(body))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Docker-Content-Digest", h.String())
	w.Header().Set("Location", req.URL.Path)
	w.WriteHeader(http.StatusCreated)
}

// maxManifest is the size that registries accept; a manifest lists layers and has no business being larger.
const maxManifest = 4 << 20

// Push stores an image under a name as people write it: pause, weft-cni/agent:v1, ghcr.io/weft-cni/agent:v1.
func (r *Registry) Push(ctx context.Context, ref string, img v1.Image) error {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return fmt.Errorf("push image: name %q: expected [HOST/]REPOSITORY[:TAG]: %w", ref, err)
	}
	repo := parsed.Context().RepositoryStr()
	if err := r.pushBlobs(ctx, repo, img); err != nil {
		return fmt.Errorf("push image %s: %w", ref, err)
	}
	manifest, err := img.RawManifest()
	if err != nil {
		return fmt.Errorf("push image %s: manifest: %w", ref, err)
	}
	kind, err := img.MediaType()
	if err != nil {
		return fmt.Errorf("push image %s: media type: %w", ref, err)
	}
	if kind == "" {
		kind = types.OCIManifestSchema1
	}
	rec := record{Repository: repo, Target: parsed.Identifier(), ContentType: string(kind), Manifest: manifest}
	if err := r.accept(ctx, rec); err != nil {
		return fmt.Errorf("push image %s: %w", ref, err)
	}
	return nil
}

// PushArchive stores every image of a docker-archive or OCI layout and returns their names.
func (r *Registry) PushArchive(ctx context.Context, file string) ([]string, error) {
	named, err := images.ReadArchive(file)
	if err != nil {
		return nil, err
	}
	var refs []string
	for _, n := range named {
		if err := r.Push(ctx, n.Ref, n.Image); err != nil {
			return refs, fmt.Errorf("%s: %w", file, err)
		}
		refs = append(refs, n.Ref)
	}
	return refs, nil
}

func (r *Registry) pushBlobs(ctx context.Context, repo string, img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("layers: %w", err)
	}
	for _, l := range layers {
		h, err := l.Digest()
		if err != nil {
			return fmt.Errorf("layer: %w", err)
		}
		if err := r.pushBlob(ctx, repo, h, l.Compressed); err != nil {
			return err
		}
	}
	h, err := img.ConfigName()
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return r.pushBlob(ctx, repo, h, func() (io.ReadCloser, error) {
		raw, err := img.RawConfigFile()
		return io.NopCloser(bytes.NewReader(raw)), err
	})
}

func (r *Registry) pushBlob(ctx context.Context, repo string, h v1.Hash, open func() (io.ReadCloser, error)) error {
	r.push.Lock()
	defer r.push.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(r.blobs, h.Algorithm, h.Hex)); err == nil {
		return nil
	}
	content, err := open()
	if err != nil {
		return fmt.Errorf("blob %s: %w", h, err)
	}
	defer content.Close()
	checked, err := verified(content, h)
	if err != nil {
		return fmt.Errorf("blob %s: %w", h, err)
	}
	putter, ok := r.store.(upstream.BlobPutHandler)
	if !ok {
		return errors.New("the blob store takes no blobs")
	}
	if err := putter.Put(ctx, repo, h, checked); err != nil {
		return fmt.Errorf("blob %s: %w", h, err)
	}
	return nil
}

// accept takes a manifest: first to disk, then to the handler that serves it. In the other order a crash
// between the two would take back what a client has already been told is there.
func (r *Registry) accept(ctx context.Context, rec record) error {
	keep, err := r.records.write(rec)
	if err != nil {
		return err
	}
	if err := r.announce(ctx, rec); err != nil {
		return errors.Join(err, keep.discard())
	}
	return keep.commit()
}

// announce gives a manifest to the handler, which keeps manifests in memory.
func (r *Registry) announce(ctx context.Context, rec record) error {
	url := "http://registry/v2/" + rec.Repository + "/manifests/" + rec.Target
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(rec.Manifest))
	if err != nil {
		return fmt.Errorf("manifest %s:%s: %w", rec.Repository, rec.Target, err)
	}
	req.Header.Set("Content-Type", rec.ContentType)
	answer := &recorder{header: http.Header{}}
	r.handler.ServeHTTP(answer, req)
	if answer.status >= 300 {
		return fmt.Errorf("manifest %s:%s: %w", rec.Repository, rec.Target, &refusal{status: answer.status, body: answer.body.String()})
	}
	return nil
}

// manifestPath takes /v2/REPOSITORY/manifests/TARGET apart.
func manifestPath(path string) (repo, target string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return "", "", false
	}
	i := strings.LastIndex(rest, "/manifests/")
	if i <= 0 {
		return "", "", false
	}
	repo, target = rest[:i], rest[i+len("/manifests/"):]
	return repo, target, target != "" && !strings.Contains(target, "/")
}

// refusal is the handler's answer to a manifest that it doesn't take.
type refusal struct {
	status int
	body   string
}

func (e *refusal) Error() string { return fmt.Sprintf("refused with status %d: %s", e.status, e.body) }

func (e *refusal) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	// The client may be gone; there is nobody else to tell.
	_, _ = io.WriteString(w, e.body)
}

// recorder is a ResponseWriter that remembers.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}
func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}
