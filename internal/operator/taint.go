package operator

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/weft-cni/weft/api/v1alpha1"
)

// Taints removes the start-up taint of nodes whose agent is ready, also when it comes back: node groups put
// their taints on existing nodes too.
type Taints struct {
	Client client.Client
	Key    string
	Log    *slog.Logger
}

// Reconcile one node.
func (r *Taints) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var node corev1.Node
	if err := r.Client.Get(ctx, req.NamespacedName, &node); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !tainted(&node, r.Key) {
		return reconcile.Result{}, nil
	}
	var nn v1alpha1.NodeNetwork
	if err := r.Client.Get(ctx, req.NamespacedName, &nn); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !agentReady(&node, &nn) {
		return reconcile.Result{}, nil
	}
	before := node.DeepCopy()
	node.Spec.Taints = slices.DeleteFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == r.Key })
	// The list is replaced as a whole: whoever else changed it meanwhile must not lose a taint.
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, &node, patch, client.FieldOwner(fieldManager)); err != nil {
		if apierrors.IsConflict(err) {
			return again(err)
		}
		return reconcile.Result{}, fmt.Errorf("node %s: taint %s: %w", node.Name, r.Key, err)
	}
	r.Log.Info("start-up taint removed", "node", node.Name, "taint", r.Key)
	return reconcile.Result{}, nil
}

func tainted(n *corev1.Node, key string) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key })
}

// agentReady: the agent of this very instance says that endpoints can be made.
func agentReady(node *corev1.Node, nn *v1alpha1.NodeNetwork) bool {
	id, _, ok := instanceOf(node)
	owned := slices.ContainsFunc(nn.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == node.UID })
	return ok && owned && nn.Status.InstanceID == id && meta.IsStatusConditionTrue(nn.Status.Conditions, v1alpha1.ConditionReady)
}
