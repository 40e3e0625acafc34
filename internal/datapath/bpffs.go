package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ensureBPFFS makes dir, on a BPF file system: mounted at root if none is there yet.
func ensureBPFFS(root, dir string) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	mounted, err := isBPFFS(root)
	if err != nil {
		return err
	}
	if !mounted {
		err := unix.Mount("bpffs", root, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RELATIME, "mode=0700")
		if err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount the BPF file system at %s (mount it on the node and give the container the path with mountPropagation): %w", root, err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if ok, err := isBPFFS(dir); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%s is not on a BPF file system, expected it below %s", dir, root))
	}
	return nil
}

func isBPFFS(path string) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return false, &os.PathError{Op: "statfs", Path: filepath.Clean(path), Err: err}
	}
	return fs.Type == unix.BPF_FS_MAGIC, nil
}
