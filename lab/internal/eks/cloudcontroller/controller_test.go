package cloudcontroller

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	kubetesting "k8s.io/client-go/testing"
)

// simulated is a cloud with one instance.
type simulated struct {
	mu       sync.Mutex
	instance Instance
	err      error
}

func (s *simulated) Instance(_ context.Context, providerID, nodeName string) (Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return Instance{}, s.err
	}
	if providerID == s.instance.ProviderID || providerID == "" && nodeName == s.instance.PrivateDNS {
		return s.instance, nil
	}
	return Instance{}, ErrNoInstance
}

func (s *simulated) set(i Instance, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instance, s.err = i, err
}

// run starts a controller that ends with the test.
func run(t *testing.T, client *fake.Clientset, cloud Cloud) {
	t.Helper()
	c, err := New(Config{Client: client, Cloud: cloud, Resync: time.Second, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	g.Go(func() error { return c.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := g.Wait(); err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// eventually polls the node until a condition holds; the node is nil if there is none.
func eventually(t *testing.T, client *fake.Clientset, what string, holds func(*corev1.Node) bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(15 * time.Second)
	for {
		node, err := client.CoreV1().Nodes().Get(context.Background(), registered().Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			node, err = nil, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		if holds(node) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 15 s: %s; the node is %+v", what, node)
		}
	}
}

func initialized(n *corev1.Node) bool {
	return n != nil && len(n.Status.Addresses) == 5 && n.Labels["topology.kubernetes.io/zone"] == "us-west-2a" &&
		!slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == uninitialized }) && n.Spec.ProviderID == "aws:///us-west-2a/i-0a"
}

func TestNodeIsInitializedAndFollowsTheCloud(t *testing.T) {
	client, cloud := fake.NewClientset(registered()), &simulated{instance: running()}
	run(t, client, cloud)
	eventually(t, client, "initialized", initialized)
	cloud.set(with(func(i *Instance) { i.ExternalIP, i.PublicDNS = netip.Addr{}, "" }), nil)
	eventually(t, client, "public address gone", func(n *corev1.Node) bool { return len(n.Status.Addresses) == 3 })
}

func TestNodeWithoutProviderIDIsFoundByName(t *testing.T) {
	node := registered()
	node.Spec.ProviderID = ""
	client := fake.NewClientset(node)
	run(t, client, &simulated{instance: running()})
	eventually(t, client, "initialized", initialized)
}

func TestFailuresAreRetried(t *testing.T) {
	client, cloud := fake.NewClientset(registered()), &simulated{err: errors.New("throttled")}
	var mu sync.Mutex
	failures := map[string]int{"update": 3, "patch": 2}
	for verb := range failures {
		client.PrependReactor(verb, "nodes", func(kubetesting.Action) (bool, runtime.Object, error) {
			mu.Lock()
			defer mu.Unlock()
			if failures[verb] == 0 {
				return false, nil, nil
			}
			failures[verb]--
			return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "nodes"}, registered().Name, errors.New("modified"))
		})
	}
	run(t, client, cloud)
	cloud.set(running(), nil)
	eventually(t, client, "initialized", initialized)
	mu.Lock()
	defer mu.Unlock()
	if failures["update"]+failures["patch"] != 0 {
		t.Errorf("failures not met: %v", failures)
	}
}

func TestTerminatedInstance(t *testing.T) {
	client, cloud := fake.NewClientset(registered()), &simulated{instance: running()}
	run(t, client, cloud)
	eventually(t, client, "initialized", initialized)
	cloud.set(with(func(i *Instance) { i.State = Terminated }), nil)
	eventually(t, client, "deleted", func(n *corev1.Node) bool { return n == nil })
}

func TestUnknownInstance(t *testing.T) {
	gone := with(func(i *Instance) { i.ProviderID, i.PrivateDNS = "aws:///us-west-2a/i-other", "other" })
	condition := func(s corev1.ConditionStatus) *corev1.Node {
		n := registered()
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: s}}
		return n
	}
	nameless := condition(corev1.ConditionFalse)
	nameless.Spec.ProviderID = ""
	for name, tt := range map[string]struct {
		node    *corev1.Node
		cloud   *simulated
		deleted bool
	}{
		"its kubelet is heard":     {condition(corev1.ConditionTrue), &simulated{instance: gone}, false},
		"not heard":                {condition(corev1.ConditionUnknown), &simulated{instance: gone}, true},
		"never was the cloud's":    {nameless, &simulated{instance: gone}, false},
		"the cloud doesn't answer": {condition(corev1.ConditionUnknown), &simulated{err: errors.New("away")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			client := fake.NewClientset(tt.node)
			c, err := New(Config{Client: client, Cloud: tt.cloud, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.factory.Core().V1().Nodes().Informer().GetStore().Add(tt.node); err != nil {
				t.Fatal(err)
			}
			err = c.reconcile(context.Background(), tt.node.Name)
			if (err == nil) != tt.deleted {
				t.Errorf("reconcile: %v, expected an error: %t", err, !tt.deleted)
			}
			_, err = client.CoreV1().Nodes().Get(context.Background(), tt.node.Name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) != tt.deleted {
				t.Errorf("get: %v, expected deleted: %t", err, tt.deleted)
			}
		})
	}
}

func TestDeletionNamesTheNodeThatWasSeen(t *testing.T) {
	client := fake.NewClientset(registered())
	run(t, client, &simulated{instance: with(func(i *Instance) { i.State = Terminated })})
	eventually(t, client, "deleted", func(n *corev1.Node) bool { return n == nil })
	for _, a := range client.Actions() {
		if d, ok := a.(kubetesting.DeleteActionImpl); ok {
			if p := d.DeleteOptions.Preconditions; p == nil || p.UID == nil || *p.UID != "1" {
				t.Errorf("deleted with %+v, expected the node's own uid as precondition", d.DeleteOptions)
			}
		}
	}
}
