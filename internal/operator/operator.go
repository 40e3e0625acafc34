// Package operator owns what a cluster shares: ENIs and addresses in EC2, facts of the VPC, the start-up
// taint, leaked ENIs, and weft's resource definitions.
package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/ec2"
	"github.com/weft-cni/weft/internal/listener"
)

// LeaseName of the leader election.
const LeaseName = "weft-operator"

// Options of Run.
type Options struct {
	Config config.Config
	REST   *rest.Config
	// Region; empty is looked for.
	Region      string
	HealthAddr  string
	MetricsAddr string
	// LeaseNamespace holds the lease.
	LeaseNamespace string
	// Pod that the operator runs in; empty: no pod.
	Pod string
	// EC2 is what is asked of the cloud; nil: AWS's, by the SDK's standard environment.
	EC2 func(m *Metrics) ec2.API
	Log *slog.Logger
}

// Run is the life of the operator, from top to bottom.
func Run(ctx context.Context, o Options) error {
	h := &health{}
	h.waits("its start")
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return listener.HTTPAt(ctx, o.HealthAddr, h.handler()) })
	g.Go(func() error {
		err := o.run(ctx, h)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("the manager ended")
		}
		return err
	})
	return g.Wait()
}

func (o Options) run(ctx context.Context, h *health) error {
	scheme, err := NewScheme()
	if err != nil {
		return err
	}
	direct, err := client.New(o.REST, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("API server: %w", err)
	}
	h.waits("its resource definitions")
	if err := installCRDs(ctx, direct, o.Log); err != nil {
		return err
	}
	h.waits("the AWS region")
	region, err := findRegion(ctx, direct, o.Region, o.Log)
	if err != nil {
		return err
	}
	h.waits("the caches")
	mgr, err := newManager(o, scheme)
	if err != nil {
		return err
	}
	m, err := NewMetrics(metrics.Registry)
	if err != nil {
		return err
	}
	api, err := o.cloud(ctx, region, m)
	if err != nil {
		return fmt.Errorf("AWS SDK: %w", err)
	}
	cluster, err := clusterName(ctx, direct, o.Config.Cluster.Name)
	if err != nil {
		return err
	}
	if err := addControllers(mgr, o, api, cluster, region, m); err != nil {
		return err
	}
	// Runs on every replica: ready means ready to lead.
	if err := mgr.Add(everywhere(func(ctx context.Context) error {
		if mgr.GetCache().WaitForCacheSync(ctx) {
			h.ready()
			o.Log.Info("operator is ready", "region", region, "cluster", cluster)
		}
		<-ctx.Done()
		return nil
	})); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

func (o Options) cloud(ctx context.Context, region string, m *Metrics) (ec2.API, error) {
	if o.EC2 != nil {
		return o.EC2(m), nil
	}
	return ec2.New(ctx, ec2.Options{Region: region, Observer: m})
}

// everywhere is a runnable for replicas that don't lead too.
type everywhere func(context.Context) error

func (f everywhere) Start(ctx context.Context) error { return f(ctx) }
func (everywhere) NeedLeaderElection() bool          { return false }

// NewScheme knows every kind that the operator handles.
func NewScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	return s, v1alpha1.AddToScheme(s)
}

func newManager(o Options, scheme *runtime.Scheme) (manager.Manager, error) {
	lease, renew, retry := 15*time.Second, 10*time.Second, 2*time.Second
	lock, err := leaseLock(o, renew)
	if err != nil {
		return nil, fmt.Errorf("lease %s: %w", LeaseName, err)
	}
	return ctrl.NewManager(o.REST, ctrl.Options{
		LeaderElectionResourceLockInterface: lock,
		Scheme:                              scheme, Logger: logr.FromSlogHandler(o.Log.Handler()),
		LeaderElection: true, LeaderElectionID: LeaseName, LeaderElectionNamespace: o.LeaseNamespace,
		LeaderElectionReleaseOnCancel: true, LeaseDuration: &lease, RenewDeadline: &renew, RetryPeriod: &retry,
		Metrics:                metricsserver.Options{BindAddress: o.MetricsAddr},
		HealthProbeBindAddress: "0", // ours answers from the start on
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}: {
				Field: fields.AndSelectors(
					fields.OneTermNotEqualSelector("spec.nodeName", ""),
					fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
					fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
				),
				Transform: trimPod,
			},
			&corev1.Node{}: {Transform: cache.TransformStripManagedFields()},
		}},
	})
}

