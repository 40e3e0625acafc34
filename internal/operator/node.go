package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/ec2"
	"github.com/weft-cni/weft/internal/ipam"
)

// attachPoll is how often an attachment on its way is looked at.
const attachPoll = time.Second

// Nodes gives every node its NodeNetwork, and its instance the ENIs and addresses that it needs.
type Nodes struct {
	Client    client.Client
	EC2       ec2.API
	Inventory *Inventory
	Facts     *Facts
	Neighbour *Neighbour
	Config    config.Config
	Cluster   string
	Events    events.EventRecorder
	Metrics   *Metrics
	Log       *slog.Logger
	Now       func() time.Time

	backoff  backoff
	reported reported
}

// Reconcile one node.
func (r *Nodes) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var node corev1.Node
	if err := r.Client.Get(ctx, req.NamespacedName, &node); err != nil {
		if apierrors.IsNotFound(err) {
			// The NodeNetwork goes by its owner reference, the ENIs with the instance.
			r.forget(ctx, req.Name)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, err
	}
	instanceID, _, ok := instanceOf(&node)
	if !ok || node.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	nn, err := r.ensure(ctx, &node)
	if err != nil || nn == nil {
		return again(err)
	}
	if wait := r.backoff.remaining(node.Name, r.Now()); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	out := r.assign(ctx, &node, nn, instanceID)
	if apierrors.IsConflict(out.err) {
		return again(out.err) // the agent wrote its status in between: nothing failed
	}
	r.Metrics.node(node.Name, out)
	if err := r.report(ctx, &node, nn, condition(out)); err != nil {
		return again(err)
	}
	switch {
	case out.err != nil:
		delay := r.backoff.failed(node.Name, r.Now(), out.err)
		r.Log.Warn("node's addresses are not assigned", "node", node.Name, "instance", instanceID, "retry", delay, "error", out.err)
		return reconcile.Result{RequeueAfter: delay}, nil
	case out.waiting:
		// What was refused before has succeeded since.
		r.backoff.succeeded(node.Name)
		r.Inventory.Doubt(instanceID)
		return reconcile.Result{RequeueAfter: attachPoll}, nil
	}
	r.backoff.succeeded(node.Name)
	if out.plan.Shortfall > 0 {
		return reconcile.Result{RequeueAfter: r.Config.SyncInterval.Duration}, nil
	}
	return reconcile.Result{}, nil
}

// again retries a write that met another writer without calling it a failure.
func again(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return reconcile.Result{RequeueAfter: 100 * time.Millisecond}, nil
	}
	return reconcile.Result{}, err
}

func (r *Nodes) forget(ctx context.Context, node string) {
	r.backoff.succeeded(node)
	r.reported.forget(node)
	r.Metrics.forget(node)
	var nn v1alpha1.NodeNetwork
	if err := r.Client.Get(ctx, client.ObjectKey{Name: node}, &nn); err == nil && nn.Spec.InstanceID != "" {
		r.Inventory.Forget(nn.Spec.InstanceID)
	}
}

// assign brings the instance to what the node needs and the NodeNetwork's spec to what the instance has.
func (r *Nodes) assign(ctx context.Context, node *corev1.Node, nn *v1alpha1.NodeNetwork, instanceID string) outcome {
	pods, err := podsOf(ctx, r.Client, node.Name)
	if err != nil {
		return outcome{err: err}
	}
	if nn.Status.InstanceID != "" && nn.Status.InstanceID != instanceID {
		// The status of an instance that had the node's name before.
		nn.Status = v1alpha1.NodeNetworkStatus{Conditions: nn.Status.Conditions}
	}
	o, err := r.Neighbour.On(ctx, node, pods)
	if err != nil {
		return outcome{err: err}
	}
	w := ipam.Watermarks{
		MinAllocate: r.Config.IPAM.MinAllocate, PreAllocate: r.Config.IPAM.PreAllocate, MaxAllocate: r.Config.IPAM.MaxAllocate,
		MaxAboveWatermark: r.Config.IPAM.MaxAboveWatermark, FirstInterfaceIndex: r.Config.ENI.FirstInterfaceIndex,
	}
	out := outcome{demand: demand(nn, pods)}
	skip := map[string]bool{} // actions
	var afterwards error
	if nn.Spec.InstanceID == instanceID {
		r.Inventory.Seed(nn.Spec)
	}
	// Each round reads what is known, tells the agent, and makes one change. The bound is far above what an
	// instance can need.
	for range 64 {
		v, ok, err := r.Inventory.View(ctx, instanceID)
		if err != nil {
			out.err = err
			return out
		}
		if !ok {
			out.err = &codedError{reasonNoInstance, fmt.Sprintf("EC2 knows no instance %s in this region and account, or not yet", instanceID)}
			return out
		}
		if v.Instance.Gone() {
			r.Inventory.Doubt(instanceID)
			out.err = &codedError{reasonNotReady, fmt.Sprintf("instance %s is %s", instanceID, v.Instance.State)}
			return out
		}
		t, err := r.Inventory.Type(ctx, v.Instance.Type)
		if err != nil {
			out.err = err
			return out
		}
		// An old picture of the VPC does; what changes in it is noted as we take addresses.
		vpc, err := r.Facts.VPC(ctx, v.Instance.VPCID, 5*time.Minute)
		if err != nil && vpc.ID == "" {
			out.err = err
			return out
		}
		if err := r.publish(ctx, node, nn, buildSpec(nn.Spec, v, t, vpc, o, r.Cluster, w.FirstInterfaceIndex)); err != nil {
			out.err = err
			return out
		}
		n := ipamNode(v, t, vpc, o, w, r.Cluster, nn, out.demand)
		out.plan, out.available, out.limits, out.typeName = ipam.Compute(n), n.Available(), n.Limits, t.Name
		out.waiting, out.foreign = inTransit(v), len(foreignOf(nn.Spec))
		r.Inventory.Want(instanceID, toAttach(out.plan))
		if len(v.Interfaces) > 0 {
			out.subnet = v.Interfaces[0].SubnetID
		}
		paused, err := releasing(ctx, r.Client, r.Now())
		if err != nil {
			out.err = err
			return out
		}
		if paused {
			out.err = &codedError{reasonReleasing, "addresses are being given back to EC2: nothing new is assigned"}
			return out
		}
		step, ok := nextStep(v, out.plan, nn, r.Config.ENI.DeleteOnTermination, r.Cluster, skip)
		if !ok {
			out.err = afterwards
			return out
		}
		err = r.carryOut(ctx, node, nn, v, step)
		switch {
		case err == nil:
		case step.action == ec2.ActionUnassignAddresses && errors.Is(err, ec2.ErrUnauthorized):
			// A feature that is off, as the ClusterNetwork says: the addresses stay fenced.
			skip[step.action] = true
		case step.action == ec2.ActionModifyInterface:
			// Worth telling, but no reason to let pods wait: garbage collection finds what it leaves.
			skip[step.action], afterwards = true, err
		default:
			out.err = err
			return out
		}
	}
	out.err = &codedError{reasonFailed, "the node's interfaces don't settle"}
	return out
}

