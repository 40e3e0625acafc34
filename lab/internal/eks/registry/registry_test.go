package registry

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/lab/internal/eks/images"
)

func open(t *testing.T, dir string) *Registry {
	t.Helper()
	r, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func program(t *testing.T, content string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(f, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return f
}

func image(t *testing.T, content string) v1.Image {
	t.Helper()
	img, err := images.Build(images.Spec{Entrypoint: []string{"/p"}, Files: []images.File{{Path: "p", Source: program(t, content)}}})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func reference(t *testing.T, server *httptest.Server, repo string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://")+"/"+repo, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// pull fetches an image as a node does and returns its digest after reading every layer.
func pull(t *testing.T, server *httptest.Server, repo string) (string, error) {
	t.Helper()
	img, err := remote.Image(reference(t, server, repo))
	if err != nil {
		return "", err
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		want, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		content, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := v1.SHA256(content)
		if err := errors.Join(err, content.Close()); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s: layer %s arrives as %s", repo, want, got)
		}
	}
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String(), nil
}

func TestPushIsPulledByPathWithoutHost(t *testing.T) {
	for ref, path := range map[string]string{
		"pause": "library/pause:latest",
		"602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/coredns:v1": "eks/coredns:v1",
		"ghcr.io/weft-cni/agent:v0.1.0":                               "weft-cni/agent:v0.1.0",
		"registry.example:5000/deep/er/name:x":                        "deep/er/name:x",
	} {
		r := open(t, t.TempDir())
		server := httptest.NewServer(r)
		img := image(t, ref)
		if err := r.Push(context.Background(), ref, img); err != nil {
			t.Fatal(err)
		}
		want, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		got, err := pull(t, server, path)
		if err != nil || got != want.String() {
			t.Errorf("%s pulled as %s: %s, %v; expected %s", ref, path, got, err, want)
		}
		repo, _, _ := strings.Cut(path, ":")
		if got, err := pull(t, server, repo+"@"+want.String()); err != nil || got != want.String() {
			t.Errorf("%s pulled by digest: %s, %v", ref, got, err)
		}
		server.Close()
	}
}

func TestImagesSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	if err := first.Push(context.Background(), "eks/pause:1", image(t, "old")); err != nil {
		t.Fatal(err)
	}
	moved := image(t, "new")
	if err := first.Push(context.Background(), "eks/pause:1", moved); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(first)
	index, err := random.Index(64, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(reference(t, server, "multi:1"), index); err != nil {
		t.Fatal(err)
	}
	pushed := mutate.MediaType(image(t, "by wire"), "application/vnd.docker.distribution.manifest.v2+json")
	if err := remote.Write(reference(t, server, "wire:1"), pushed); err != nil {
		t.Fatal(err)
	}
	server.Close()
	for _, junk := range []string{"blobs/upload-1", "manifests/new-1"} {
		if err := os.WriteFile(filepath.Join(dir, junk), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	server = httptest.NewServer(open(t, dir))
	defer server.Close()
	want, err := moved.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pull(t, server, "eks/pause:1"); err != nil || got != want.String() {
		t.Errorf("moved tag after a restart: %s, %v; expected %s", got, err, want)
	}
	if _, err := pull(t, server, "wire:1"); err != nil {
		t.Errorf("image pushed over the wire after a restart: %v", err)
	}
	if _, err := remote.Index(reference(t, server, "multi:1")); err != nil {
		t.Errorf("index after a restart: %v", err)
	}
	for _, junk := range []string{"blobs/upload-1", "manifests/new-1"} {
		if _, err := os.Stat(filepath.Join(dir, junk)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left over: %v", junk, err)
		}
	}
}

func TestUnknownImageIsNotFound(t *testing.T) {
	server := httptest.NewServer(open(t, t.TempDir()))
	defer server.Close()
	_, err := pull(t, server, "no/such:image")
	var refused *transport.Error
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusNotFound {
		t.Errorf("pull of an unknown image: %v, expected status 404", err)
	}
}

func TestRefusedManifestIsNotKept(t *testing.T) {
	dir := t.TempDir()
	server := httptest.NewServer(open(t, dir))
	defer server.Close()
	// An index that names an image which isn't there.
	body := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:` + strings.Repeat("0", 64) + `"}]}`
	req, err := http.NewRequest(http.MethodPut, server.URL+"/v2/x/manifests/1", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode < 400 {
		t.Errorf("status %s, expected a refusal", resp.Status)
	}
	left, err := os.ReadDir(filepath.Join(dir, "manifests"))
	if err != nil || len(left) != 0 {
		t.Errorf("kept %v, %v; expected nothing", left, err)
	}
}

func TestChangedFileIsNotPushed(t *testing.T) {
	f := program(t, "as built")
	img, err := images.Build(images.Spec{Entrypoint: []string{"/p"}, Files: []images.File{{Path: "p", Source: f}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f, []byte("as later"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := open(t, t.TempDir())
	if err := r.Push(context.Background(), "p:1", img); err == nil {
		t.Error("pushed an image whose file has changed")
	}
	server := httptest.NewServer(r)
	defer server.Close()
	if _, err := pull(t, server, "library/p:1"); err == nil {
		t.Error("the image can be pulled")
	}
}

func TestPushArchive(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.tar")
	if err := images.WriteArchive(file, images.Named{Ref: "a/one:1", Image: image(t, "1")}, images.Named{Ref: "a/two:2", Image: image(t, "2")}); err != nil {
		t.Fatal(err)
	}
	r := open(t, t.TempDir())
	refs, err := r.PushArchive(context.Background(), file)
	if err != nil || len(refs) != 2 {
		t.Fatalf("pushed %v, %v; expected two images", refs, err)
	}
	server := httptest.NewServer(r)
	defer server.Close()
	for _, repo := range []string{"a/one:1", "a/two:2"} {
		if _, err := pull(t, server, repo); err != nil {
			t.Errorf("%s: %v", repo, err)
		}
	}
}

func TestConcurrentPushes(t *testing.T) {
	r := open(t, t.TempDir())
	img := image(t, "shared")
	var g errgroup.Group
	for range 20 {
		g.Go(func() error { return r.Push(context.Background(), "shared:1", img) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(r)
	defer server.Close()
	if _, err := pull(t, server, "library/shared:1"); err != nil {
		t.Error(err)
	}
}
