package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestDependency(t *testing.T) {
	shown := "Package: linux-image-cloud-amd64\nVersion: 6.12.107-1\nDepends: linux-image-6.12.107+deb13-cloud-amd64 (= 6.12.107-1)\nDescription: meta\n"
	name, version, err := dependency(shown)
	if err != nil || name != "linux-image-6.12.107+deb13-cloud-amd64" || version != "6.12.107-1" {
		t.Errorf("got %q %q %v", name, version, err)
	}
	for _, bad := range []string{"", "Depends: libc6 (>= 2.36)\n", "Depends: linux-image-6.1\n"} {
		if name, version, err := dependency(bad); err == nil {
			t.Errorf("%q gave %q %q, expected an error", bad, name, version)
		}
	}
}

func TestFindWantsOneKernel(t *testing.T) {
	dir := t.TempDir()
	if _, err := find(dir); err == nil {
		t.Error("an empty folder is no error")
	}
	for _, d := range []string{"boot", "lib/modules/6.1.0/kernel"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "boot", "vmlinuz-6.1.0"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	img, err := find(dir)
	if err != nil || filepath.Base(img.vmlinuz) != "vmlinuz-6.1.0" {
		t.Errorf("got %+v, %v", img, err)
	}
}

// The archive is read by another's cpio, where there is one, and always by its own rules.
func TestArchive(t *testing.T) {
	var b bytes.Buffer
	a := &archive{w: &b}
	a.add("dir", modeDirectory, nil)
	a.addDevice("dir/console", 5, 1)
	a.add("dir/file", modeFile, []byte("seven b"))
	a.end()
	if a.err != nil {
		t.Fatal(a.err)
	}
	if b.Len()%4 != 0 || !strings.HasPrefix(b.String(), "070701") || strings.Count(b.String(), "070701") != 4 {
		t.Errorf("archive of %d bytes has %d entries, expected a multiple of 4 and 4", b.Len(), strings.Count(b.String(), "070701"))
	}
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("no cpio here")
	}
	cmd := exec.Command(cpio, "-t", "--quiet")
	cmd.Stdin = &b
	out, err := cmd.Output()
	if err != nil || string(out) != "dir\ndir/console\ndir/file\n" {
		t.Errorf("cpio lists %q, %v", out, err)
	}
}

func TestUnknownKernelIsAFailure(t *testing.T) {
	_, err := one(context.Background(), options{timeout: 1e9}, "5.4", t.TempDir(), t.TempDir(), os.Stderr)
	if err == nil || !strings.Contains(err.Error(), "6.1, 6.12, host") {
		t.Errorf("error is %v, expected one that names the kernels", err)
	}
}
