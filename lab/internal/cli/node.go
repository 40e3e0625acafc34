package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/lab/internal/daemon"
)

func (a *app) nodeCommand() *cobra.Command {
	cmd := group(&cobra.Command{Use: "node", Short: "Add, delete and reboot nodes"})
	var group string
	var timeout time.Duration
	cmd.PersistentFlags().DurationVar(&timeout, "timeout", time.Minute, "give up after this time")
	add := &cobra.Command{
		Use: "add", Short: "Launch another instance of a node group",
		Example: "  lab node add\n  lab node add --nodegroup apigee-data",
		Args:    exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			n, err := client.AddNode(cmd.Context(), group, timeout)
			if err != nil {
				return fmt.Errorf("node add: %w", err)
			}
			fmt.Fprintf(a.out, "node %s (%s, %s in %s) added\n", n.Name, n.InstanceID, n.Type, n.Zone)
			return nil
		},
	}
	add.Flags().StringVar(&group, "nodegroup", "", "the node group (default: the file's first)")
	action := func(use, short, example, done string, act func(*daemon.Client, context.Context, string, time.Duration) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " NODE", Short: short, Example: example,
			Args: exactly(1, "a node's name or its instance's id"), ValidArgsFunction: a.completeNodes,
			RunE: func(cmd *cobra.Command, args []string) error {
				client, err := a.client()
				if err != nil {
					return err
				}
				began := time.Now()
				if err := act(client, cmd.Context(), args[0], timeout); err != nil {
					return fmt.Errorf("node %s: %w", use, err)
				}
				fmt.Fprintf(a.out, "node %s %s in %.1f s\n", args[0], done, time.Since(began).Seconds())
				return nil
			},
		}
	}
	cmd.AddCommand(
		add,
		action("delete", "Terminate a node's instance", "  lab node delete i-0123456789abcdef0", "deleted", (*daemon.Client).DeleteNode),
		action("reboot", "Power a node off and on: same disk, same interfaces", "  lab node reboot ip-192-168-1-2.us-west-2.compute.internal", "rebooted", (*daemon.Client).RebootNode),
	)
	return cmd
}

func (a *app) client() (*daemon.Client, error) {
	lab, _, err := a.existing()
	if err != nil {
		return nil, err
	}
	if err := needRoot(); err != nil {
		return nil, err
	}
	return daemon.NewClient(lab), nil
}

func (a *app) imageCommand() *cobra.Command {
	cmd := group(&cobra.Command{Use: "image", Short: "Give images to the lab's nodes"})
	cmd.AddCommand(&cobra.Command{
		Use: "load ARCHIVE...", Short: "Put images into the lab's registry, from which nodes pull",
		Long: `Takes docker-archive files and OCI layouts. Nodes send the pulls of every registry to the lab's, so an image
is found by the name that it has in the archive.`,
		Example: "  lab image load build/images/weft-agent.tar",
		Args:    atLeast(1, "an archive"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			for _, archive := range args {
				refs, err := client.LoadImage(cmd.Context(), archive)
				if err != nil {
					return fmt.Errorf("image load: %w", err)
				}
				for _, ref := range refs {
					fmt.Fprintln(a.out, ref)
				}
			}
			return nil
		},
	})
	return cmd
}
