package operator

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The AWS VPC CNI's DaemonSet.
const (
	vpcCNINamespace = metav1.NamespaceSystem
	vpcCNIName      = "aws-node"
	// neighbourAge is how old the knowledge of it may be.
	neighbourAge = 15 * time.Second
)

// Neighbour knows where the AWS VPC CNI runs beside weft.
type Neighbour struct {
	// Client reads the API server itself: one object isn't worth a cache.
	Client client.Reader
	Log    *slog.Logger
	Now    func() time.Time

	mu     sync.Mutex
	readAt time.Time
	// set is nil if there is none; denied if that may not be read.
	set    *appsv1.DaemonSet
	denied bool
}

// On says what may hold addresses of a node's primary ENI beside weft.
func (n *Neighbour) On(ctx context.Context, node *corev1.Node, pods []podRef) (others, error) {
	set, denied, err := n.read(ctx)
	if err != nil {
		return others{}, err
	}
	o := others{pods: map[netip.Addr]bool{}}
	running := false
	for _, p := range pods {
		if a, err := netip.ParseAddr(p.address); err == nil {
			o.pods[a.Unmap()] = true
		}
		running = running || strings.HasPrefix(p.name, vpcCNINamespace+"/"+vpcCNIName+"-")
	}
	switch {
	case running, set != nil && selects(set.Spec.Template.Spec, node):
		o.cni = active
	case set != nil, denied:
		o.cni = gated
	}
	return o, nil
}

func (n *Neighbour) read(ctx context.Context) (*appsv1.DaemonSet, bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.Now()
	if !n.readAt.IsZero() && now.Sub(n.readAt) < neighbourAge {
		return n.set, n.denied, nil
	}
	var set appsv1.DaemonSet
	err := n.Client.Get(ctx, client.ObjectKey{Namespace: vpcCNINamespace, Name: vpcCNIName}, &set)
	switch {
	case err == nil:
		n.set, n.denied = &set, false
	case apierrors.IsNotFound(err):
		n.set, n.denied = nil, false
	case apierrors.IsForbidden(err):
		if !n.denied {
			n.Log.Warn("the AWS VPC CNI's DaemonSet may not be read: addresses that weft didn't assign aren't used", "error", err)
		}
		n.set, n.denied = nil, true
	case !n.readAt.IsZero():
		// What was known will do until the API server answers.
		return n.set, n.denied, nil
	default:
		return nil, false, fmt.Errorf("daemonset %s/%s: %w", vpcCNINamespace, vpcCNIName, err)
	}
	n.readAt = now
	return n.set, n.denied, nil
}

// selects: pods of the spec may be scheduled to the node, as far as its labels decide.
func selects(s corev1.PodSpec, node *corev1.Node) bool {
	if !labels.SelectorFromSet(s.NodeSelector).Matches(labels.Set(node.Labels)) {
		return false
	}
	if s.Affinity == nil || s.Affinity.NodeAffinity == nil || s.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	for _, term := range s.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		if meets(term.MatchExpressions, node) {
			return true
		}
	}
	return false
}

// meets: the node meets all expressions. One that isn't understood counts as met: to keep away is safe.
func meets(expressions []corev1.NodeSelectorRequirement, node *corev1.Node) bool {
	operators := map[corev1.NodeSelectorOperator]selection.Operator{
		corev1.NodeSelectorOpIn: selection.In, corev1.NodeSelectorOpNotIn: selection.NotIn, corev1.NodeSelectorOpExists: selection.Exists,
		corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist, corev1.NodeSelectorOpGt: selection.GreaterThan, corev1.NodeSelectorOpLt: selection.LessThan,
	}
	for _, e := range expressions {
		op, ok := operators[e.Operator]
		if !ok {
			continue
		}
		r, err := labels.NewRequirement(e.Key, op, e.Values)
		if err == nil && !r.Matches(labels.Set(node.Labels)) {
			return false
		}
	}
	return true
}
