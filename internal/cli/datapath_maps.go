package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/internal/agentapi/remote"
	"github.com/weft-cni/weft/internal/inspect"
)

func newDatapathMaps(e *env) *cobra.Command {
	var o datapathOptions
	c := &cobra.Command{
		Use:   "maps",
		Short: "List the datapath's maps: how full they are, what they take, who uses them",
		Long: `Lists the maps of all nodes, or of some: type, size of key and value, entries in use, how full it is, memory,
number of the layout, pin, which programs use it and who writes it.`,
		Example: `  weft datapath maps
  weft datapath maps --node ip-10-0-1-5.ec2.internal -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.maps(cmd.Context(), e) },
	}
	o.add(c, e)
	return c
}

func (o datapathOptions) maps(ctx context.Context, e *env) error {
	agents, chosen, err := o.choose(ctx, e)
	if err != nil {
		return err
	}
	var all []inspect.Map
	var errs []error
	for _, a := range remote.Ask[[]inspect.Map](ctx, agents, chosen, "/v1/datapath/maps") {
		all, errs = append(all, a.Value...), append(errs, a.Err)
	}
	switch {
	case o.output == "json":
		errs = append(errs, printJSON(e, all))
	case len(all) > 0:
		errs = append(errs, inspect.DrawMaps(e.Out, all, len(chosen) > 1))
	}
	return errors.Join(errs...)
}
