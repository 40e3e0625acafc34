package operator

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// podNodeIndex finds the pods of a node.
const podNodeIndex = "spec.nodeName"

// podRef is what matters of a pod.
type podRef struct {
	name    string // namespace/name
	pending bool   // it needs an address and has none
	address string // its own, not its node's
}

func indexPod(o client.Object) []string {
	p, ok := o.(*corev1.Pod)
	if !ok || p.Spec.NodeName == "" {
		return nil
	}
	return []string{p.Spec.NodeName}
}

// trimPod keeps what the operator reads: a large cluster has very many pods.
func trimPod(o any) (any, error) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: p.Name, Namespace: p.Namespace, UID: p.UID, ResourceVersion: p.ResourceVersion, DeletionTimestamp: p.DeletionTimestamp,
		},
		Spec:   corev1.PodSpec{NodeName: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork},
		Status: corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP},
	}, nil
}

// pending: the pod is bound to a node and waits for an address.
func pending(p *corev1.Pod) bool {
	return p.Spec.NodeName != "" && !p.Spec.HostNetwork && p.Status.PodIP == "" && p.DeletionTimestamp == nil &&
		p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
}

func podsOf(ctx context.Context, c client.Reader, node string) ([]podRef, error) {
	var list corev1.PodList
	if err := c.List(ctx, &list, client.MatchingFields{podNodeIndex: node}); err != nil {
		return nil, fmt.Errorf("pods of node %s: %w", node, err)
	}
	var out []podRef
	for i := range list.Items {
		p := &list.Items[i]
		ref := podRef{name: p.Namespace + "/" + p.Name, pending: pending(p)}
		if !p.Spec.HostNetwork {
			ref.address = p.Status.PodIP
		}
		out = append(out, ref)
	}
	return out, nil
}
