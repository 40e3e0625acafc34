package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/internal/agentapi/remote"
	"github.com/weft-cni/weft/internal/flow"
	"github.com/weft-cni/weft/internal/why"
	"github.com/weft-cni/weft/internal/why/collect"
)

type whyOptions struct {
	lastDrop, noAWS bool
	pod             string
	since           time.Duration
	output          string
	nodes           remote.Flags
}

func newWhy(e *env) *cobra.Command {
	var o whyOptions
	c := &cobra.Command{
		Use:   "why FLOW | --last-drop",
		Short: "Say why a flow doesn't work, what decided it and what to do",
		Long: `Explains a flow, written FROM -> TO:PORT/PROTOCOL, where FROM and TO are NAMESPACE/POD or addresses.
It looks at drops and connections on the nodes of both ends, at pods, addresses and ENIs, and, with your own
AWS credentials, at what the VPC does: security groups, network ACLs, route tables, source check. What it
couldn't look at it says. It changes nothing. --node names the node that forwards for a sender which is
neither a pod nor a node.`,
		Example: `  weft why 'shop/web-0 -> shop/db-0:5432'
  weft why 'shop/web-0 -> 10.1.2.3:53/udp'
  weft why '172.17.0.2 -> shop/db-0:5432' --node ip-10-0-1-5.ec2.internal   # by a node that forwards
  weft why --last-drop
  weft why --last-drop --pod shop/web-0 -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := c.Flags()
	f.BoolVar(&o.lastDrop, "last-drop", false, "explain the last drop instead of a flow")
	f.StringVar(&o.pod, "pod", "", "with --last-drop: of this pod, NAMESPACE/POD, or of a namespace, NAMESPACE/")
	f.DurationVar(&o.since, "since", 10*time.Minute, "look at drops of this time back")
	f.BoolVar(&o.noAWS, "no-aws", false, "don't ask EC2")
	f.StringVarP(&o.output, "output", "o", "", "json prints the answer as JSON")
	o.nodes.Add(f)
	return c
}

func (o whyOptions) run(ctx context.Context, e *env, args []string) error {
	switch {
	case o.output != "" && o.output != "json":
		return fmt.Errorf("--output: found %q, expected json", o.output)
	case o.lastDrop && len(args) > 0:
		return errors.New("found both a flow and --last-drop, expected one of them")
	case !o.lastDrop && len(args) == 0:
		return errors.New("found no flow, expected one such as 'shop/web-0 -> 10.1.2.3:80/tcp', or --last-drop")
	case o.pod != "" && !o.lastDrop:
		return errors.New("--pod goes with --last-drop only")
	case o.lastDrop:
		return o.explainLast(ctx, e)
	}
	q, err := why.Parse(args[0])
	if err != nil {
		return err
	}
	client, err := e.cluster.Connect()
	if err != nil {
		return err
	}
	c := collect.Collector{
		Kube: client, Agents: remote.New(client.Kube, client.Config, e.cluster.Namespace), EC2: collect.EC2, Since: o.since,
	}
	if len(o.nodes.Nodes) == 1 && o.nodes.Nodes[0] != remote.All {
		c.Via = o.nodes.Nodes[0]
	}
	if o.noAWS {
		c.EC2 = nil
	}
	facts, err := c.Facts(ctx, q)
	if err != nil {
		return err
	}
	return o.print(e, why.Explain(facts))
}

// explainLast finds the newest drop of all nodes; that there is none is no fault.
func (o whyOptions) explainLast(ctx context.Context, e *env) error {
	filter := flow.Filter{Types: []flow.Type{flow.Drop}, Since: time.Now().Add(-o.since)}
	if o.pod != "" {
		p, err := flow.ParsePeer(o.pod)
		if err != nil || p.Pod == "" {
			return fmt.Errorf("--pod: found %q, expected NAMESPACE/POD or NAMESPACE/", o.pod)
		}
		filter.Any = []flow.Peer{p}
	}
	agents, err := e.agents()
	if err != nil {
		return err
	}
	chosen, err := agents.Select(ctx, o.nodes)
	if err != nil {
		return err
	}
	values := filter.Values()
	values.Set("last", "1")
	all, failed := remote.Gather[flow.Record](ctx, agents, chosen, "/v1/flows?"+values.Encode())
	if len(all) == 0 {
		if failed != nil {
			return failed
		}
		fmt.Fprintf(e.Out, "no drop in the last %s\n", o.since)
		return nil
	}
	last := slices.MaxFunc(all, func(a, b flow.Record) int { return a.Time.Compare(b.Time) })
	if names, err := podNames(ctx, e); err == nil {
		nameSides(names, &last)
	}
	answer := why.Drop(last)
	if failed != nil {
		answer.Unchecked = append(answer.Unchecked, failed.Error())
	}
	return o.print(e, answer)
}

func (o whyOptions) print(e *env, a why.Answer) error {
	if o.output == "json" {
		j := json.NewEncoder(e.Out)
		j.SetIndent("", "  ")
		return j.Encode(a)
	}
	fmt.Fprintln(e.Out, a.Flow)
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(e.Out, "  %-9s %s\n", name, text)
		}
	}
	line("cause", string(a.Cause))
	line("reason", a.Reason)
	line("decided", a.Object)
	line("do", a.Advice)
	for _, s := range a.Seen {
		line("seen", s)
	}
	for _, s := range a.Unchecked {
		line("unchecked", s)
	}
	return nil
}
