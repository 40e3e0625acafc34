package connectivity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/streaming/pkg/httpstream"
)

func resource(group, version, name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: name}
}

func upgradeFailed(err error) bool {
	return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
}

// Deploy makes the namespace and all that is in it, waits until it serves, and describes it. Everything that
// it makes goes with the namespace. What an earlier run left there serves again if it is as it should be. attempt is
// how long the API server waits for the webhook.
func (c *Cluster) Deploy(ctx context.Context, image string, attempt time.Duration, w io.Writer) (*Env, error) {
	ns, err := c.ensureNamespace(ctx)
	if err != nil {
		return nil, err
	}
	cert, key, err := c.certificate(ctx, appWebhook+"."+c.namespace+".svc", appWebhook+"."+c.namespace)
	if err != nil {
		return nil, err
	}
	deployment := webhookDeployment(c.namespace, image)
	// A new certificate needs a new pod.
	deployment.Spec.Template.Annotations = map[string]string{"connectivity.weft.dev/certificate": fingerprint(cert)}
	type object struct {
		gvr  schema.GroupVersionResource
		name string
		obj  any
	}
	apps, core := func(n string) schema.GroupVersionResource { return resource("apps", "v1", n) }, func(n string) schema.GroupVersionResource { return resource("", "v1", n) }
	for _, o := range []object{
		{core("secrets"), secretTLS, tlsSecret(c.namespace, cert, key)},
		{apps("daemonsets"), appClient, daemonSet(c.namespace, appClient, image, false, echoPort)},
		{apps("daemonsets"), appEcho, daemonSet(c.namespace, appEcho, image, false, echoPort)},
		{apps("daemonsets"), appHost, daemonSet(c.namespace, appHost, image, true, hostPort)},
		{apps("deployments"), appWebhook, deployment},
		{core("services"), appWebhook, tlsService(c.namespace)},
	} {
		if err := c.apply(ctx, c.dynamic.Resource(o.gvr).Namespace(c.namespace), o.name, o.obj); err != nil {
			return nil, denied(fmt.Errorf("%s %s: %w", o.gvr.Resource, o.name, err))
		}
	}
	fmt.Fprintf(w, "waiting for the test's pods in namespace %s\n", c.namespace)
	if err := until(ctx, "the test's pods", saying(w, "the test's pods", time.Now, func() (string, error) { return c.unready(ctx) })); err != nil {
		return nil, err
	}
	env := &Env{Prober: c, ControlPlane: c}
	if err := c.describe(ctx, env); err != nil {
		return nil, err
	}
	for i, e := range env.Echoes {
		for _, s := range services(c.namespace, e, i+1) {
			if err := c.apply(ctx, c.dynamic.Resource(core("services")).Namespace(c.namespace), s.Name, s); err != nil {
				return nil, fmt.Errorf("service %s: %w", s.Name, err)
			}
			got, err := c.client.CoreV1().Services(c.namespace).Get(ctx, s.Name, metav1.GetOptions{})
			if err != nil {
				return nil, fmt.Errorf("service %s: %w", s.Name, err)
			}
			env.Services = append(env.Services, Service{Name: got.Name, ClusterIP: got.Spec.ClusterIP, Port: echoPort,
				NodePort: got.Spec.Ports[0].NodePort, Backend: e, Local: got.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal})
		}
	}
	for _, o := range clusterObjects(ns, cert, attempt) {
		if err := c.apply(ctx, c.dynamic.Resource(gvrOf(o)), o.GetName(), o); err != nil {
			return nil, denied(fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err))
		}
	}
	err = until(ctx, "endpoints of the test's services", func() (string, error) { return c.unserved(ctx, env.Services) })
	return env, err
}

// certificate is the one of an earlier run, if it is good for this one too, or a new one.
func (c *Cluster) certificate(ctx context.Context, names ...string) (cert, key []byte, err error) {
	s, err := c.client.CoreV1().Secrets(c.namespace).Get(ctx, secretTLS, metav1.GetOptions{})
	switch {
	case err == nil:
		if cert, key = s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]; usable(cert, key, time.Now(), names...) {
			return cert, key, nil
		}
	case !apierrors.IsNotFound(err):
		return nil, nil, denied(fmt.Errorf("secret %s: %w", secretTLS, err))
	}
	return certificate(time.Now(), names...)
}

func gvrOf(o *unstructured.Unstructured) schema.GroupVersionResource {
	if o.GetKind() == "APIService" {
		return resource("apiregistration.k8s.io", "v1", "apiservices")
	}
	return resource("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations")
}

// Withdraw removes what the API server calls into the test's pods. It can't stay with the namespace: an
// aggregated API whose pod is gone fails discovery, and then no namespace can be deleted, this one first.
func (c *Cluster) Withdraw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var errs []error
	for _, o := range clusterObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}}, nil, 0) {
		err := c.dynamic.Resource(gvrOf(o)).Delete(ctx, o.GetName(), metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err))
		}
	}
	return errors.Join(errs...)
}

func (c *Cluster) ensureNamespace(ctx context.Context) (*corev1.Namespace, error) {
	ns := &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: c.namespace, Labels: map[string]string{labelApp: "weft-connectivity-test"}}}
	if err := until(ctx, "namespace "+c.namespace, func() (string, error) {
		got, err := c.client.CoreV1().Namespaces().Get(ctx, c.namespace, metav1.GetOptions{})
		if err == nil && got.Status.Phase == corev1.NamespaceTerminating {
			return "the namespace of an earlier run is still going away", nil
		}
		return "", c.apply(ctx, c.dynamic.Resource(resource("", "v1", "namespaces")), c.namespace, ns)
	}); err != nil {
		return nil, err
	}
	got, err := c.client.CoreV1().Namespaces().Get(ctx, c.namespace, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", c.namespace, err)
	}
	return got, until(ctx, "the default service account", func() (string, error) {
		_, err := c.client.CoreV1().ServiceAccounts(c.namespace).Get(ctx, "default", metav1.GetOptions{})
		return "", err
	})
}

