package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/lab/internal/cluster"
	"github.com/weft-cni/weft/lab/internal/daemon"
	"github.com/weft-cni/weft/lab/internal/labstate"
)

func (a *app) statusCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show how the lab is",
		Long:    "Shows the lab, its nodes and what is wrong. Exit code 0 if all is well, 1 if not, 3 if there is no such lab.",
		Example: "  lab status\n  lab status -o json",
		Args:    exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return usageError{fmt.Errorf("-o: found %q, expected json", output)}
			}
			return a.status(cmd.Context(), output == "json")
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json for machines")
	return cmd
}

func (a *app) status(ctx context.Context, asJSON bool) error {
	lab, record, err := a.existing()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s, err := daemon.NewClient(lab).Status(ctx)
	var down *daemon.DownError
	if errors.As(err, &down) {
		s = cluster.Status{Record: record, Problems: map[string]string{"daemon": err.Error()}}
	} else if err != nil {
		return err
	}
	if s.Record.Problem != "" {
		s.Problems["create"] = s.Record.Problem
	}
	if asJSON {
		// Credentials are for the lab's own commands, not for whatever keeps this output.
		s.Record.Admin = labstate.Credentials{}
		b, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintln(a.out, string(b))
	} else {
		a.printStatus(s)
	}
	if len(s.Problems) > 0 {
		return &exitError{1}
	}
	return nil
}

func (a *app) printStatus(s cluster.Status) {
	r := s.Record
	fmt.Fprintf(a.out, "lab %s: %s, cluster %s in %s, Kubernetes %s, created %s ago\n", r.Lab, r.Phase, r.Cluster, r.Region, r.Version,
		time.Since(r.Created).Round(time.Second))
	if r.Relay != "" {
		fmt.Fprintf(a.out, "API server: %s\n", r.Relay)
	}
	for _, c := range s.Components {
		state := "running"
		if !c.Running {
			state = "not running"
		}
		if c.Restarts > 0 {
			state += fmt.Sprintf(", %d restarts", c.Restarts)
		}
		fmt.Fprintf(a.out, "  %-26s %s\n", c.Name, state)
	}
	if len(s.Nodes) > 0 {
		w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "NODE\tSTATE\tINSTANCE\tGROUP\tTYPE\tZONE\tADDRESS\tPUBLIC\tRESTARTS")
		for _, n := range s.Nodes {
			state, restarts := n.State, 0
			if !n.Running {
				state += ", off"
			}
			for _, svc := range n.Services {
				restarts += svc.Restarts
			}
			public := n.PublicIP
			if public == "" {
				public = "-"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", n.Name, state, n.InstanceID, n.NodeGroup, n.Type, n.Zone, n.PrivateIP, public, restarts)
		}
		w.Flush()
	}
	for part, p := range s.Problems {
		fmt.Fprintf(a.out, "problem: %s: %s\n", part, p)
	}
}

func (a *app) envCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "env",
		Short: "Print what a shell needs to use the lab",
		Long: `Prints shell commands that make kubectl, helm, aws and weft work on the lab. aws runs inside the lab's
internet, where AWS' names lead to the lab and nowhere else.`,
		Example: `  eval "$(lab env)"
  kubectl get nodes
  aws ec2 describe-instances`,
		Args: exactly(0, "no argument"),
		RunE: func(*cobra.Command, []string) error {
			lab, r, err := a.existing()
			if err != nil {
				return err
			}
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "export PATH=%s:%s:\"$PATH\"\n", quote(lab.BinDir()), quote(filepath.Dir(exe)))
			for _, v := range [][2]string{
				{"KUBECONFIG", lab.Kubeconfig()},
				{"WEFT_LAB", lab.Name},
				{"AWS_ACCESS_KEY_ID", r.Admin.AccessKeyID},
				{"AWS_SECRET_ACCESS_KEY", r.Admin.SecretAccessKey},
				{"AWS_DEFAULT_REGION", r.Region},
				{"AWS_REGION", r.Region},
			} {
				fmt.Fprintf(a.out, "export %s=%s\n", v[0], quote(v[1]))
			}
			fmt.Fprintln(a.out, "unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ROLE_ARN AWS_WEB_IDENTITY_TOKEN_FILE")
			return nil
		},
	}
}
