package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/internal/agentapi/remote"
)

// newDatapath groups what looks into the datapath. A subject is one line here and a file of its own.
func newDatapath(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "datapath",
		Short: "Look into the datapath of nodes: maps, programs, routes, and what isn't as it should be",
		Long: `Shows what the datapath of all nodes, or of some, consists of. It asks the agents and changes nothing but, while
it lasts, programs --stats, which has the kernel measure programs.`,
		Example: `  weft datapath check
  weft datapath maps
  weft datapath map dump ct_est --match shop/web`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(
		newDatapathMaps(e),
		newDatapathMap(e),
		newDatapathPrograms(e),
		newDatapathRoutes(e),
		newDatapathCheck(e),
	)
	return c
}

// datapathOptions are what its subjects share.
type datapathOptions struct {
	output string
	nodes  remote.Flags
}

func (o *datapathOptions) add(c *cobra.Command, e *env) {
	c.Flags().StringVarP(&o.output, "output", "o", "", "json prints JSON")
	o.nodes.Add(c.Flags())
	complete := func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		return nodeNames(cmd.Context(), e, begun), cobra.ShellCompDirectiveNoFileComp
	}
	for name, f := range map[string]cobra.CompletionFunc{"node": complete, "nodes": complete, "output": cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp)} {
		// It fails only for a flag that isn't there, which a test of the whole tree would show.
		_ = c.RegisterFlagCompletionFunc(name, f)
	}
}

// nodeNames completes what was begun; a cluster that doesn't answer completes nothing.
func nodeNames(ctx context.Context, e *env, begun string) []string {
	agents, err := e.agents()
	if err != nil {
		return nil
	}
	all, err := agents.List(ctx)
	if err != nil {
		return nil
	}
	out := []string{}
	for _, a := range all {
		if strings.HasPrefix(a.Node, begun) {
			out = append(out, a.Node)
		}
	}
	return out
}

// choose are the agents that the flags name.
func (o datapathOptions) choose(ctx context.Context, e *env) (*remote.Agents, []remote.Agent, error) {
	if o.output != "" && o.output != "json" {
		return nil, nil, fmt.Errorf("--output: found %q, expected json", o.output)
	}
	agents, err := e.agents()
	if err != nil {
		return nil, nil, err
	}
	chosen, err := agents.Select(ctx, o.nodes)
	return agents, chosen, err
}

// printJSON prints one value.
func printJSON(e *env, v any) error {
	j := json.NewEncoder(e.Out)
	j.SetIndent("", "  ")
	return j.Encode(v)
}
