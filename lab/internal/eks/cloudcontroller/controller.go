package cloudcontroller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// ErrNoInstance is what a Cloud says when it knows no such instance.
var ErrNoInstance = errors.New("no such instance")

// Cloud tells of instances.
type Cloud interface {
	// Instance finds a node's instance by its provider id, aws:///ZONE/ID, or, where that is empty, by its
	// name, which on EKS is the instance's private DNS name. The error is ErrNoInstance if there is none.
	Instance(ctx context.Context, providerID, nodeName string) (Instance, error)
}

// Config is what a controller needs of its surroundings.
type Config struct {
	Client kubernetes.Interface
	Cloud  Cloud
	// Resync is how often every node is compared with the cloud, which sends no news: 5 s if zero.
	Resync time.Duration
	Log    *slog.Logger
}

// Controller keeps Node objects as the cloud says.
type Controller struct {
	cfg     Config
	factory informers.SharedInformerFactory
	nodes   listers.NodeLister
	queue   workqueue.TypedRateLimitingInterface[string]
}

// workers is how many nodes are worked on at once.
const workers = 4

// New makes a controller that isn't running yet.
func New(cfg Config) (*Controller, error) {
	if cfg.Client == nil || cfg.Cloud == nil || cfg.Log == nil {
		return nil, errors.New("cloud controller: Client, Cloud and Log must be set")
	}
	if cfg.Resync == 0 {
		cfg.Resync = 5 * time.Second
	}
	c := &Controller{
		cfg:     cfg,
		factory: informers.NewSharedInformerFactory(cfg.Client, cfg.Resync),
		// Not the usual 5 ms to 1000 s: a node without addresses holds up a whole cluster.
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](10*time.Millisecond, 5*time.Second)),
	}
	nodes := c.factory.Core().V1().Nodes()
	c.nodes = nodes.Lister()
	_, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    c.enqueue,
		UpdateFunc: func(_, now any) { c.enqueue(now) }, // a resync is an update to the same
	})
	if err != nil {
		return nil, fmt.Errorf("cloud controller: watch nodes: %w", err)
	}
	return c, nil
}

func (c *Controller) enqueue(object any) {
	if node, ok := object.(*corev1.Node); ok {
		c.queue.Add(node.Name)
	}
}

// Run works until the context ends.
func (c *Controller) Run(ctx context.Context) error {
	c.factory.Start(ctx.Done())
	defer c.factory.Shutdown()
	for kind, ok := range c.factory.WaitForCacheSync(ctx.Done()) {
		if !ok && ctx.Err() == nil {
			return fmt.Errorf("cloud controller: no list of %v", kind)
		}
	}
	var g errgroup.Group
	g.Go(func() error {
		<-ctx.Done()
		c.queue.ShutDown()
		return nil
	})
	for range workers {
		g.Go(func() error {
			for {
				name, stop := c.queue.Get()
				if stop {
					return nil
				}
				c.work(ctx, name)
			}
		})
	}
	return g.Wait()
}

func (c *Controller) work(ctx context.Context, name string) {
	defer c.queue.Done(name)
	err := c.reconcile(ctx, name)
	if err == nil {
		c.queue.Forget(name)
		return
	}
	if ctx.Err() != nil {
		return
	}
	c.cfg.Log.Info("node not in step with the cloud, will retry", "node", name, "error", err)
	c.queue.AddRateLimited(name)
}

func (c *Controller) reconcile(ctx context.Context, name string) error {
	node, err := c.nodes.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("node %s: %w", name, err)
	}
	instance, err := c.cfg.Cloud.Instance(ctx, node.Spec.ProviderID, name)
	switch {
	case errors.Is(err, ErrNoInstance):
		// A kubelet that is heard runs somewhere: then it is the cloud that has forgotten, not the node that is
		// gone. And a node that was never known isn't ours to delete.
		if ready(node) || node.Spec.ProviderID == "" {
			return fmt.Errorf("node %s with provider id %q: %w", name, node.Spec.ProviderID, err)
		}
		return c.remove(ctx, node, "unknown to the cloud")
	case err != nil:
		return fmt.Errorf("node %s: ask for its instance: %w", name, err)
	case instance.State == Terminated:
		return c.remove(ctx, node, "terminated")
	}
	want, status, rest := desired(node, instance)
	if status {
		if err := c.setAddresses(ctx, want); err != nil {
			return err
		}
	}
	if rest {
		if err := c.setRest(ctx, want, instance); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) remove(ctx context.Context, node *corev1.Node, why string) error {
	// Not another node of the same name, registered since.
	only := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &node.UID}}
	err := c.cfg.Client.CoreV1().Nodes().Delete(ctx, node.Name, only)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("node %s: delete: %w", node.Name, err)
	}
	c.cfg.Log.Info("node deleted", "node", node.Name, "providerID", node.Spec.ProviderID, "instance", why)
	return nil
}

// setAddresses replaces the whole list: a merge would keep addresses that the instance has no more.
func (c *Controller) setAddresses(ctx context.Context, node *corev1.Node) error {
	list := []any{map[string]string{"$patch": "replace"}}
	for _, a := range node.Status.Addresses {
		list = append(list, a)
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"addresses": list}})
	if err != nil {
		return fmt.Errorf("node %s: %w", node.Name, err)
	}
	_, err = c.cfg.Client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("node %s: set addresses: %w", node.Name, err)
	}
	c.cfg.Log.Info("node addresses set", "node", node.Name, "addresses", len(node.Status.Addresses))
	return nil
}

// setRest sets labels, provider id and taints in one update, so that nobody schedules to a node without its
// zone. It starts from the node as it is now: setting the addresses has changed its version, and an update from
// the informer's copy would always conflict.
func (c *Controller) setRest(ctx context.Context, was *corev1.Node, instance Instance) error {
	node, err := c.cfg.Client.CoreV1().Nodes().Get(ctx, was.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("node %s: %w", was.Name, err)
	}
	if node.UID != was.UID {
		return fmt.Errorf("node %s was registered anew", was.Name)
	}
	want, _, rest := desired(node, instance)
	if !rest {
		return nil
	}
	if _, err := c.cfg.Client.CoreV1().Nodes().Update(ctx, want, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("node %s: set labels, provider id and taints: %w", node.Name, err)
	}
	c.cfg.Log.Info("node initialized", "node", node.Name, "zone", instance.Zone, "type", instance.Type)
	return nil
}
