package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/inspect"
)

func newServiceExplain(e *env) *cobra.Command {
	var o asker
	c := &cobra.Command{
		Use:   "explain FRONTEND",
		Short: "Say of each endpoint of a service whether a client may be connected to it, and why not",
		Long: `Lists every endpoint in the EndpointSlices of a service, and for each whether clients of the frontend may be connected to
it from where they are: not ready, ending while others are ready, on another node while the traffic policy is Local, hinted for
another zone, of the other family, without the port. FRONTEND is ADDRESS:PORT[/PROTOCOL] or NAMESPACE/NAME[:PORT[/PROTOCOL]].`,
		Example: `  weft service explain shop/web:80
  weft service explain 172.20.0.10:80/tcp --from shop/client-0
  weft service explain shop/web --from ip-10-0-1-5.ec2.internal --outside -o json`,
		Args:              oneOf("a frontend such as shop/web:80 or 172.20.0.10:80/tcp"),
		ValidArgsFunction: completeFirst(e, serviceNames),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.explain(cmd.Context(), e, args[0]) },
	}
	o.add(c, e, "whose view: NAMESPACE/POD, or the name of a node (default: some node)")
	return c
}

func newServiceTrace(e *env) *cobra.Command {
	var o asker
	var to string
	c := &cobra.Command{
		Use:   "trace --from POD --to FRONTEND",
		Short: "Say hop by hop what becomes of a connection from a pod to a service",
		Long: `Follows a connection to a service through the client's node: what the hook at the socket does, what the packet programs
do, which backends may be chosen and where they are, whether addresses are translated and by which ENI packets leave; and, where weft
leaves it to kube-proxy, by which of its rules it goes. Nothing is sent.`,
		Example: `  weft service trace --from shop/client-0 --to shop/web:80
  weft service trace --outside --from ip-10-0-1-5.ec2.internal --to shop/web:http -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.trace(cmd.Context(), e, to) },
	}
	o.add(c, e, "the client: NAMESPACE/POD; with --outside the node that it comes to")
	c.Flags().StringVar(&to, "to", "", "the service: NAMESPACE/NAME:PORT[/PROTOCOL] or ADDRESS:PORT[/PROTOCOL]")
	completeFlag(c, e, "to", serviceNames)
	return c
}

func (o asker) explain(ctx context.Context, e *env, of string) error {
	all, err := put[inspect.Explanation](ctx, e, o, "/v1/services/explain?", of)
	if err != nil {
		return err
	}
	names, err := podNames(ctx, e)
	if err != nil {
		fmt.Fprintln(e.Err, "pods of other nodes aren't named:", err)
	}
	for i := range all {
		for j := range all[i].Endpoints {
			if v := &all[i].Endpoints[j]; v.Pod == "" {
				v.Pod = names[v.Host()]
			}
		}
	}
	if o.output == "json" {
		return printJSON(e, all)
	}
	for i, x := range all {
		if i > 0 {
			fmt.Fprintln(e.Out)
		}
		if err := x.Draw(e.Out); err != nil {
			return err
		}
	}
	return nil
}

func (o asker) trace(ctx context.Context, e *env, to string) error {
	switch {
	case to == "":
		return errors.New("--to: found none, expected a service such as shop/web:80 or 172.20.0.10:80/tcp")
	case o.from == "" && !o.outside:
		return errors.New("--from: found none, expected a client, NAMESPACE/POD, or --outside")
	}
	all, err := put[inspect.Trace](ctx, e, o, "/v1/services/trace?", to)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return printJSON(e, all)
	}
	for i, t := range all {
		if i > 0 {
			fmt.Fprintln(e.Out)
		}
		t.Draw(e.Out)
	}
	return nil
}

// put asks the agent of the client's node about a frontend.
func put[T any](ctx context.Context, e *env, o asker, path, of string) ([]T, error) {
	if err := o.checkOutput(); err != nil {
		return nil, err
	}
	target, err := inspect.ParseTarget(of)
	if err != nil {
		return nil, err
	}
	agents, agent, q, err := o.resolve(ctx, e)
	if err != nil {
		return nil, err
	}
	q.Set("of", target.String())
	var b bytes.Buffer
	if err := agents.Get(ctx, agent, path+q.Encode(), &b); err != nil {
		var told *agentapi.Error
		if errors.As(err, &told) && told.Code == http.StatusNotFound {
			return nil, err // it says where
		}
		return nil, fmt.Errorf("node %s: %w", agent.Node, err)
	}
	var all []T
	if err := json.Unmarshal(b.Bytes(), &all); err != nil {
		return nil, fmt.Errorf("node %s: the answer was not understood: %w; is the agent of another version?", agent.Node, err)
	}
	return all, nil
}
