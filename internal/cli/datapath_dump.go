package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/internal/agentapi/remote"
	"github.com/weft-cni/weft/internal/inspect"
)

type dumpOptions struct {
	datapathOptions
	limit int
	match []string
}

func newDatapathMap(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:     "map",
		Short:   "Look into one of the datapath's maps",
		Example: "  weft datapath map dump endpoints",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(newDatapathDump(e))
	return c
}

func newDatapathDump(e *env) *cobra.Command {
	var o dumpOptions
	c := &cobra.Command{
		Use:   "dump NAME",
		Short: "Show the decoded entries of a map",
		Long: `Shows what is in a map of all nodes, or of some: a line is a key and, by name, what its value says. What is zero
or empty is left out, but with -o json; entries of arrays that aren't in use are left out always. Pods are named as far
as the node knows them. weft datapath maps lists the maps; the prefix weft_ may be left out.`,
		Example: `  weft datapath map dump endpoints
  weft datapath map dump ct_est --match shop/web --limit 0
  weft datapath map dump ct_new --match udp --match :53 --node ip-10-0-1-5.ec2.internal
  weft datapath map dump counters --match drop=yes -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("found %d names, expected one of a map, see weft datapath maps", len(args))
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var out []string
			if len(args) == 0 {
				for _, d := range inspect.Descriptions() {
					out = append(out, d.Name+"\t"+d.About)
				}
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args[0]) },
	}
	o.add(c, e)
	c.Flags().IntVar(&o.limit, "limit", 100, "show at most so many entries of each node; 0: all")
	c.Flags().StringArrayVar(&o.match, "match", nil, "only entries whose decoded text has this in it (several: each must be)")
	return c
}

func (o dumpOptions) run(ctx context.Context, e *env, name string) error {
	m, err := inspect.FindMap(name)
	if err != nil {
		return err
	}
	if o.limit < 0 {
		return fmt.Errorf("--limit: found %d, expected 1 or more, or 0 for all", o.limit)
	}
	agents, chosen, err := o.choose(ctx, e)
	if err != nil {
		return err
	}
	q := url.Values{"name": {m.Name}, "limit": {fmt.Sprint(o.limit)}, "match": o.match}
	var mu sync.Mutex
	errs := make([]error, len(chosen))
	g := new(errgroup.Group)
	for i, a := range chosen {
		g.Go(func() error {
			errs[i] = agents.Stream(ctx, a, "/v1/datapath/map?"+q.Encode(), func(line []byte) error {
				mu.Lock()
				defer mu.Unlock()
				return o.line(e, a, line, len(chosen) > 1)
			})
			return nil
		})
	}
	return errors.Join(g.Wait(), errors.Join(errs...))
}

// line shows one line of an agent's answer.
func (o dumpOptions) line(e *env, a remote.Agent, b []byte, nodes bool) error {
	var l inspect.DumpLine
	if err := json.Unmarshal(b, &l); err != nil {
		return fmt.Errorf("node %s: an entry was not understood: %w; is the agent of another version?", a.Node, err)
	}
	switch {
	case l.End != nil:
		l.End.Write(e.Err)
		return nil
	case l.Entry == nil:
		return nil
	case o.output == "json":
		return json.NewEncoder(e.Out).Encode(l.Entry)
	case nodes:
		_, err := fmt.Fprintf(e.Out, "%s  %s\n", l.Entry.Node, l.Entry.Line())
		return err
	}
	_, err := fmt.Fprintln(e.Out, l.Entry.Line())
	return err
}
