package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	clientgoapply "k8s.io/client-go/applyconfigurations"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/weft-cni/weft/api/crds"
	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/ec2"
	"github.com/weft-cni/weft/internal/ec2/ec2sim"
)

// errKilled is what a process sees of a call in which it was killed: nothing.
var errKilled = errors.New("killed")

// world is a cloud and an API server in which operators come and go.
type world struct {
	t      *testing.T
	sim    *ec2sim.Sim
	client client.WithWatch
	cfg    config.Config
	clock  time.Time
	events *events.FakeRecorder

	// The present operator.
	nodes   *Nodes
	garbage *Garbage
	around  *Surroundings
	taints  *Taints
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, sim: ec2sim.New(), cfg: config.Default(), clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.cfg.Cluster.Name = "demo"
	w.sim.Now = func() time.Time { return w.clock }
	w.sim.AttachDelay, w.sim.DetachDelay = 3*time.Second, 3*time.Second
	w.sim.AddVPC("vpc-1", "192.168.0.0/16", "100.64.0.0/16")
	w.sim.AddSubnet("vpc-1", "subnet-a", "192.168.0.0/24", "us-west-2a")
	w.sim.AddSubnet("vpc-1", "subnet-a2", "192.168.1.0/24", "us-west-2a")
	w.sim.AddSubnet("vpc-1", "subnet-apub", "192.168.2.0/23", "us-west-2a")
	w.sim.AddSubnet("vpc-1", "subnet-b", "192.168.4.0/24", "us-west-2b")
	w.sim.AddRouteTable("vpc-1", ec2.RouteTable{ID: "rtb-main", Main: true, Routes: []ec2.Route{{Destination: "0.0.0.0/0", Target: "nat-1", Active: true}}})
	w.sim.AddRouteTable("vpc-1", ec2.RouteTable{ID: "rtb-pub", Subnets: []string{"subnet-apub"}, Routes: []ec2.Route{{Destination: "0.0.0.0/0", Target: "igw-1", Active: true}}})

	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	w.client = fake.NewClientBuilder().WithScheme(scheme).
		WithTypeConverters(crdConverter(t), clientgoapply.NewTypeConverter(clientgoscheme.Scheme), managedfields.NewDeducedTypeConverter()).
		WithStatusSubresource(&v1alpha1.NodeNetwork{}, &v1alpha1.ClusterNetwork{}).
		WithIndex(&corev1.Pod{}, podNodeIndex, indexPod).WithReturnManagedFields().Build()
	w.restart()
	return w
}

// crdConverter merges applied objects by the schemas of the CRDs, as an API server does.
func crdConverter(t *testing.T) managedfields.TypeConverter {
	t.Helper()
	all, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	models := map[string]*spec.Schema{}
	for _, crd := range all {
		versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
		kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
		schema := versions[0].(map[string]any)["schema"].(map[string]any)["openAPIV3Schema"].(map[string]any)
		schema["x-kubernetes-group-version-kind"] = []any{map[string]any{"group": "weft.dev", "version": "v1alpha1", "kind": kind}}
		schema["properties"].(map[string]any)["metadata"] = map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true,
			"properties": map[string]any{"name": map[string]any{"type": "string"}}}
		b, err := json.Marshal(schema)
		if err != nil {
			t.Fatal(err)
		}
		var s spec.Schema
		if err := json.Unmarshal(b, &s); err != nil {
			t.Fatal(err)
		}
		models["dev.weft.v1alpha1."+kind] = &s
	}
	c, err := managedfields.NewTypeConverter(models, false)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// restart is another operator process: it knows nothing but what EC2 and the API server say.
func (w *world) restart() {
	w.t.Helper()
	now := func() time.Time { return w.clock }
	m, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		w.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	w.events = events.NewFakeRecorder(1000)
	inventory, facts := NewInventory(w.sim, "demo", now), NewFacts(w.sim, now)
	w.nodes = &Nodes{Client: w.client, EC2: w.sim, Inventory: inventory, Facts: facts, Config: w.cfg, Cluster: "demo",
		Neighbour: &Neighbour{Client: w.client, Log: log, Now: now}, Events: w.events, Metrics: m, Log: log, Now: now}
	w.garbage = &Garbage{Client: w.client, EC2: w.sim, Inventory: inventory, Cluster: "demo", Metrics: m, Log: log, Now: now, Interval: 5 * time.Minute, Grace: collectGrace}
	w.around = &Surroundings{Client: w.client, EC2: w.sim, Facts: facts, Cluster: "demo", Region: "us-west-2", Log: log, Now: now, Interval: time.Minute}
	w.taints = &Taints{Client: w.client, Key: w.cfg.AgentNotReadyTaintKey, Log: log}
}

