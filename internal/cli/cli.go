// Package cli is weft's command line: the tree of verbs, their flags and help. What a verb does is in the
// package of that name.
package cli

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/internal/agentapi/remote"
	"github.com/weft-cni/weft/internal/connectivity"
	"github.com/weft-cni/weft/internal/kube"
	"github.com/weft-cni/weft/internal/version"
)

// Deps is what a command takes from its surroundings.
type Deps struct {
	Out, Err io.Writer
	// Color is for a terminal that shows it.
	Color bool
}

// env is what the verbs share: the surroundings and the flags that choose a cluster.
type env struct {
	Deps
	cluster kube.Flags
}

// New is the whole tree. A new verb is one line here and one file, or one package, of its own.
func New(deps Deps) *cobra.Command {
	e := &env{Deps: deps}
	root := &cobra.Command{
		Use:   "weft",
		Short: "A container network for Kubernetes on Amazon EKS",
		Long:  "weft installs, explains and tests the container network of a Kubernetes cluster on Amazon EKS.",
		Example: `  weft install --values config.yaml --set cluster.name=demo
  weft status --wait
  weft connectivity test`,
		Version:       version.Version,
		SilenceErrors: true, // main prints an error once
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(deps.Out)
	root.SetErr(deps.Err)
	e.cluster.Add(root.PersistentFlags())
	root.AddCommand(
		newInstall(e),
		newUninstall(e),
		newStatus(e),
		newVersion(e),
		newMonitor(e),
		newWhy(e),
		newDatapath(e),
		newService(e),
		connectivity.NewCommand(e.cluster.Config, "ghcr.io/weft-cni/probe:"+version.Version),
	)
	return root
}

// agents are those of the chosen cluster.
func (e *env) agents() (*remote.Agents, error) {
	c, err := e.cluster.Connect()
	if err != nil {
		return nil, err
	}
	return remote.New(c.Kube, c.Config, e.cluster.Namespace), nil
}

// silent is an error of which everything has been printed already.
type silent struct{ error }

func (s silent) Unwrap() error { return s.error }

// Reported is true for an error whose report stands on the screen already: it is not to be printed again.
func Reported(err error) bool {
	var s silent
	return errors.As(err, &s) || errors.Is(err, connectivity.ErrFailed)
}
