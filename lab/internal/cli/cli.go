// Package cli is the lab command: EKS in a box for people.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/lab/internal/labstate"
)

// Exit codes beside 0 and 1.
const (
	exitUsage = 2
	// exitNoLab: there is no such lab.
	exitNoLab = 3
)

// app is what commands share.
type app struct {
	out, err io.Writer
	name     string
	source   string
}

func (a *app) lab() (labstate.Lab, error) { return labstate.New(a.name) }

// existing returns the lab if it exists.
func (a *app) existing() (labstate.Lab, labstate.Record, error) {
	lab, err := a.lab()
	if err != nil {
		return lab, labstate.Record{}, err
	}
	r, err := lab.Load()
	if errors.Is(err, fs.ErrPermission) {
		return lab, r, fmt.Errorf("%w: needs root; run it with sudo", err)
	}
	return lab, r, err
}

// usageError is a mistake on the command line.
type usageError struct{ error }

// exitError ends the command with a child's exit code and says nothing.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// Main runs the command and returns its exit code.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{out: os.Stdout, err: os.Stderr}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var exit *exitError
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage):
		fmt.Fprintf(a.err, "lab: %v\n", err)
		return exitUsage
	case errors.Is(err, labstate.ErrNoLab):
		fmt.Fprintf(a.err, "lab: %v\n", err)
		return exitNoLab
	default:
		fmt.Fprintf(a.err, "lab: %v\n", err)
		return 1
	}
}

func (a *app) root() *cobra.Command {
	root := group(&cobra.Command{
		Use:   "lab",
		Short: "EKS in a box: a real Kubernetes cluster in an emulated VPC, on this machine",
		Long: `lab runs EKS in a box: real etcd, API server, kubelets and containerd in namespaces of this machine, in a
network that treats packets as an AWS VPC does, with the AWS APIs that a CNI calls.

It needs root. Nothing leaves the lab's namespaces, and "lab delete cluster" leaves nothing behind.`,
		Example: `  lab create cluster -f eks-config.yaml
  eval "$(lab env)"
  kubectl get nodes
  aws ec2 describe-instances
  lab delete cluster`,
		SilenceErrors: true,
		SilenceUsage:  true,
	})
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVar(&a.name, "name", cmp.Or(os.Getenv("WEFT_LAB"), labstate.DefaultName), "the lab, if there are several (default: $WEFT_LAB)")
	root.PersistentFlags().StringVar(&a.source, "source", os.Getenv("WEFT_LAB_SOURCE"), "folder lab/ of weft's source (default: beside this program)")
	if err := root.RegisterFlagCompletionFunc("name", completeLabs); err != nil {
		fmt.Fprintf(a.err, "lab: %v\n", err)
	}
	root.AddCommand(
		a.createCommand(), a.deleteCommand(), a.statusCommand(), a.envCommand(), a.nodeCommand(),
		a.execCommand(), a.runCommand(), a.logsCommand(), a.imageCommand(), a.faultCommand(), a.assetsCommand(), a.daemonCommand(),
	)
	return root
}

func completeLabs(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names, err := labstate.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeNodes offers the names of the lab's nodes.
func (a *app) completeNodes(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	_, r, err := a.existing()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, n := range r.Nodes {
		names = append(names, n.Name, n.InstanceID)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func needRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root: it makes namespaces and control groups; run it with sudo")
	}
	return nil
}

// group makes a command that only has others under it: one that isn't among them is a mistake, not a wish
// for help.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return usageError{fmt.Errorf("unknown command %q; see %s --help", cmd.CommandPath()+" "+args[0], cmd.CommandPath())}
	}
	return cmd
}

// atLeast is exactly's companion.
func atLeast(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return usageError{fmt.Errorf("%s: expected %s; see %s --help", cmd.CommandPath(), what, cmd.CommandPath())}
		}
		return nil
	}
}

// exactly is cobra's check of arguments with an exit code of its own.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("%s: expected %s, found %d arguments; see %s --help", cmd.CommandPath(), what, len(args), cmd.CommandPath())}
		}
		return nil
	}
}
