package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const burnArg = "hitless-burn"

// burnChild uses as much processor time as it is told, on all processors, and nothing else.
func burnChild(amount string) error {
	d, err := time.ParseDuration(amount)
	if err != nil {
		return err
	}
	var g errgroup.Group
	for range runtime.NumCPU() {
		g.Go(func() error {
			for {
				used, err := processorTime()
				if err != nil || used >= d {
					return err
				}
				for range 1 << 16 {
				}
			}
		})
	}
	return g.Wait()
}

func processorTime() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// burn does what the replacement of an agent takes of the processors, and nothing to anybody's packets.
func burn(ctx context.Context, amount time.Duration) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", burnArg, amount.String())
	if out, err := cmd.CombinedOutput(); err != nil && ctx.Err() == nil {
		return errors.Join(fmt.Errorf("burn %s: %w: %s", amount, err, out))
	}
	return nil
}
