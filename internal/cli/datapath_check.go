package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/internal/agentapi/remote"
	"github.com/weft-cni/weft/internal/inspect"
)

func newDatapathCheck(e *env) *cobra.Command {
	var o datapathOptions
	c := &cobra.Command{
		Use:   "check",
		Short: "Compare what the agents want with what is there",
		Long: `Compares, on all nodes or on some, what the agent wants with what the kernel has: endpoints, ENIs, addresses, prefixes and
settings in the maps; programs, links and pins; rules, routes, neighbours, devices, MTUs and kernel settings; the timer of
connections. Each difference that lasts for two seconds is one line: what, what was found, what was expected, what to do. The
agent puts most things back by itself; when it last did is said too. Ends with code 1 if anything differs.`,
		Example: `  weft datapath check
  weft datapath check --node ip-10-0-1-5.ec2.internal -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.check(cmd.Context(), e) },
	}
	o.add(c, e)
	return c
}

// errDiffers ends a check whose differences are on the screen.
var errDiffers = errors.New("the datapath is not as it should be")

func (o datapathOptions) check(ctx context.Context, e *env) error {
	agents, chosen, err := o.choose(ctx, e)
	if err != nil {
		return err
	}
	all := []inspect.Check{}
	var errs []error
	differences := 0
	for _, a := range remote.Ask[inspect.Check](ctx, agents, chosen, "/v1/datapath/check") {
		if errs = append(errs, a.Err); a.Err == nil {
			all = append(all, a.Value)
			differences += len(a.Value.Differences)
		}
	}
	if o.output == "json" {
		errs = append(errs, printJSON(e, all))
	} else {
		for _, c := range all {
			inspect.DrawCheck(e.Out, c, time.Now())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("not every node was checked: %w", err)
	}
	if differences > 0 {
		return silent{errDiffers}
	}
	return nil
}
