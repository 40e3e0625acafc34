package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/cni"
	"github.com/weft-cni/weft/internal/contract"
)

// paths are the contract's paths under the directories that flags gave.
type paths struct{ run, state string }

func (p paths) socket() string  { return filepath.Join(p.run, filepath.Base(contract.CNISocket)) }
func (p paths) api() string     { return filepath.Join(p.run, filepath.Base(contract.APISocket)) }
func (p paths) boot() string    { return filepath.Join(p.run, filepath.Base(contract.BootFile)) }
func (p paths) ready() string   { return filepath.Join(p.run, filepath.Base(contract.ReadyFile)) }
func (p paths) lock() string    { return filepath.Join(p.run, filepath.Base(contract.LockFile)) }
func (p paths) journal() string { return filepath.Join(p.state, filepath.Base(contract.JournalDir)) }
func (p paths) fences() string  { return filepath.Join(p.state, filepath.Base(contract.FencesFile)) }
func (p paths) deletes() string { return filepath.Join(p.state, filepath.Base(contract.DeletesDir)) }

// lockNode makes this process the node's only agent. It waits for one that is on its way out.
func lockNode(ctx context.Context, path string) (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f.Close, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock %s: another agent holds it: %w", path, ctx.Err()), f.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// bootToken returns this boot's token; the directory is emptied by a boot, so a missing file is a new
// one.
func bootToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(b))) > 0 {
		return strings.TrimSpace(string(b)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("boot token: %w", err)
	}
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", fmt.Errorf("boot token: %w", err)
	}
	token := hex.EncodeToString(raw[:])
	if err := cni.WriteFileSync(path, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("boot token: %w", err)
	}
	return token, nil
}
