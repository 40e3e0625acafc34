package cni

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Queue holds the DELs that came while the agent was away: one file each, named by what it deletes, so
// that a DEL that the runtime repeats is queued once.
type Queue struct{ Dir string }

// queueKey names the file of a request.
func queueKey(network, containerID, ifName string) string {
	h := sha256.Sum256([]byte(network + "\x00" + containerID + "\x00" + ifName))
	return hex.EncodeToString(h[:16]) + ".json"
}

// Put writes the request so that it survives a crash at any moment after Put returned.
func (q Queue) Put(network string, r Request) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("queue a delete: %w", err)
	}
	if err := os.MkdirAll(q.Dir, 0o700); err != nil {
		return fmt.Errorf("queue a delete: %w", err)
	}
	if err := WriteFileSync(filepath.Join(q.Dir, queueKey(network, r.ContainerID, r.IfName)), b, 0o600); err != nil {
		return fmt.Errorf("queue a delete: %w", err)
	}
	return nil
}

// Replay hands each queued DEL to del and removes those that succeeded. A file that can't be read is
// removed and reported: it would be met for ever, and the comparison with the runtime's list covers it.
func (q Queue) Replay(ctx context.Context, del func(context.Context, Request) error) (int, error) {
	entries, err := os.ReadDir(q.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("queued deletes: %w", err)
	}
	var errs []error
	done := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue // a file being written
		}
		ok, err := q.replay(ctx, filepath.Join(q.Dir, e.Name()), del)
		if err != nil {
			errs = append(errs, err)
		}
		if ok {
			done++
		}
	}
	return done, errors.Join(errs...)
}

// ReplayOne does so for one attachment: an ADD of the same name must not meet an older DEL later.
func (q Queue) ReplayOne(ctx context.Context, network, containerID, ifName string, del func(context.Context, Request) error) error {
	_, err := q.replay(ctx, filepath.Join(q.Dir, queueKey(network, containerID, ifName)), del)
	return err
}

func (q Queue) replay(ctx context.Context, path string, del func(context.Context, Request) error) (bool, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("queued delete: %w", err)
	}
	var r Request
	if err := json.Unmarshal(b, &r); err != nil || r.ContainerID == "" || r.IfName == "" {
		return false, errors.Join(fmt.Errorf("queued delete %s is unreadable and was dropped: %w", filepath.Base(path), err), os.Remove(path))
	}
	if err := del(ctx, r); err != nil {
		return false, fmt.Errorf("queued delete of %s: %w", r.ContainerID, err)
	}
	return true, os.Remove(path)
}

// WriteFileSync replaces path so that a crash at any byte leaves the old content or the new.
func WriteFileSync(path string, b []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	tmp := f.Name()
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return SyncDir(dir)
}

// SyncDir makes renames and removals in dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
