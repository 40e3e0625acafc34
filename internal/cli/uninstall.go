package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/internal/install"
)

func newUninstall(e *env) *cobra.Command {
	o := install.UninstallOptions{}
	c := &cobra.Command{
		Use:   "uninstall",
		Short: "Give everything back to EC2, clean the nodes and remove weft",
		Long: `Stops the operator, gives network interfaces and addresses back to EC2 as far as the operator's role may,
removes what the agents put on the nodes, then the Helm release and weft's resources. It says what could not
be given back and then ends with code 1; it can be run again. Pods lose their network: install another CNI next.`,
		Example: "  weft uninstall\n  weft uninstall --wait",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Cluster, o.Out = e.cluster, e.Out
			return install.Uninstall(cmd.Context(), o)
		},
	}
	c.Flags().BoolVar(&o.Wait, "wait", false, "wait until all of weft's objects are gone")
	c.Flags().DurationVar(&o.Timeout, "timeout", 2*time.Minute, "wait at most this long in each step")
	return c
}
