package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/internal/status"
)

type statusOptions struct {
	wait, ignoreWarnings bool
	waitDuration         time.Duration
	output               string
	// quiet leaves the table out when all is well.
	quiet bool
}

func newStatus(e *env) *cobra.Command {
	var o statusOptions
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how weft is, and why if it isn't well",
		Long: `Shows weft's components, pods and images, and for each thing that isn't well the reason and what to do.
Ends with code 1 if weft isn't healthy.`,
		Example: `  weft status
  weft status --wait --wait-duration 2m
  weft status -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runStatus(cmd.Context(), e, o) },
	}
	f := c.Flags()
	f.BoolVar(&o.wait, "wait", false, "wait until weft is healthy")
	f.DurationVar(&o.waitDuration, "wait-duration", 5*time.Minute, "wait at most this long")
	f.BoolVar(&o.ignoreWarnings, "ignore-warnings", false, "take weft for healthy in spite of warnings")
	f.StringVarP(&o.output, "output", "o", "", "json prints the report as JSON")
	return c
}

func runStatus(ctx context.Context, e *env, o statusOptions) error {
	if o.output != "" && o.output != "json" {
		return fmt.Errorf("--output: found %q, expected json", o.output)
	}
	client, err := e.cluster.Connect()
	if err != nil {
		return err
	}
	read := func(ctx context.Context) (status.Snapshot, error) {
		return status.Collect(ctx, client, e.cluster.Namespace)
	}
	var (
		report status.Report
		absent error
	)
	if o.wait {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.waitDuration)
		defer cancel()
		report, err = status.Wait(ctx, read, o.ignoreWarnings, status.Interval, func(r status.Report) {
			if !r.OK(o.ignoreWarnings) {
				fmt.Fprintln(e.Err, "waiting:", r.Brief())
			}
		})
		if errors.Is(err, status.ErrAbsent) {
			absent = fmt.Errorf("%w in namespace %s: nothing to wait for; weft install installs it, --namespace names another namespace", err, e.cluster.Namespace)
			if o.output == "" {
				return absent
			}
		} else if err != nil && !errors.Is(err, status.ErrUnhealthy) {
			return err
		}
	} else {
		s, err := read(ctx)
		if err != nil {
			return err
		}
		report = status.Evaluate(s)
	}
	well := report.OK(o.ignoreWarnings || !o.wait)
	switch {
	case o.output == "json":
		j := json.NewEncoder(e.Out)
		j.SetIndent("", "  ")
		if err := j.Encode(report); err != nil {
			return err
		}
	case !o.quiet || !well:
		if err := status.Draw(e.Out, report, e.Color); err != nil {
			return err
		}
	}
	switch {
	case well:
		return nil
	case absent != nil:
		return absent
	case o.wait:
		return fmt.Errorf("%w after %s: %s", status.ErrUnhealthy, o.waitDuration, report.Brief())
	}
	return silent{status.ErrUnhealthy}
}
