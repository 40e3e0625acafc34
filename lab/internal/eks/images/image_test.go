package images

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func source(t *testing.T, content string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(f, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

func build(t *testing.T, spec Spec) v1.Image {
	t.Helper()
	img, err := Build(spec)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func digest(t *testing.T, img v1.Image) string {
	t.Helper()
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// check compares the digests that an image claims with what its layers hold.
func check(t *testing.T, img v1.Image) {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		h, n, err := v1.SHA256(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		if h != config.RootFS.DiffIDs[i] || h != manifest.Layers[i].Digest || n != manifest.Layers[i].Size {
			t.Errorf("layer %d holds %s of %d bytes; configuration says %s, manifest %s of %d", i, h, n,
				config.RootFS.DiffIDs[i], manifest.Layers[i].Digest, manifest.Layers[i].Size)
		}
	}
}

func TestBuildIsReproducible(t *testing.T) {
	a, b := source(t, "program"), source(t, "program")
	if err := os.Chtimes(b, time.Unix(1e9, 0), time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
	one := build(t, Spec{Entrypoint: []string{"/x"}, Files: []File{{Path: "/x", Source: a}, {Path: "a/b", Data: []byte("1")}}})
	two := build(t, Spec{Entrypoint: []string{"/x"}, Files: []File{{Path: "a/b", Data: []byte("1")}, {Path: "x", Source: b}}})
	if digest(t, one) != digest(t, two) {
		t.Errorf("the same content in another file and order gives another digest: %s, %s", digest(t, one), digest(t, two))
	}
	other := build(t, Spec{Entrypoint: []string{"/x"}, Files: []File{{Path: "/x", Source: source(t, "PROGRAM")}, {Path: "a/b", Data: []byte("1")}}})
	if digest(t, one) == digest(t, other) {
		t.Error("other content gives the same digest")
	}
}

func TestBuildContent(t *testing.T) {
	img := build(t, Spec{
		Entrypoint: []string{"/bin/x"},
		Files: []File{
			{Path: "/usr/bin/x", Source: source(t, "program")},
			{Path: "bin", Link: "usr/bin"},
			{Path: "tmp", Dir: true, Mode: 0o1777},
			{Path: "etc/block", Data: make([]byte, 512), Mode: 0o644},
			{Path: "etc/empty", Data: []byte{}},
		},
	})
	check(t, img)
	type entry struct {
		Name, Link string
		Kind       byte
		Mode, Size int64
	}
	var got []entry
	r := mutate.Extract(img)
	defer r.Close()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 0 || h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s: time %v, owner %d:%d, expected the epoch and 0:0", h.Name, h.ModTime, h.Uid, h.Gid)
		}
		got = append(got, entry{h.Name, h.Linkname, h.Typeflag, h.Mode, h.Size})
	}
	want := []entry{
		{"bin", "usr/bin", tar.TypeSymlink, 0o777, 0},
		{"etc", "", tar.TypeDir, 0o755, 0},
		{"etc/block", "", tar.TypeReg, 0o644, 512},
		{"etc/empty", "", tar.TypeReg, 0o755, 0},
		{"tmp", "", tar.TypeDir, 0o1777, 0},
		{"usr", "", tar.TypeDir, 0o755, 0},
		{"usr/bin", "", tar.TypeDir, 0o755, 0},
		{"usr/bin/x", "", tar.TypeReg, 0o755, 7},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("entries (-want +got):\n%s", d)
	}
}

func TestBuildRefuses(t *testing.T) {
	x := File{Path: "x", Data: []byte("x")}
	for name, spec := range map[string]Spec{
		"no entrypoint":    {Files: []File{x}},
		"no files":         {Entrypoint: []string{"/x"}},
		"the root":         {Entrypoint: []string{"/x"}, Files: []File{{Path: "/..", Dir: true}}},
		"two kinds":        {Entrypoint: []string{"/x"}, Files: []File{{Path: "x", Link: "y", Dir: true}}},
		"no kind":          {Entrypoint: []string{"/x"}, Files: []File{{Path: "x"}}},
		"twice":            {Entrypoint: []string{"/x"}, Files: []File{x, {Path: "/x", Dir: true}}},
		"parent is a file": {Entrypoint: []string{"/x"}, Files: []File{x, {Path: "x/y", Data: []byte("1")}}},
		"missing source":   {Entrypoint: []string{"/x"}, Files: []File{{Path: "x", Source: "/nonexistent/file"}}},
		"directory source": {Entrypoint: []string{"/x"}, Files: []File{{Path: "x", Source: "/"}}},
	} {
		if _, err := Build(spec); err == nil {
			t.Errorf("%s: built, expected an error", name)
		}
	}
}

func TestArchives(t *testing.T) {
	a := build(t, Spec{Entrypoint: []string{"/x"}, Files: []File{{Path: "x", Source: source(t, "a")}}})
	b := build(t, Spec{Entrypoint: []string{"/x"}, Files: []File{{Path: "x", Source: source(t, "b")}}})
	file := filepath.Join(t.TempDir(), "images.tar")
	if err := WriteArchive(file, Named{"ghcr.io/weft-cni/agent:v1", a}, Named{"ghcr.io/weft-cni/operator:v1", b}); err != nil {
		t.Fatal(err)
	}
	got, err := ReadArchive(file)
	if err != nil {
		t.Fatal(err)
	}
	config := func(img v1.Image) string {
		h, err := img.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		return h.String()
	}
	configs := map[string]string{}
	for _, n := range got {
		if err := validate.Image(n.Image); err != nil {
			t.Errorf("%s is not valid: %v", n.Ref, err)
		}
		configs[n.Ref] = config(n.Image)
	}
	want := map[string]string{"ghcr.io/weft-cni/agent:v1": config(a), "ghcr.io/weft-cni/operator:v1": config(b)}
	if d := cmp.Diff(want, configs); d != "" {
		t.Errorf("images of the archive (-want +got):\n%s", d)
	}

	dir := t.TempDir()
	if err := WriteLayout(dir, Named{"ghcr.io/weft-cni/agent:v1", a}); err != nil {
		t.Fatal(err)
	}
	got, err = ReadArchive(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Ref != "ghcr.io/weft-cni/agent:v1" || digest(t, got[0].Image) != digest(t, a) {
		t.Errorf("the layout holds %v, expected the agent with digest %s", got, digest(t, a))
	}
}

func TestReadArchiveRefuses(t *testing.T) {
	for name, file := range map[string]string{
		"missing":         "/nonexistent/file",
		"not a tar":       source(t, "nothing of the kind"),
		"empty directory": t.TempDir(),
	} {
		if _, err := ReadArchive(file); err == nil {
			t.Errorf("%s: read, expected an error", name)
		}
	}
}

func TestCatalogue(t *testing.T) {
	binary := source(t, "program")
	for name, make := range map[string]func() (v1.Image, error){
		"pause":      func() (v1.Image, error) { return Pause(binary) },
		"coredns":    func() (v1.Image, error) { return CoreDNS(binary) },
		"kube-proxy": KubeProxy,
	} {
		img, err := make()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		check(t, img)
	}
}
