package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/internal/agentapi/remote"
	"github.com/weft-cni/weft/internal/inspect"
)

type serviceListOptions struct {
	datapathOptions
	serviceNamespace string
	wrong            bool
}

func newServiceList(e *env) *cobra.Command {
	var o serviceListOptions
	c := &cobra.Command{
		Use:   "list",
		Short: "List the frontends of services, with how many backends each has",
		Long: `Lists every address of every service as a node has it: its kind, for which clients it is, how many backends these may be
connected to, and whether the maps agree with what Services and EndpointSlices say. Without --node one agent is asked, as all nodes
have all services; with --node all, every one.`,
		Example: `  weft service list
  weft service list --of-namespace shop
  weft service list --wrong --node all     # only what isn't as it should be; code 1 if there is any`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.list(cmd.Context(), e) },
	}
	o.add(c, e)
	c.Flags().StringVar(&o.serviceNamespace, "of-namespace", "", "only services of this namespace")
	c.Flags().BoolVar(&o.wrong, "wrong", false, "only frontends that differ, are missing or have a problem; ends with code 1 if there are any")
	return c
}

// chooseOne is choose, but for one agent where none is named.
func (o datapathOptions) chooseOne(ctx context.Context, e *env) (*remote.Agents, []remote.Agent, error) {
	agents, chosen, err := o.choose(ctx, e)
	if err != nil || len(o.nodes.Nodes) > 0 || len(chosen) == 0 {
		return agents, chosen, err
	}
	i := slices.IndexFunc(chosen, func(a remote.Agent) bool { return a.Running })
	return agents, chosen[max(i, 0) : max(i, 0)+1], nil
}

func (o serviceListOptions) list(ctx context.Context, e *env) error {
	agents, chosen, err := o.chooseOne(ctx, e)
	if err != nil {
		return err
	}
	all, failed := frontendsOf(ctx, agents, chosen, "")
	shown, wrong := []inspect.Frontend{}, 0
	for _, f := range all {
		if o.serviceNamespace != "" && !strings.HasPrefix(f.Service, o.serviceNamespace+"/") {
			continue
		}
		bad := f.State != inspect.OK || f.Problem != ""
		if bad {
			wrong++
		}
		if bad || !o.wrong {
			shown = append(shown, f)
		}
	}
	if o.output == "json" {
		err = printJSON(e, shown)
	} else if len(shown) > 0 {
		err = inspect.DrawFrontends(e.Out, shown, len(chosen) > 1)
	}
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	if o.output == "" && len(o.nodes.Nodes) == 0 {
		fmt.Fprintf(e.Err, "as node %s has them; --node all asks every node\n", chosen[0].Node)
	}
	if o.wrong && wrong > 0 {
		return silent{errService}
	}
	return nil
}

type serviceGetOptions struct{ datapathOptions }

func newServiceGet(e *env) *cobra.Command {
	var o serviceGetOptions
	c := &cobra.Command{
		Use:   "get NAME | FRONTEND",
		Short: "Show a service's frontends with their backends, and where the maps differ",
		Long: `Shows all that a node has of a service: NAMESPACE/NAME, or a frontend of it, such as 172.20.0.10:80/tcp or shop/web:http. A name
alone is looked for in every namespace. Ends with code 1 if the maps have something otherwise than they should.`,
		Example: `  weft service get shop/web
  weft service get 172.20.0.10:80 --node all -o json`,
		Args:              oneOf("a service or a frontend of it, such as shop/web or 172.20.0.10:80"),
		ValidArgsFunction: completeFirst(e, serviceNames),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.get(cmd.Context(), e, args[0]) },
	}
	o.add(c, e)
	return c
}

// oneOf is for commands with one argument.
func oneOf(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("found %d arguments, expected one: %s", len(args), what)
		}
		return nil
	}
}

func (o serviceGetOptions) get(ctx context.Context, e *env, name string) error {
	target, err := inspect.ParseTarget(name)
	if err != nil {
		return err
	}
	agents, chosen, err := o.chooseOne(ctx, e)
	if err != nil {
		return err
	}
	all, failed := frontendsOf(ctx, agents, chosen, target.String())
	if len(all) == 0 && failed == nil {
		return fmt.Errorf("node %s has no frontend of %s: look whether there is such a Service, with an address of its own (headless ones and ExternalNames have none); weft service list shows all", chosen[0].Node, target)
	}
	if o.output == "json" {
		err = printJSON(e, all)
	} else {
		for _, f := range all {
			inspect.DrawFrontend(e.Out, f, len(chosen) > 1)
		}
	}
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(f inspect.Frontend) bool { return f.State != inspect.OK }) {
		return silent{errService}
	}
	return nil
}
