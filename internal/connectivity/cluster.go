package connectivity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"

	"github.com/weft-cni/weft/internal/kube"
	"github.com/weft-cni/weft/internal/probe"
)

// fieldManager owns what the test applies.
const fieldManager = "weft-connectivity"

// Cluster is the API server, as far as the test uses it.
type Cluster struct {
	config    *rest.Config
	client    kubernetes.Interface
	dynamic   dynamic.Interface
	namespace string
}

// Connect makes the clients; it sends nothing yet.
func Connect(config *rest.Config, namespace string) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 50, 100
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	d, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return &Cluster{config: config, client: c, dynamic: d, namespace: namespace}, nil
}

// Probe runs weft-probe in a pod and reads the result that it prints.
func (c *Cluster) Probe(ctx context.Context, in Pod, args ...string) (probe.Result, error) {
	req := c.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(c.namespace).Name(in.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: "probe", Command: append([]string{"/weft-probe"}, args...), Stdout: true, Stderr: true}, scheme.ParameterCodec)
	ws, err := remotecommand.NewWebSocketExecutor(c.config, "GET", req.URL().String())
	if err != nil {
		return probe.Result{}, fmt.Errorf("exec in %s: %w", in.Name, err)
	}
	spdy, err := remotecommand.NewSPDYExecutor(c.config, "POST", req.URL())
	if err != nil {
		return probe.Result{}, fmt.Errorf("exec in %s: %w", in.Name, err)
	}
	// Kubernetes before 1.30 speaks SPDY only.
	exec, err := remotecommand.NewFallbackExecutor(ws, spdy, func(err error) bool { return upgradeFailed(err) })
	if err != nil {
		return probe.Result{}, fmt.Errorf("exec in %s: %w", in.Name, err)
	}
	var stdout, stderr bytes.Buffer
	err = exec.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr})
	var exit utilexec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return probe.Result{}, fmt.Errorf("exec in %s: %w", in.Name, err)
	}
	var r probe.Result
	if jerr := json.Unmarshal(bytes.TrimSpace(stdout.Bytes()), &r); jerr != nil {
		return probe.Result{}, fmt.Errorf("exec in %s: found %q, expected a result: %s", in.Name, stdout.String(), strings.TrimSpace(stderr.String()))
	}
	return r, nil
}

// AskWebhook creates a ConfigMap that only the webhook judges.
func (c *Cluster) AskWebhook(ctx context.Context, deny bool) error {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "judged-", Labels: map[string]string{labelJudged: "true"}}}
	if deny {
		cm.Annotations = map[string]string{probe.DenyAnnotation: "true"}
	}
	_, err := c.client.CoreV1().ConfigMaps(c.namespace).Create(ctx, cm, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// AskAggregated lists the probes of the aggregated API.
func (c *Cluster) AskAggregated(ctx context.Context) (string, error) {
	b, err := c.client.Discovery().RESTClient().Get().AbsPath("/apis", probe.APIGroup, probe.APIVersion, "probes").DoRaw(ctx)
	return string(b), err
}

// Logs reads the log of a pod's container.
func (c *Cluster) Logs(ctx context.Context, in Pod) (string, error) {
	limit := int64(64 << 10)
	s, err := c.client.CoreV1().Pods(c.namespace).GetLogs(in.Name, &corev1.PodLogOptions{LimitBytes: &limit}).Stream(ctx)
	if err != nil {
		return "", err
	}
	defer s.Close()
	b, err := io.ReadAll(s)
	return string(b), err
}

// apply server-side applies any object of the test's namespace or the cluster.
func (c *Cluster) apply(ctx context.Context, r dynamic.ResourceInterface, name string, obj any) error {
	b, err := json.Marshal(obj)
	if err != nil {
		return err
	}
	force := true
	_, err = r.Patch(ctx, name, types.ApplyPatchType, b, metav1.PatchOptions{FieldManager: fieldManager, Force: &force})
	return err
}

// readyWithin is how long a kubelet may take to tell that its network, which has just come up, is there.
const readyWithin = 20 * time.Second

// check says early what would make the test wait in vain.
func (c *Cluster) check(ctx context.Context) error {
	limit := time.NewTimer(readyWithin)
	defer limit.Stop()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		nodes, err := c.listNodes(ctx)
		if err != nil {
			return err
		}
		if err = ready(nodes); err == nil || len(nodes) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-limit.C:
			return err
		case <-tick.C:
		}
	}
}

func (c *Cluster) listNodes(ctx context.Context) ([]corev1.Node, error) {
	short, cancel := context.WithTimeout(ctx, kube.ProbeTimeout)
	defer cancel()
	nodes, err := c.client.CoreV1().Nodes().List(short, metav1.ListOptions{})
	switch {
	case apierrors.IsForbidden(err):
		return nil, denied(fmt.Errorf("nodes: %w", err))
	case err != nil:
		return nil, kube.Unreachable(c.config.Host, err)
	}
	return nodes.Items, nil
}

// ready says why no node can run a test's pods; pure.
func ready(nodes []corev1.Node) error {
	if len(nodes) == 0 {
		return errors.New("the cluster has no nodes; add a node group first")
	}
	why := ""
	for _, n := range nodes {
		for _, cond := range n.Status.Conditions {
			if cond.Type != corev1.NodeReady {
				continue
			}
			if cond.Status == corev1.ConditionTrue {
				return nil
			}
			why = fmt.Sprintf(" (node %s: %s)", n.Name, cond.Message)
		}
	}
	return fmt.Errorf("none of %d nodes is Ready%s; install weft first, or see what is wrong with weft status", len(nodes), why)
}

// denied adds what to do to an answer of RBAC.
func denied(err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("%w; the test makes a namespace, workloads, a webhook configuration and an APIService: run it with a cluster administrator's rights", err)
	}
	return err
}

// final is true for an answer that doesn't change by asking again.
func final(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
}

// sayAfter is how long a wait may take in silence.
const sayAfter = 5 * time.Second

// saying writes what a wait lacks when that changes, once it has lasted sayAfter.
func saying(w io.Writer, what string, now func() time.Time, done func() (string, error)) func() (string, error) {
	began, last := now(), ""
	return func() (string, error) {
		missing, err := done()
		if err == nil && missing != "" && missing != last && now().Sub(began) >= sayAfter {
			last = missing
			fmt.Fprintf(w, "waiting for %s: %s\n", what, missing)
		}
		return missing, err
	}
}

// until asks several times a second until done says so, an answer is final, or ctx ends; then it returns what was
// last missing.
func until(ctx context.Context, what string, done func() (missing string, err error)) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		missing, err := done()
		if err == nil && missing == "" {
			return nil
		}
		if final(err) {
			return denied(fmt.Errorf("%s: %w", what, err))
		}
		if err != nil {
			missing = err.Error()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %s", what, missing)
		case <-tick.C:
		}
	}
}
