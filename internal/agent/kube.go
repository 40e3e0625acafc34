package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/api/v1alpha1"
)

// fieldManager owns the agent's part of a NodeNetwork's status.
const fieldManager = "weft-agent"

// Kubernetes is the Cluster of a real agent: it sees its own NodeNetwork and the ClusterNetwork only.
type Kubernetes struct {
	node    string
	scheme  *runtime.Scheme
	config  *rest.Config
	client  client.Client
	core    typedcorev1.CoreV1Interface
	events  record.EventRecorder
	stopped func()
}

// NewKubernetes returns the API as the node's agent sees it.
func NewKubernetes(c *rest.Config, node string) (*Kubernetes, error) {
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil {
		return nil, err
	}
	if err := corev1.AddToScheme(s); err != nil {
		return nil, err
	}
	cl, err := client.New(c, client.Options{Scheme: s})
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	core, err := typedcorev1.NewForConfig(c)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	b := record.NewBroadcaster()
	b.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: core.Events("")})
	return &Kubernetes{
		node: node, scheme: s, config: c, client: cl, core: core, stopped: b.Shutdown,
		events: b.NewRecorder(s, corev1.EventSource{Component: fieldManager, Host: node}),
	}, nil
}

// Close ends the recording of events.
func (k *Kubernetes) Close() { k.stopped() }

// Warn records an event on the node's NodeNetwork.
func (k *Kubernetes) Warn(reason, message string) {
	k.events.Event(&corev1.ObjectReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "NodeNetwork", Name: k.node,
	}, corev1.EventTypeWarning, reason, message)
}

// WarnAbout implements Cluster. The event's name follows from what it says, so that all nodes that say it make one.
func (k *Kubernetes) WarnAbout(ctx context.Context, object corev1.ObjectReference, reason, message string) error {
	const most = 1024
	if len(message) > most {
		message = message[:most-3] + "…"
	}
	sum := sha256.Sum256([]byte(object.Kind + "/" + object.Name + "/" + string(object.UID) + "/" + reason + "/" + message))
	now := metav1.Now()
	namespace := cmp.Or(object.Namespace, metav1.NamespaceDefault)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := k.core.Events(namespace).Create(ctx, &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("weft.%x", sum[:16])}, InvolvedObject: object,
		Reason: reason, Message: message, Type: corev1.EventTypeWarning, FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source: corev1.EventSource{Component: fieldManager, Host: k.node},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// Watch implements Cluster by two informers. They can't be made before the API server knows the kinds.
func (k *Kubernetes) Watch(ctx context.Context, changed func(*v1alpha1.NodeNetwork, *v1alpha1.ClusterNetwork), waits func(string)) error {
	if err := k.waitForKinds(ctx, waits); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	waits("")
	only := func(name string) cache.ByObject {
		return cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", name), Transform: cache.TransformStripManagedFields()}
	}
	c, err := cache.New(k.config, cache.Options{Scheme: k.scheme, ByObject: map[client.Object]cache.ByObject{
		&v1alpha1.NodeNetwork{}:    only(k.node),
		&v1alpha1.ClusterNetwork{}: only(v1alpha1.ClusterNetworkName),
	}})
	if err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	w := &watcher{changed: changed}
	for _, o := range []client.Object{&v1alpha1.NodeNetwork{}, &v1alpha1.ClusterNetwork{}} {
		// Without waiting for the first list: the API server may go away at any time.
		inf, err := c.GetInformer(ctx, o, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("kubernetes: watch %T: %w", o, err)
		}
		if _, err := inf.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { w.put(o, false) },
			UpdateFunc: func(_, o any) { w.put(o, false) },
			DeleteFunc: func(o any) { w.put(o, true) },
		}); err != nil {
			return fmt.Errorf("kubernetes: watch %T: %w", o, err)
		}
	}
	if err := c.Start(ctx); err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	return nil
}

// watcher joins the two informers' words.
type watcher struct {
	mu      sync.Mutex
	nn      *v1alpha1.NodeNetwork
	cn      *v1alpha1.ClusterNetwork
	changed func(*v1alpha1.NodeNetwork, *v1alpha1.ClusterNetwork)
}

// lastKnown is the object of an informer's word; of one whose deletion was missed, what was known of it.
func lastKnown(o any) any {
	if missed, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		return missed.Obj
	}
	return o
}

func (w *watcher) put(o any, gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch v := lastKnown(o).(type) {
	case *v1alpha1.NodeNetwork:
		if w.nn = v; gone {
			w.nn = nil
		}
	case *v1alpha1.ClusterNetwork:
		if w.cn = v; gone {
			w.cn = nil
		}
	}
	w.changed(w.nn, w.cn)
}

// ApplyStatus implements Cluster by server-side apply: conditions of the operator are not ours to touch.
func (k *Kubernetes) ApplyStatus(ctx context.Context, status v1alpha1.NodeNetworkStatus) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "NodeNetwork",
		"metadata": map[string]any{"name": k.node}, "status": status,
	})
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	obj := &v1alpha1.NodeNetwork{ObjectMeta: metav1.ObjectMeta{Name: k.node}}
	err = k.client.Status().Patch(ctx, obj, client.RawPatch(types.ApplyPatchType, body), client.ForceOwnership, client.FieldOwner(fieldManager))
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("status of nodenetwork %s: %w", k.node, err)
	}
	return nil
}
