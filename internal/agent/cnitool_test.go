package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// TestCNITool drives the plugin by the tool of the CNI project.
func TestCNITool(t *testing.T) {
	r := newRig(t)
	r.start()
	tool := filepath.Join(t.TempDir(), "cnitool")
	build := exec.Command("go", "build", "-o", tool, "github.com/containernetworking/cni/cnitool")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build cnitool: %v: %s", err, out)
	}
	coverCache(t)
	ns := nstest.New(t)
	for _, verb := range []string{"status", "add", "check", "del", "gc"} {
		args := []string{verb, "weft", ns.Path()}
		cmd := exec.Command(tool, args...)
		cmd.Env = append(os.Environ(), "NETCONFPATH="+filepath.Join(r.dir, "conf"), "CNI_PATH="+filepath.Join(r.dir, "bin"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("cnitool %v: %v: %s", args, err, out)
		}
	}
}

// coverCache hides what stands in a fixed place, /var/lib/cni, in this mount namespace only.
func coverCache(t *testing.T) {
	t.Helper()
	dir := filepath.Dir(libcni.CacheDir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}
