package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/lab/internal/controlplane"
	"github.com/weft-cni/weft/lab/internal/daemon"
	"github.com/weft-cni/weft/lab/internal/labstate"
	"github.com/weft-cni/weft/lab/internal/node"
)

var components = map[string]string{
	"etcd": "etcd", "apiserver": "kube-apiserver", "kcm": "kube-controller-manager", "scheduler": "kube-scheduler",
	"kube-apiserver": "kube-apiserver", "kube-controller-manager": "kube-controller-manager", "kube-scheduler": "kube-scheduler",
}

var nodeServices = []string{"kubelet", "containerd", "console"}

func (a *app) logsCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs COMPONENT",
		Short: "Print the log of a part of the lab",
		Long:  "COMPONENT is apiserver, etcd, kcm, scheduler, daemon, or NODE/kubelet, NODE/containerd, NODE/console.",
		Example: `  lab logs apiserver
  lab logs -f i-0123456789abcdef0/kubelet`,
		Args: exactly(1, "a component"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			names := []string{"apiserver", "etcd", "kcm", "scheduler", "daemon"}
			if _, r, err := a.existing(); err == nil {
				for _, n := range r.Nodes {
					for _, s := range nodeServices {
						names = append(names, n.Name+"/"+s)
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			lab, r, err := a.existing()
			if err != nil {
				return err
			}
			path, err := logPath(lab, r, args[0])
			if err != nil {
				return err
			}
			return copyLog(cmd.Context(), a.out, path, follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on as it grows")
	return cmd
}

func logPath(lab labstate.Lab, r labstate.Record, component string) (string, error) {
	if component == "daemon" {
		return daemon.LogPath(lab), nil
	}
	if c, ok := components[component]; ok {
		return controlplane.LogPath(lab, c), nil
	}
	name, service, ok := strings.Cut(component, "/")
	if !ok {
		return "", usageError{fmt.Errorf("logs: no component %q: expected apiserver, etcd, kcm, scheduler, daemon or NODE/kubelet, NODE/containerd, NODE/console", component)}
	}
	if !slices.Contains(nodeServices, service) {
		return "", usageError{fmt.Errorf("logs: no daemon %q on a node: expected %s", service, strings.Join(nodeServices, ", "))}
	}
	n, found := r.Find(name)
	if !found {
		return "", fmt.Errorf("logs: no node %q", name)
	}
	return node.LogPath(lab, n.InstanceID, service), nil
}

func copyLog(ctx context.Context, out io.Writer, path string, follow bool) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("logs: nothing was written yet (%s)", path)
	}
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	defer f.Close()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := io.Copy(out, f); err != nil {
			return fmt.Errorf("logs: %w", err)
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *app) daemonCommand() *cobra.Command {
	return &cobra.Command{
		Use: "daemon", Short: "The process that a lab lives in", Hidden: true,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			lab, err := a.lab()
			if err != nil {
				return usageError{err}
			}
			// Ctrl-C at the terminal that created the lab isn't meant for it.
			signal.Ignore(syscall.SIGINT, syscall.SIGHUP)
			log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelDebug}))
			return daemon.Run(cmd.Context(), lab, log)
		},
	}
}
