package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/weft-cni/weft/internal/agentapi/remote"
	"github.com/weft-cni/weft/internal/inspect"
)

// newService groups what looks at services. A subject is one line here and a file of its own.
func newService(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "service",
		Short: "Look at services as nodes have them: frontends, backends, and why a backend isn't chosen",
		Long: `Shows what nodes make of the cluster's Services and EndpointSlices, beside what the maps have by which connections
go. It asks the agents and changes nothing.`,
		Example: `  weft service list
  weft service get shop/web
  weft service explain shop/web:80 --from shop/client-0
  weft service trace --from shop/client-0 --to shop/web:80`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(
		newServiceList(e),
		newServiceGet(e),
		newServiceExplain(e),
		newServiceTrace(e),
	)
	return c
}

// serviceNames completes NAMESPACE/NAME; a cluster that doesn't answer completes nothing.
func serviceNames(ctx context.Context, e *env, begun string) []string {
	c, err := e.cluster.Connect()
	if err != nil {
		return nil
	}
	namespace, _, _ := strings.Cut(begun, "/")
	if !strings.Contains(begun, "/") {
		namespace = metav1.NamespaceAll
	}
	list, err := c.Kube.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	out := []string{}
	for _, s := range list.Items {
		if name := s.Namespace + "/" + s.Name; strings.HasPrefix(name, begun) {
			out = append(out, name)
		}
	}
	return out
}

// podsAndNodes completes a client.
func podsAndNodes(ctx context.Context, e *env, begun string) []string {
	c, err := e.cluster.Connect()
	if err != nil {
		return nil
	}
	namespace, _, named := strings.Cut(begun, "/")
	if !named {
		out := nodeNames(ctx, e, begun)
		list, err := c.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
		if err != nil {
			return out
		}
		for _, n := range list.Items {
			if strings.HasPrefix(n.Name, begun) {
				out = append(out, n.Name+"/")
			}
		}
		return out
	}
	list, err := c.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	out := []string{}
	for _, p := range list.Items {
		if name := p.Namespace + "/" + p.Name; strings.HasPrefix(name, begun) {
			out = append(out, name)
		}
	}
	return out
}

// completeFirst completes the only argument.
func completeFirst(e *env, names func(context.Context, *env, string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names(cmd.Context(), e, begun), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

func completeFlag(c *cobra.Command, e *env, flag string, names func(context.Context, *env, string) []string) {
	// It fails only for a flag that isn't there, which a test of the whole tree would show.
	_ = c.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		return names(cmd.Context(), e, begun), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
}

// asker is who asks for a service: a pod, a node, or somebody outside.
type asker struct {
	from    string
	outside bool
	output  string
}

func (o *asker) add(c *cobra.Command, e *env, from string) {
	f := c.Flags()
	f.StringVar(&o.from, "from", "", from)
	f.BoolVar(&o.outside, "outside", false, "for clients from outside of the cluster, who come to the node by its interfaces")
	f.StringVarP(&o.output, "output", "o", "", "json prints JSON")
	completeFlag(c, e, "from", podsAndNodes)
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
}

func (o *asker) checkOutput() error {
	if o.output != "" && o.output != "json" {
		return fmt.Errorf("--output: found %q, expected json", o.output)
	}
	return nil
}

// resolve finds the node, and what its agent is to know of the client.
func (o *asker) resolve(ctx context.Context, e *env) (*remote.Agents, remote.Agent, url.Values, error) {
	fail := func(err error) (*remote.Agents, remote.Agent, url.Values, error) {
		return nil, remote.Agent{}, nil, err
	}
	c, err := e.cluster.Connect()
	if err != nil {
		return fail(err)
	}
	agents := remote.New(c.Kube, c.Config, e.cluster.Namespace)
	all, err := agents.List(ctx)
	if err != nil {
		return fail(err)
	}
	q := url.Values{}
	node := o.from
	if strings.Contains(o.from, "/") {
		p, err := findPod(ctx, c.Kube, o.from)
		if err != nil {
			return fail(err)
		}
		node = p.Spec.NodeName
		q.Set("from", o.from)
		if p.Spec.HostNetwork {
			q.Set("host", "1")
		}
	} else if o.from != "" && !o.outside {
		q.Set("from", "any pod")
	}
	if o.outside {
		if strings.Contains(o.from, "/") {
			return fail(fmt.Errorf("--from: found pod %s with --outside, expected the node that a client from outside comes to, or none", o.from))
		}
		q.Set("outside", "1")
		q.Set("from", "somebody outside")
	}
	at := slices.IndexFunc(all, func(a remote.Agent) bool { return a.Node == node || node == "" && a.Running })
	if at < 0 && node != "" {
		return fail(fmt.Errorf("--from: no agent of weft is on node %q; expected NAMESPACE/POD, or one of the nodes %s", node, strings.Join(nodesOf(all), ", ")))
	}
	return agents, all[max(at, 0)], q, nil
}

func nodesOf(all []remote.Agent) []string {
	var out []string
	for _, a := range all {
		out = append(out, a.Node)
	}
	return out
}

func findPod(ctx context.Context, k kubernetes.Interface, name string) (*corev1.Pod, error) {
	namespace, pod, _ := strings.Cut(name, "/")
	if namespace == "" || pod == "" {
		return nil, fmt.Errorf("--from: found %q, expected NAMESPACE/POD or the name of a node", name)
	}
	p, err := k.CoreV1().Pods(namespace).Get(ctx, pod, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("--from: there is no pod %s; see kubectl -n %s get pods", name, namespace)
	case err != nil:
		return nil, fmt.Errorf("--from: pod %s: %w", name, err)
	case p.Spec.NodeName == "":
		return nil, fmt.Errorf("--from: pod %s isn't on a node yet", name)
	}
	return p, nil
}

// errService ends a command whose differences are on the screen.
var errService = errors.New("a service is not as it should be")

// frontendsOf asks the chosen agents.
func frontendsOf(ctx context.Context, agents *remote.Agents, chosen []remote.Agent, of string) ([]inspect.Frontend, error) {
	all, err := remote.Gather[inspect.Frontend](ctx, agents, chosen, "/v1/services?"+url.Values{"of": {of}}.Encode())
	slices.SortStableFunc(all, inspect.CompareFrontends)
	return all, err
}
