package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/internal/install"
)

func newInstall(e *env) *cobra.Command {
	var (
		o            install.Options
		wait         bool
		waitDuration time.Duration
	)
	c := &cobra.Command{
		Use:   "install",
		Short: "Install weft into a cluster",
		Long: `Installs weft as the Helm release "weft". Value names are those of Cilium's charts: one that this version
doesn't implement, or doesn't know, is refused by its name. Everything is checked first; if a check fails
nothing is changed.`,
		Example: `  weft install --values config.yaml --set cluster.name=demo
  weft install --set eni.iamRole=arn:aws:iam::111122223333:role/CiliumOperatorRole --wait
  weft install --values config.yaml --dry-run >objects.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Cluster, o.Out, o.Manifest = e.cluster, e.Out, io.Discard
			if o.DryRun {
				// The objects alone go to standard output, to be piped.
				o.Out, o.Manifest = e.Err, e.Out
			}
			if err := install.Install(cmd.Context(), o); err != nil {
				return err
			}
			switch {
			case o.DryRun:
				return nil
			case o.RemoveKubeProxy:
				return takeOver(cmd.Context(), e, waitDuration)
			case !wait:
				fmt.Fprintln(e.Out, "weft is starting; see it come up with: weft status --wait")
				return nil
			}
			fmt.Fprintf(e.Out, "waiting up to %s for all of weft to be ready\n", waitDuration)
			if err := waitHealthy(cmd.Context(), e, waitDuration); err != nil {
				return err
			}
			fmt.Fprintln(e.Out, "weft is ready; test it with: weft connectivity test")
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Version, "version", "", "version to install; it must be this binary's")
	valueFlags(c, &o.Values)
	f.BoolVar(&o.AllowUnknown, "allow-unknown-values", false, "warn of values that are unknown or not implemented, instead of refusing them")
	f.BoolVar(&o.DryRun, "dry-run", false, "print the objects and change nothing")
	f.BoolVar(&wait, "wait", false, "wait until all of weft is ready")
	f.BoolVar(&o.RemoveKubeProxy, "remove-kube-proxy", false, "with kubeProxyReplacement=true: wait until all of weft is ready, then delete the DaemonSet kube-system/kube-proxy")
	f.DurationVar(&waitDuration, "wait-duration", 5*time.Minute, "wait at most this long")
	return c
}

func valueFlags(c *cobra.Command, v *install.ValueFlags) {
	f := c.Flags()
	f.StringArrayVarP(&v.Files, "values", "f", nil, "file of values in YAML; may be repeated, the last wins")
	f.StringArrayVar(&v.Set, "set", nil, "value as NAME=VALUE; may be repeated, wins over files")
	f.StringArrayVar(&v.SetText, "set-string", nil, "value as NAME=TEXT; like --set, but never a number or a boolean")
}

// waitHealthy waits with a line for each change, and prints the whole table if the time is up.
func waitHealthy(ctx context.Context, e *env, d time.Duration) error {
	return runStatus(ctx, e, statusOptions{wait: true, waitDuration: d, quiet: true})
}

// takeOver removes kube-proxy once weft serves services in its place.
func takeOver(ctx context.Context, e *env, d time.Duration) error {
	fmt.Fprintf(e.Out, "waiting up to %s for all of weft to be ready, before kube-proxy is removed\n", d)
	if err := waitHealthy(ctx, e, d); err != nil {
		fmt.Fprintln(e.Out, "kube-proxy is not removed")
		return err
	}
	if err := install.RemoveKubeProxy(ctx, e.cluster, func(format string, a ...any) { fmt.Fprintf(e.Out, format+"\n", a...) }); err != nil {
		return err
	}
	fmt.Fprintln(e.Out, "weft is ready; test it with: weft connectivity test")
	return nil
}
