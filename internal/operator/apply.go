package operator

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/api/v1alpha1"
)

// fieldManager owns what the operator writes.
const fieldManager = "weft-operator"

// newNodeNetwork belongs to the node and goes with it.
func newNodeNetwork(node *corev1.Node) *v1alpha1.NodeNetwork {
	return &v1alpha1.NodeNetwork{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "NodeNetwork"},
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID},
		}},
	}
}

func applyTarget(kind, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetAPIVersion(v1alpha1.GroupVersion.String())
	u.SetKind(kind)
	u.SetName(name)
	return u
}

// applySpec writes a node's spec. It names the version that it was computed from: two leaders for a second
// must not hand out the same generation twice.
func applySpec(ctx context.Context, c client.Client, node *corev1.Node, nn *v1alpha1.NodeNetwork, spec v1alpha1.NodeNetworkSpec) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&spec)
	if err != nil {
		return err
	}
	u := applyTarget("NodeNetwork", nn.Name)
	u.SetResourceVersion(nn.ResourceVersion)
	u.SetOwnerReferences(newNodeNetwork(node).OwnerReferences)
	u.Object["spec"] = content
	if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.ForceOwnership, client.FieldOwner(fieldManager)); err != nil {
		return err
	}
	nn.Spec = spec
	nn.ResourceVersion = u.GetResourceVersion()
	nn.Generation = u.GetGeneration()
	return nil
}

// applyCondition writes the operator's condition and leaves the agent's alone.
func applyCondition(ctx context.Context, c client.Client, nn *v1alpha1.NodeNetwork, old *metav1.Condition, cond metav1.Condition, now time.Time) error {
	cond.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	if old != nil && old.Status == cond.Status {
		cond.LastTransitionTime = old.LastTransitionTime
	}
	cond.ObservedGeneration = nn.Generation
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&cond)
	if err != nil {
		return err
	}
	u := applyTarget("NodeNetwork", nn.Name)
	u.Object["status"] = map[string]any{"conditions": []any{content}}
	return c.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.ForceOwnership, client.FieldOwner(fieldManager))
}

// applyFacts writes the whole status of the ClusterNetwork: all of it is the operator's.
func applyFacts(ctx context.Context, c client.Client, status v1alpha1.ClusterNetworkStatus) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&status)
	if err != nil {
		return err
	}
	u := applyTarget("ClusterNetwork", v1alpha1.ClusterNetworkName)
	u.Object["status"] = content
	return c.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.ForceOwnership, client.FieldOwner(fieldManager))
}