func instance(n int) string { return fmt.Sprintf("i-%017x", n) }

// addNode starts instance n and its Node.
func (w *world) addNode(name string, n int, typ, subnet string) *corev1.Node {
	w.t.Helper()
	w.sim.Run(instance(n), typ, subnet, "sg-cluster", "sg-extra")
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(fmt.Sprintf("uid-%s-%d", name, n))},
		Spec:       corev1.NodeSpec{ProviderID: "aws:///us-west-2a/" + instance(n), Taints: []corev1.Taint{{Key: w.cfg.AgentNotReadyTaintKey, Effect: corev1.TaintEffectNoSchedule}}},
	}
	if err := w.client.Create(w.t.Context(), node); err != nil {
		w.t.Fatal(err)
	}
	return node
}

// addPods binds pods without addresses to a node.
func (w *world) addPods(node string, n int) {
	w.t.Helper()
	for i := range n {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("%s-%d-%d", node, w.clock.Unix(), i)}, Spec: corev1.PodSpec{NodeName: node}}
		if err := w.client.Create(w.t.Context(), p); err != nil {
			w.t.Fatal(err)
		}
	}
}

// once reconciles a node and reports how long until the next time.
func (w *world) once(name string) (time.Duration, error) {
	r, err := w.nodes.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
	return r.RequeueAfter, err
}

// settle reconciles a node until it has nothing more to do, letting time pass as asked.
func (w *world) settle(name string) {
	w.t.Helper()
	for range 200 {
		wait, err := w.once(name)
		if err != nil {
			w.t.Fatalf("reconcile %s: %v", name, err)
		}
		if wait == 0 || wait >= w.cfg.SyncInterval.Duration {
			return
		}
		w.clock = w.clock.Add(wait)
	}
	w.t.Fatalf("%s doesn't settle: %+v", name, w.network(name).Status.Conditions)
}

func (w *world) network(name string) *v1alpha1.NodeNetwork {
	w.t.Helper()
	var nn v1alpha1.NodeNetwork
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Name: name}, &nn); err != nil {
		w.t.Fatal(err)
	}
	return &nn
}

func (w *world) cluster() *v1alpha1.ClusterNetwork {
	w.t.Helper()
	var cn v1alpha1.ClusterNetwork
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Name: v1alpha1.ClusterNetworkName}, &cn); err != nil {
		w.t.Fatal(err)
	}
	return &cn
}

// agent reports a status, as the node's agent does.
func (w *world) agent(name string, change func(*v1alpha1.NodeNetworkStatus)) {
	w.t.Helper()
	nn := w.network(name)
	change(&nn.Status)
	if err := w.client.Status().Update(w.t.Context(), nn, client.FieldOwner("weft-agent")); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) condition(name string) metav1.Condition {
	w.t.Helper()
	c := meta.FindStatusCondition(w.network(name).Status.Conditions, v1alpha1.ConditionAddressesAssigned)
	if c == nil {
		w.t.Fatalf("%s has no condition %s", name, v1alpha1.ConditionAddressesAssigned)
	}
	return *c
}

func (w *world) addresses(name string) (n int) {
	w.t.Helper()
	for _, i := range w.network(name).Spec.Interfaces {
		n += len(i.Addresses)
	}
	return n
}

// check fails if the cloud is in a state that can't be.
func (w *world) check() {
	w.t.Helper()
	if err := w.sim.Check(); err != nil {
		w.t.Fatal(err)
	}
}

// ours are the ENIs that weft made.
func (w *world) ours() (out []ec2.Interface) {
	for _, e := range w.sim.Interfaces() {
		if e.Managed("demo") {
			out = append(out, e)
		}
	}
	return out
}

func (w *world) pass(ctx context.Context) int {
	w.t.Helper()
	left, err := w.garbage.Pass(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return left
}
