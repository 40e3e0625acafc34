package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/weft-cni/weft/internal/nodenet"
)

// Cleanup removes from the node what weft put there, when no agent runs any more: the conflist first, so
// that the runtime asks nobody. Devices of pods stay until their pods go; without routes they are mute.
func Cleanup(ctx context.Context, install Install, runDir, stateDir string, wait bool, log *slog.Logger) error {
	p := paths{run: runDir, state: stateDir}
	if !wait {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Second)
		defer cancel()
	}
	unlock, err := lockNode(ctx, p.lock())
	if err != nil {
		return fmt.Errorf("cleanup: %w; remove the DaemonSet first, or wait with --wait", err)
	}
	defer func() {
		if err := unlock(); err != nil {
			log.Warn("lock not released", "err", err)
		}
	}()
	errs := []error{install.remove()}
	for _, path := range []string{p.ready(), p.socket()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, nodenet.Cleanup(log))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cleanup: %w", err)
	}
	return nil
}
