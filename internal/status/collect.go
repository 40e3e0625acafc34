package status

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/kube"
)

// Collect reads a snapshot.
func Collect(ctx context.Context, c *kube.Client, namespace string) (Snapshot, error) {
	s := Snapshot{Namespace: namespace, TaintKey: contract.DefaultTaintKey, HostPods: map[string]int{}}
	failed := func(what string, err error) (Snapshot, error) {
		if apierrors.IsForbidden(err) {
			return s, fmt.Errorf("%s: %w; status needs the rights of ClusterRole view and those to list nodes and weft.dev", what, err)
		}
		return s, fmt.Errorf("%s: %w", what, err)
	}
	v, err := c.Kube.Discovery().ServerVersion()
	if err != nil {
		return s, kube.Unreachable(c.Config.Host, err)
	}
	s.Kubernetes = v.GitVersion
	switch d, err := c.Kube.AppsV1().DaemonSets(namespace).Get(ctx, "weft", metav1.GetOptions{}); {
	case err == nil:
		s.Agent = d
	case !apierrors.IsNotFound(err):
		return failed("daemonset "+namespace+"/weft", err)
	}
	switch d, err := c.Kube.AppsV1().Deployments(namespace).Get(ctx, "weft-operator", metav1.GetOptions{}); {
	case err == nil:
		s.Operator = d
	case !apierrors.IsNotFound(err):
		return failed("deployment "+namespace+"/weft-operator", err)
	}
	if s.Agent == nil && s.Operator == nil {
		if s.Release, err = released(ctx, c, namespace); err != nil {
			return failed("releases of Helm", err)
		}
	}
	if cm, err := c.Kube.CoreV1().ConfigMaps(namespace).Get(ctx, config.ConfigMap, metav1.GetOptions{}); err == nil {
		if parsed, err := config.Parse([]byte(cm.Data[config.Key])); err == nil {
			s.TaintKey = parsed.AgentNotReadyTaintKey
			s.HealthChecking = parsed.HealthChecking
		}
	}
	nodes, err := c.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return failed("nodes", err)
	}
	s.Nodes = nodes.Items
	pods, err := c.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return failed("pods", err)
	}
	for _, p := range pods.Items {
		if p.Spec.HostNetwork && p.Spec.NodeName != "" && !ended(&p) {
			s.HostPods[p.Spec.NodeName]++
		}
		name := p.Labels[NameLabel]
		switch {
		case p.Namespace == namespace && (name == AgentName || name == OperatorName):
			s.Own = append(s.Own, p)
		case !p.Spec.HostNetwork:
			s.Pods = append(s.Pods, p)
		}
	}
	var networks v1alpha1.NodeNetworkList
	switch err := c.Objects.List(ctx, &networks); {
	case err == nil:
		s.NodeNetworks = networks.Items
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		s.NoResources = true
	default:
		return failed("nodenetworks", err)
	}
	if !s.NoResources {
		var cn v1alpha1.ClusterNetwork
		switch err := c.Objects.Get(ctx, client.ObjectKey{Name: v1alpha1.ClusterNetworkName}, &cn); {
		case err == nil:
			s.ClusterNetwork = &cn
		case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		default:
			return failed("clusternetwork "+v1alpha1.ClusterNetworkName, err)
		}
	}
	switch _, err := c.Kube.AdmissionregistrationV1().ValidatingAdmissionPolicies().Get(ctx, "weft-own-node", metav1.GetOptions{}); {
	case err == nil, apierrors.IsForbidden(err):
		// Who may not look isn't told that it is off.
		s.OwnNodeOnly = true
	case !apierrors.IsNotFound(err):
		return failed("validatingadmissionpolicy weft-own-node", err)
	}
	return s, nil
}

// released looks for a release of Helm, which has it in secrets. Who may not look is told of none.
func released(ctx context.Context, c *kube.Client, namespace string) (bool, error) {
	l := metav1.PartialObjectMetadataList{}
	l.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
	err := c.Objects.List(ctx, &l, client.InNamespace(namespace), client.MatchingLabels{"owner": "helm", "name": "weft"})
	if apierrors.IsForbidden(err) {
		return false, nil
	}
	return len(l.Items) > 0, err
}
