package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/internal/agentapi/remote"
	"github.com/weft-cni/weft/internal/inspect"
)

type programsOptions struct {
	datapathOptions
	stats time.Duration
}

func newDatapathPrograms(e *env) *cobra.Command {
	var o programsOptions
	c := &cobra.Command{
		Use:   "programs",
		Short: "List the programs that packets meet, weft's and others', in their order",
		Long: `Lists, for each device of all nodes or of some that has any, the programs that the kernel runs there, in order: by tcx,
netkit or clsact, weft's and other people's; how many instructions the verifier walked, the compiled size, the link and
whether it is pinned. --stats has the kernel count runs and time for so long (each run is then a little dearer); what a
program runs is counted for all of its devices together.`,
		Example: `  weft datapath programs
  weft datapath programs --stats 10s --node ip-10-0-1-5.ec2.internal
  weft datapath programs -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), e, cmd.Flags().Changed("stats"))
		},
	}
	o.add(c, e)
	c.Flags().DurationVar(&o.stats, "stats", 0, "measure the programs for so long")
	return c
}

func (o programsOptions) run(ctx context.Context, e *env, measure bool) error {
	q := url.Values{}
	if measure {
		if o.stats < inspect.LeastMeasure || o.stats > inspect.MostMeasure {
			return fmt.Errorf("--stats: found %s, expected %s to %s", o.stats, inspect.LeastMeasure, inspect.MostMeasure)
		}
		q.Set("stats", o.stats.String())
	}
	agents, chosen, err := o.choose(ctx, e)
	if err != nil {
		return err
	}
	list, failed := remote.Gather[inspect.Program](ctx, agents, chosen, "/v1/datapath/programs?"+q.Encode())
	slices.SortStableFunc(list, func(a, b inspect.Program) int { return cmp.Compare(a.Node, b.Node) })
	switch {
	case o.output == "json":
		failed = errors.Join(failed, printJSON(e, list))
	case len(list) > 0:
		failed = errors.Join(failed, inspect.DrawPrograms(e.Out, list, len(chosen) > 1))
	}
	return failed
}
