package image

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func spec(t *testing.T, content string) Spec {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "bin")
	if err := os.WriteFile(bin, []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
	return Spec{
		Files:      []File{{Path: "/opt/b", Source: bin, Mode: 0o755}, {Path: "/a", Source: bin, Mode: 0o755}},
		Dirs:       []string{"/tmp"},
		Entrypoint: []string{"/a"}, Arch: "arm64", Created: time.Unix(1_700_000_000, 0),
	}
}

func TestBuildIsReproducible(t *testing.T) {
	digest := func(s Spec) string {
		img, err := Build(s)
		if err != nil {
			t.Fatal(err)
		}
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	a, b, c := digest(spec(t, "x")), digest(spec(t, "x")), digest(spec(t, "y"))
	if a != b {
		t.Errorf("same inputs gave %s and %s", a, b)
	}
	if a == c {
		t.Error("another file gave the same image")
	}
}

func TestArchiveRoundTrip(t *testing.T) {
	img, err := Build(spec(t, "x"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "a.tar")
	if err := WriteArchive(file, "example.com/weft/agent:v1", img); err != nil {
		t.Fatal(err)
	}
	back, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := back.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Architecture != "arm64" || len(cfg.Config.Entrypoint) != 1 || cfg.Config.Entrypoint[0] != "/a" {
		t.Fatalf("got %+v", cfg)
	}
}

func TestErrorsNameTheFile(t *testing.T) {
	s := spec(t, "x")
	s.Files[0].Path = "relative"
	if _, err := Build(s); err == nil {
		t.Fatal("a relative path was taken")
	}
	if err := WriteArchive(filepath.Join(t.TempDir(), "a.tar"), "UPPER:no tag", nil); err == nil {
		t.Fatal("a bad reference was taken")
	}
}
