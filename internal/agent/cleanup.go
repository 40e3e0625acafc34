package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/weft-cni/weft/internal/kubeproxy"
	"github.com/weft-cni/weft/internal/nodenet"
)

// CleanupOptions say where to look.
type CleanupOptions struct {
	Install          Install
	RunDir, StateDir string
	// PinDir is where the datapath keeps what outlives an agent; Datapath opens it.
	PinDir   string
	Datapath func() (Datapath, error)
	// Wait for an agent that still runs.
	Wait bool
	Log  *slog.Logger
}

// Cleanup removes from the node what weft put there, when no agent runs any more: the conflist first, so
// that the runtime asks nobody. Devices of pods stay until their pods go; without routes they are mute.
func Cleanup(ctx context.Context, o CleanupOptions) error {
	p, log := paths{run: o.RunDir, state: o.StateDir}, o.Log
	if !o.Wait {
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
	errs := []error{o.Install.remove()}
	for _, path := range []string{p.ready(), p.socket()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, o.unloadPrograms(), nodenet.Cleanup(log), kubeproxy.Release())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cleanup: %w", err)
	}
	return nil
}

// unloadPrograms takes the programs off every device and removes their pins. Pins that can't be opened,
// of another layout for instance, are removed all the same: that ends their links.
func (o CleanupOptions) unloadPrograms() error {
	there, err := exists(o.PinDir)
	if err != nil || !there {
		return err
	}
	dp, err := o.Datapath()
	if err == nil {
		err = errors.Join(dp.Prune(nil, nil, nil), dp.Close())
	}
	if err != nil {
		o.Log.Warn("programs not taken off one by one", "err", err)
	}
	return os.RemoveAll(o.PinDir)
}