func toAttach(p ipam.Plan) []string {
	var out []string
	for _, a := range p.Actions {
		if a.Kind == ipam.Attach {
			out = append(out, a.InterfaceID)
		}
	}
	return out
}

// inTransit: an attachment is on its way.
func inTransit(v View) bool {
	for _, i := range v.Interfaces {
		if i.Attachment != nil && i.Attachment.Status != ec2.AttachmentAttached {
			return true
		}
	}
	return false
}

// report writes the condition, and an event when it became worse.
func (r *Nodes) report(ctx context.Context, node *corev1.Node, nn *v1alpha1.NodeNetwork, c metav1.Condition) error {
	old := meta.FindStatusCondition(nn.Status.Conditions, c.Type)
	if old != nil && says(*old, c) && r.reported.is(nn.Name, nn.UID, c) {
		return nil
	}
	if err := applyCondition(ctx, r.Client, nn, old, c, r.Now()); err != nil {
		r.reported.forget(nn.Name)
		return fmt.Errorf("NodeNetwork %s: condition: %w", nn.Name, err)
	}
	r.reported.note(nn.Name, nn.UID, c)
	if c.Status == "False" && (old == nil || old.Status != c.Status || old.Reason != c.Reason) {
		r.Events.Eventf(node, nil, corev1.EventTypeWarning, c.Reason, "AssignAddresses", "%s", c.Message)
	}
	return nil
}

// publish writes the spec if it changed.
func (r *Nodes) publish(ctx context.Context, node *corev1.Node, nn *v1alpha1.NodeNetwork, spec v1alpha1.NodeNetworkSpec) error {
	if equality.Semantic.DeepEqual(nn.Spec, spec) {
		return nil
	}
	if err := applySpec(ctx, r.Client, node, nn, spec); err != nil {
		return fmt.Errorf("NodeNetwork %s: spec: %w", nn.Name, err)
	}
	r.Log.Info("node's network changed", "node", nn.Name, "interfaces", len(spec.Interfaces), "generation", spec.Generation)
	return nil
}

// ensure returns the node's NodeNetwork, made if absent. It returns none while one of a former node of the
// same name goes away.
func (r *Nodes) ensure(ctx context.Context, node *corev1.Node) (*v1alpha1.NodeNetwork, error) {
	var nn v1alpha1.NodeNetwork
	err := r.Client.Get(ctx, client.ObjectKey{Name: node.Name}, &nn)
	switch {
	case apierrors.IsNotFound(err):
		fresh := newNodeNetwork(node)
		if err := r.Client.Create(ctx, fresh, client.FieldOwner(fieldManager)); err != nil {
			return nil, fmt.Errorf("NodeNetwork %s: %w", node.Name, err)
		}
		return fresh, nil
	case err != nil:
		return nil, err
	}
	for _, o := range nn.OwnerReferences {
		if o.Kind == "Node" && o.UID == node.UID {
			return &nn, nil
		}
	}
	r.Log.Info("node network of a former node is removed", "node", node.Name)
	uid := nn.UID
	if err := r.Client.Delete(ctx, &nn, client.Preconditions{UID: &uid}); err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	return nil, apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("nodenetworks").GroupResource(), node.Name, errors.New("it belongs to a former node"))
}
