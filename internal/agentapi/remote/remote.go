// Package remote asks the agents of a cluster from a person's machine: it runs the agent's own client in
// the agent's pod, through the API server, so it needs the right to pods/exec and nothing else.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/kube"
)

// Agents of one cluster.
type Agents struct {
	kube      kubernetes.Interface
	host      string // of the API server
	namespace string
	run       runner
}

// runner runs a command in an agent's pod. stdin is held open until ctx ends.
type runner interface {
	run(ctx context.Context, pod string, command []string, stdout, stderr io.Writer) error
}

// New returns the agents in namespace.
func New(client kubernetes.Interface, config *rest.Config, namespace string) *Agents {
	return &Agents{kube: client, host: config.Host, namespace: namespace, run: &execRunner{kube: client, config: config, namespace: namespace}}
}

// Agent is the agent of one node.
type Agent struct {
	Node string
	Pod  string
	// Running is false for one whose container doesn't run; asking it fails.
	Running bool
}

// selector chooses the agents' pods.
const selector = "app.kubernetes.io/name=weft-agent"

// List returns the agents by node.
func (a *Agents) List(ctx context.Context) ([]Agent, error) {
	pods, err := a.kube.CoreV1().Pods(a.namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	var answered apierrors.APIStatus
	switch {
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("list weft's agents in namespace %s: %w; expected the rights to list pods and to create pods/exec there", a.namespace, err)
	case err != nil && (apierrors.IsUnauthorized(err) || !errors.As(err, &answered)):
		return nil, kube.Unreachable(a.host, err)
	case err != nil:
		return nil, fmt.Errorf("list weft's agents in namespace %s: %w", a.namespace, err)
	}
	byNode := map[string]Agent{}
	for _, p := range pods.Items {
		one := Agent{Node: p.Spec.NodeName, Pod: p.Name, Running: running(p)}
		if one.Node == "" {
			continue
		}
		// While one is replaced there are two pods: the one that runs answers.
		if old, ok := byNode[one.Node]; !ok || !old.Running {
			byNode[one.Node] = one
		}
	}
	out := make([]Agent, 0, len(byNode))
	for _, one := range byNode {
		out = append(out, one)
	}
	slices.SortFunc(out, func(x, y Agent) int { return strings.Compare(x.Node, y.Node) })
	if len(out) == 0 {
		return nil, fmt.Errorf("no agent of weft is in namespace %s; see weft status, or give --namespace", a.namespace)
	}
	return out, nil
}

func running(p corev1.Pod) bool {
	for _, c := range p.Status.ContainerStatuses {
		if c.Name == container && c.State.Running != nil {
			return p.DeletionTimestamp == nil
		}
	}
	return false
}

// Flags choose nodes.
type Flags struct {
	Nodes []string
}

// Add puts --node and its other spelling on a command. What is chosen without them is the command's own.
func (f *Flags) Add(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.Nodes, "node", nil, "name of a node (several: repeat it, or with commas); all for every node")
	flags.StringSliceVar(&f.Nodes, "nodes", nil, "the same as --node")
}

// All is what the flags call every node.
const All = "all"

// Select returns the agents that the flags name; without any, all of them.
func (a *Agents) Select(ctx context.Context, f Flags) ([]Agent, error) {
	all, err := a.List(ctx)
	if err != nil || len(f.Nodes) == 0 || slices.Contains(f.Nodes, All) {
		return all, err
	}
	var out []Agent
	for _, name := range f.Nodes {
		i := slices.IndexFunc(all, func(x Agent) bool { return x.Node == name })
		if i < 0 {
			var names []string
			for _, x := range all {
				names = append(names, x.Node)
			}
			return nil, fmt.Errorf("--node: no agent of weft is on node %q; there are agents on: %s", name, strings.Join(names, ", "))
		}
		out = append(out, all[i])
	}
	return out, nil
}

// Get copies an agent's answer to w. An error that the agent told is an *agentapi.Error.
func (a *Agents) Get(ctx context.Context, agent Agent, path string, w io.Writer) error {
	if !agent.Running {
		return &agentapi.Error{Code: http.StatusServiceUnavailable, Message: "its container does not run"}
	}
	var stderr bytes.Buffer
	err := a.run.run(ctx, agent.Pod, []string{"/weft-agent", "api", "--hold", path}, w, &stderr)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%w; what agents know is asked by kubectl exec's right: create on pods/exec in namespace %s", err, a.namespace)
	case errors.As(err, new(exitError)) && stderr.Len() > 0:
		return agentapi.ParseError(http.StatusInternalServerError, bytes.TrimSpace(stderr.Bytes()))
	}
	return fmt.Errorf("pod %s: %w", agent.Pod, err)
}

// exitError is the end of a command with a code other than 0.
type exitError interface {
	error
	ExitStatus() int
}

// Answer is one agent's.
type Answer[T any] struct {
	Agent Agent
	Value T
	Err   error
}

// Limits of Ask.
const (
	askAtOnce = 16
	askWithin = 30 * time.Second
)

// Ask gives each agent the same question, several at once, and returns the answers in the agents' order:
// one that doesn't answer keeps nobody from hearing the others.
func Ask[T any](ctx context.Context, a *Agents, agents []Agent, path string) []Answer[T] {
	out := make([]Answer[T], len(agents))
	g := new(errgroup.Group)
	g.SetLimit(askAtOnce)
	for i, agent := range agents {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, askWithin)
			defer cancel()
			out[i].Agent = agent
			var b bytes.Buffer
			err := a.Get(ctx, agent, path, &b)
			if err == nil {
				err = json.Unmarshal(b.Bytes(), &out[i].Value)
			}
			if errors.Is(err, context.DeadlineExceeded) {
				err = fmt.Errorf("no answer within %s", askWithin)
			}
			if err != nil {
				out[i].Err = fmt.Errorf("node %s: %w", agent.Node, err)
			}
			return nil
		})
	}
	_ = g.Wait() // nothing returns an error
	return out
}