// unready names the first pod that isn't ready and why.
func (c *Cluster) unready(ctx context.Context) (string, error) {
	sets, err := c.client.AppsV1().DaemonSets(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, d := range sets.Items {
		s := d.Status
		if s.ObservedGeneration == d.Generation && s.DesiredNumberScheduled == 0 {
			return "no node takes pods: each has a taint, see weft status and kubectl describe nodes", nil
		}
		if s.ObservedGeneration != d.Generation || s.DesiredNumberScheduled == 0 || s.NumberReady != s.DesiredNumberScheduled || s.UpdatedNumberScheduled != s.DesiredNumberScheduled {
			return c.whyNot(ctx, d.Name, fmt.Sprintf("%d of %d pods of %s are ready", s.NumberReady, s.DesiredNumberScheduled, d.Name)), nil
		}
	}
	dep, err := c.client.AppsV1().Deployments(c.namespace).Get(ctx, appWebhook, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	if !deployed(dep) {
		return c.whyNot(ctx, appWebhook, "the webhook's pod isn't ready"), nil
	}
	return "", nil
}

func deployed(d *appsv1.Deployment) bool {
	return d.Status.ObservedGeneration == d.Generation && d.Status.UpdatedReplicas == *d.Spec.Replicas && d.Status.ReadyReplicas == *d.Spec.Replicas && d.Status.Replicas == *d.Spec.Replicas
}

// whyNot adds the reason of the first pod of the app that waits.
func (c *Cluster) whyNot(ctx context.Context, app, missing string) string {
	pods, err := c.client.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.Set{labelApp: app}.String()})
	if err != nil {
		return missing
	}
	for _, p := range pods.Items {
		for _, cond := range p.Status.Conditions {
			if cond.Type == corev1.PodScheduled && cond.Status != corev1.ConditionTrue {
				return fmt.Sprintf("%s: %s isn't scheduled: %s", missing, p.Name, cond.Message)
			}
		}
		for _, s := range p.Status.ContainerStatuses {
			if s.State.Waiting == nil {
				continue
			}
			reason := s.State.Waiting.Reason
			if m := s.State.Waiting.Message; m != "" {
				reason += ": " + m
			}
			if e := c.lastWarning(ctx, p.Name); e != "" {
				reason += ": " + e
			}
			return fmt.Sprintf("%s: %s on %s is in %s", missing, p.Name, p.Spec.NodeName, reason)
		}
	}
	return missing
}

func (c *Cluster) lastWarning(ctx context.Context, pod string) string {
	events, err := c.client.CoreV1().Events(c.namespace).List(ctx, metav1.ListOptions{FieldSelector: "type=Warning,involvedObject.name=" + pod})
	if err != nil || len(events.Items) == 0 {
		return ""
	}
	last := slices.MaxFunc(events.Items, func(a, b corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	return strings.TrimSpace(last.Message)
}

// unserved names the first service without an endpoint: probes before that would meet refusals.
func (c *Cluster) unserved(ctx context.Context, svcs []Service) (string, error) {
	slicesList, err := c.client.DiscoveryV1().EndpointSlices(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	served := map[string]bool{}
	for _, s := range slicesList.Items {
		for _, ep := range s.Endpoints {
			if ep.Conditions.Ready == nil || *ep.Conditions.Ready {
				served[s.Labels["kubernetes.io/service-name"]] = true
			}
		}
	}
	for _, s := range svcs {
		if !served[s.Name] {
			return "service " + s.Name + " has no ready endpoint", nil
		}
	}
	if !served[appWebhook] {
		return "service " + appWebhook + " has no ready endpoint", nil
	}
	return "", nil
}

// describe fills the environment with pods and nodes, in the order of the nodes' names.
func (c *Cluster) describe(ctx context.Context, env *Env) error {
	pods, err := c.client.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("pods: %w", err)
	}
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return strings.Compare(a.Spec.NodeName, b.Spec.NodeName) })
	for _, p := range pods.Items {
		if p.DeletionTimestamp != nil || p.Status.PodIP == "" {
			continue
		}
		pod := Pod{Name: p.Name, Node: p.Spec.NodeName, IP: p.Status.PodIP, HostNetwork: p.Spec.HostNetwork}
		switch p.Labels[labelApp] {
		case appClient:
			env.Clients = append(env.Clients, pod)
		case appEcho:
			patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{labelNode: nodeLabel(pod.Node)}}})
			if err != nil {
				return err
			}
			if _, err := c.client.CoreV1().Pods(c.namespace).Patch(ctx, p.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
				return fmt.Errorf("label pod %s: %w", p.Name, err)
			}
			env.Echoes = append(env.Echoes, pod)
		case appHost:
			env.Hosts = append(env.Hosts, pod)
		case appWebhook:
			env.Webhook = pod
		}
	}
	nodes, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	for _, n := range nodes.Items {
		if _, ok := on(env.Hosts, n.Name); !ok {
			continue // a node that takes no pods has nothing to test
		}
		node := Node{Name: n.Name}
		for _, a := range n.Status.Addresses {
			switch a.Type {
			case corev1.NodeInternalIP:
				node.Internal = append(node.Internal, a.Address)
			case corev1.NodeExternalIP:
				node.External = append(node.External, a.Address)
			}
		}
		env.Nodes = append(env.Nodes, node)
	}
	slices.SortFunc(env.Nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return nil
}
