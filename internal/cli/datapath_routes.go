package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/internal/agentapi/remote"
	"github.com/weft-cni/weft/internal/inspect"
)

func newDatapathRoutes(e *env) *cobra.Command {
	var o datapathOptions
	c := &cobra.Command{
		Use:   "routes",
		Short: "Show rules, routes, next hops and MTUs as they are and as they should be",
		Long: `Shows the routing rules of all nodes, or of some, with those of others between; weft's tables, one for pods and one for each
ENI; the ENIs' next hops with what the kernel knows of them; and the MTU of each device, of ENIs also as the programs have
it. What is missing is marked -, what shouldn't be there +, what is otherwise than wanted !.`,
		Example: `  weft datapath routes --node ip-10-0-1-5.ec2.internal
  weft datapath routes -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.routes(cmd.Context(), e) },
	}
	o.add(c, e)
	return c
}

func (o datapathOptions) routes(ctx context.Context, e *env) error {
	agents, chosen, err := o.choose(ctx, e)
	if err != nil {
		return err
	}
	all := []inspect.Routes{}
	var errs []error
	for _, a := range remote.Ask[inspect.Routes](ctx, agents, chosen, "/v1/datapath/routes") {
		if errs = append(errs, a.Err); a.Err == nil {
			all = append(all, a.Value)
		}
	}
	if o.output == "json" {
		return errors.Join(append(errs, printJSON(e, all))...)
	}
	for i, r := range all {
		if i > 0 {
			fmt.Fprintln(e.Out)
		}
		errs = append(errs, inspect.DrawRoutes(e.Out, r))
	}
	return errors.Join(errs...)
}