func addControllers(mgr manager.Manager, o Options, api ec2.API, cluster, region string, m *Metrics) error {
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &corev1.Pod{}, podNodeIndex, indexPod); err != nil {
		return err
	}
	c, now := mgr.GetClient(), time.Now
	inventory, facts := NewInventory(api, cluster, now), NewFacts(api, now)
	resynced := make(chan event.GenericEvent)
	nodes := &Nodes{
		Client: c, EC2: api, Inventory: inventory, Facts: facts, Config: o.Config, Cluster: cluster,
		Neighbour: &Neighbour{Client: mgr.GetAPIReader(), Log: o.Log, Now: now},
		Events:    mgr.GetEventRecorder("weft-operator"), Metrics: m, Log: o.Log, Now: now,
	}
	if err := watchNodes(mgr, nodes, resynced); err != nil {
		return err
	}
	if o.Config.RemoveTaints {
		if err := watchTaints(mgr, &Taints{Client: c, Key: o.Config.AgentNotReadyTaintKey, Log: o.Log}); err != nil {
			return err
		}
	}
	runnables := []manager.Runnable{
		&Resync{Client: c, Inventory: inventory, Interval: o.Config.SyncInterval.Duration, Log: o.Log, Nodes: resynced},
		&Surroundings{Client: c, EC2: api, Facts: facts, Cluster: cluster, Region: region, Log: o.Log, Now: now, Interval: o.Config.SyncInterval.Duration},
	}
	if interval := o.Config.ENI.GCInterval.Duration; interval > 0 {
		runnables = append(runnables, &Garbage{
			Client: c, EC2: api, Inventory: inventory, Cluster: cluster, Metrics: m, Log: o.Log, Now: now, Interval: interval, Grace: collectGrace,
		})
	}
	for _, r := range runnables {
		if err := mgr.Add(r); err != nil {
			return err
		}
	}
	return nil
}

// findRegion looks until it finds the region: the first node may be yet to come.
func findRegion(ctx context.Context, c client.Reader, given string, log *slog.Logger) (string, error) {
	label := func(ctx context.Context) (string, error) {
		var list corev1.NodeList
		if err := c.List(ctx, &list, client.HasLabels{corev1.LabelTopologyRegion}, client.Limit(1)); err != nil || len(list.Items) == 0 {
			return "", err
		}
		return list.Items[0].Labels[corev1.LabelTopologyRegion], nil
	}
	for {
		region, source, err := ec2.Region(ctx, given, label)
		if err == nil {
			log.Info("AWS region", "region", region, "from", source)
			return region, nil
		}
		log.Warn("the AWS region isn't known", "error", err)
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(5 * time.Second):
		}
	}
}

// clusterName is that under which weft was installed: ENIs are tagged with it.
func clusterName(ctx context.Context, c client.Reader, configured string) (string, error) {
	var cn v1alpha1.ClusterNetwork
	err := c.Get(ctx, client.ObjectKey{Name: v1alpha1.ClusterNetworkName}, &cn)
	if client.IgnoreNotFound(err) != nil && !meta.IsNoMatchError(err) {
		return "", fmt.Errorf("ClusterNetwork: %w", err)
	}
	if err == nil && cn.Spec.ClusterName != "" {
		return cn.Spec.ClusterName, nil
	}
	return configured, nil
}
