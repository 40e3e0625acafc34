package operator

import (
	"context"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/weft-cni/weft/api/v1alpha1"
)

const (
	// concurrentNodes are reconciled at a time; EC2's limiter is what bounds the calls.
	concurrentNodes = 16
	// podDelay gathers pods that are bound to a node together into one plan.
	podDelay = 50 * time.Millisecond
)

// watchNodes reconciles a node when it, its NodeNetwork, or the number of its waiting pods changes, and
// whenever its instance was described anew.
func watchNodes(mgr manager.Manager, r *Nodes, resynced <-chan event.GenericEvent) error {
	return ctrl.NewControllerManagedBy(mgr).Named("nodes").
		For(&corev1.Node{}, builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
			return nodeChanged(e.ObjectOld, e.ObjectNew)
		}})).
		Watches(&v1alpha1.NodeNetwork{}, &networkHandler{inventory: r.Inventory}, builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
			return networkChanged(e.ObjectOld, e.ObjectNew) || lost(e.ObjectOld, e.ObjectNew) != ""
		}})).
		Watches(&corev1.Pod{}, podHandler{}).
		WatchesRawSource(source.Channel(resynced, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrentNodes}).
		Complete(r)
}

// watchTaints reconciles a node when its taints, or its agent's readiness, change.
func watchTaints(mgr manager.Manager, r *Taints) error {
	return ctrl.NewControllerManagedBy(mgr).Named("taints").
		For(&corev1.Node{}, builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
			n, ok := o.(*corev1.Node)
			return ok && tainted(n, r.Key)
		}))).
		Watches(&v1alpha1.NodeNetwork{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
			nn, ok := o.(*v1alpha1.NodeNetwork)
			return ok && meta.IsStatusConditionTrue(nn.Status.Conditions, v1alpha1.ConditionReady)
		}))).
		Complete(r)
}

// nodeChanged: in what the operator reads; a kubelet's heartbeat isn't.
func nodeChanged(before, after client.Object) bool {
	a, ok1 := before.(*corev1.Node)
	b, ok2 := after.(*corev1.Node)
	return !ok1 || !ok2 || a.Spec.ProviderID != b.Spec.ProviderID || a.UID != b.UID || !maps.Equal(a.Labels, b.Labels) ||
		(a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil)
}

// networkChanged: in what a plan is made from. The operator's own condition isn't.
func networkChanged(before, after client.Object) bool {
	a, ok1 := before.(*v1alpha1.NodeNetwork)
	b, ok2 := after.(*v1alpha1.NodeNetwork)
	if !ok1 || !ok2 {
		return true
	}
	x, y := a.Status.DeepCopy(), b.Status.DeepCopy()
	x.Conditions, y.Conditions = nil, nil
	return a.UID != b.UID || !equality.Semantic.DeepEqual(a.Spec, b.Spec) || !equality.Semantic.DeepEqual(x, y) ||
		!equality.Semantic.DeepEqual(a.OwnerReferences, b.OwnerReferences)
}

// lost is the instance of a node whose agent says anew that it finds no device for an ENI.
func lost(before, after client.Object) string {
	a, ok1 := before.(*v1alpha1.NodeNetwork)
	b, ok2 := after.(*v1alpha1.NodeNetwork)
	if !ok1 || !ok2 {
		return ""
	}
	was := meta.FindStatusCondition(a.Status.Conditions, v1alpha1.ConditionInterfacesReady)
	is := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionInterfacesReady)
	if is == nil || is.Reason != v1alpha1.ReasonInterfaceMissing || was != nil && was.Reason == is.Reason && was.Message == is.Message {
		return ""
	}
	return b.Spec.InstanceID
}

// networkHandler reconciles a NodeNetwork's node, and has its instance described if the node lost an ENI.
type networkHandler struct {
	handler.EnqueueRequestForObject
	inventory *Inventory
}

// Update implements handler.EventHandler.
func (h *networkHandler) Update(ctx context.Context, e event.UpdateEvent, q queue) {
	if id := lost(e.ObjectOld, e.ObjectNew); id != "" {
		h.inventory.Lost(id)
	}
	h.EnqueueRequestForObject.Update(ctx, e, q)
}

// podHandler reconciles the node of a pod that waits for an address, or no longer does.
type podHandler struct{}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

func (podHandler) Create(_ context.Context, e event.CreateEvent, q queue) {
	enqueuePod(nil, e.Object, q)
}
func (podHandler) Update(_ context.Context, e event.UpdateEvent, q queue) {
	enqueuePod(e.ObjectOld, e.ObjectNew, q)
}
func (podHandler) Delete(_ context.Context, e event.DeleteEvent, q queue) {
	enqueuePod(e.Object, nil, q)
}
func (podHandler) Generic(context.Context, event.GenericEvent, queue) {}

func enqueuePod(before, after client.Object, q queue) {
	was, is := false, false
	node := ""
	if p, ok := before.(*corev1.Pod); ok {
		was, node = pending(p), p.Spec.NodeName
	}
	if p, ok := after.(*corev1.Pod); ok {
		is, node = pending(p), p.Spec.NodeName
	}
	if was != is && node != "" {
		q.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Name: node}}, podDelay)
	}
}
