// Package cluster is one EKS cluster of the lab while it runs: it brings the cloud, the network, the control
// plane and the nodes up in their order, and adds, removes and reboots nodes afterwards.
package cluster

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/weft-cni/weft/lab/internal/assets"
	"github.com/weft-cni/weft/lab/internal/aws"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/cgroup"
	"github.com/weft-cni/weft/lab/internal/clusterconfig"
	"github.com/weft-cni/weft/lab/internal/controlplane"
	"github.com/weft-cni/weft/lab/internal/eks/egress"
	"github.com/weft-cni/weft/lab/internal/eks/registry"
	"github.com/weft-cni/weft/lab/internal/fabric"
	"github.com/weft-cni/weft/lab/internal/labstate"
	"github.com/weft-cni/weft/lab/internal/pki"
	"github.com/weft-cni/weft/lab/internal/process"
)

// Networks of a node's pods without weft.
const (
	CNINone = "none"
	CNIPTP  = "ptp"
)

// Options are what a cluster is made of.
type Options struct {
	Lab    labstate.Lab
	Config clusterconfig.Config
	// Assets is the folder of built programs.
	Assets string
	// CNI is none, as weft needs it, or ptp.
	CNI string
	// WithoutKubeProxy leaves that add-on out.
	WithoutKubeProxy bool
	// Progress is told each stage that is done. It is called from one goroutine at a time.
	Progress func(stage string)
	Log      *slog.Logger
}

// Cluster is a cluster that comes up or is up.
type Cluster struct {
	opts Options
	lab  labstate.Lab
	log  *slog.Logger

	cloud    *cloud.Cloud
	fabric   *fabric.Fabric
	registry *registry.Registry
	aws      *aws.Emulator
	plane    *controlplane.ControlPlane
	client   kubernetes.Interface
	awsCA    *pki.Authority
	bundle   []byte
	eks      cloud.Cluster

	tasks *errgroup.Group
	life  context.Context

	mu       sync.Mutex
	record   labstate.Record
	problems map[string]string
	abort    context.CancelCauseFunc
	// nodes orders what is done to one instance.
	nodes map[string]*sync.Mutex
}

// New makes a cluster of which nothing runs. What it starts later ends with ctx.
func New(ctx context.Context, opts Options) *Cluster {
	tasks, life := errgroup.WithContext(ctx)
	return &Cluster{
		opts: opts, lab: opts.Lab, log: opts.Log, tasks: tasks, life: life,
		record: labstate.Record{
			Lab: opts.Lab.Name, Phase: labstate.Creating, Created: time.Now().UTC(), Cluster: opts.Config.Name, Region: opts.Config.Region,
			Version: assets.KubernetesVersion, Assets: opts.Assets, DaemonPID: os.Getpid(),
		},
		problems: map[string]string{},
		nodes:    map[string]*sync.Mutex{},
	}
}

// Wait returns when everything that the cluster started has ended, which is after its context has.
func (c *Cluster) Wait() error { return c.tasks.Wait() }

// background runs a part of the lab until the cluster's life ends. One that fails is a problem that status
// shows; while the cluster comes up it ends the bring-up.
func (c *Cluster) background(name string, run func(ctx context.Context) error) {
	c.tasks.Go(func() error {
		err := run(c.life)
		if c.life.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		err = fmt.Errorf("%s: %w", name, err)
		c.log.Error("a part of the lab failed", "part", name, "err", err)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.problems[name] = err.Error()
		if c.abort != nil {
			c.abort(err)
		}
		return nil
	})
}

// Up brings the cluster up.
func (c *Cluster) Up(ctx context.Context) error {
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	c.mu.Lock()
	c.abort = abort
	c.mu.Unlock()
	err := c.up(ctx)
	if err != nil && context.Cause(ctx) != nil && !errors.Is(err, context.Cause(ctx)) {
		err = context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abort = nil
	c.record.Phase = labstate.Ready
	if err != nil {
		c.record.Phase, c.record.Problem = labstate.Failed, err.Error()
	}
	return errors.Join(err, c.lab.Save(c.record))
}

func (c *Cluster) up(ctx context.Context) error {
	if err := c.save(func(*labstate.Record) {}); err != nil {
		return err
	}
	if err := c.foundation(ctx); err != nil {
		return err
	}
	c.done(fmt.Sprintf("VPC %s in %s: router, internet, resolver, registry, AWS", c.opts.Config.VPC, c.opts.Config.Region))
	if err := c.startPlane(ctx); err != nil {
		return err
	}
	if err := c.workstation(); err != nil {
		return err
	}
	// Kubelets wait for the API server by themselves, so nodes boot while it does.
	work, wctx := errgroup.WithContext(ctx)
	work.Go(func() error { return c.images(wctx) })
	work.Go(func() error { return c.firstNodes(wctx) })
	work.Go(func() error {
		if err := c.plane.WaitReady(wctx); err != nil {
			return err
		}
		c.done(fmt.Sprintf("control plane: Kubernetes %s at %s", assets.KubernetesVersion, c.eks.Endpoint))
		return c.machinery(wctx)
	})
	if err := work.Wait(); err != nil {
		return err
	}
	if err := c.waitNodes(ctx); err != nil {
		return err
	}
	return c.waitAddons(ctx)
}

func (c *Cluster) done(stage string) {
	c.log.Info("stage done", "stage", stage)
	c.opts.Progress(stage)
}

// save changes the record and writes it.
func (c *Cluster) save(change func(*labstate.Record)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.record)
	return c.lab.Save(c.record)
}

// Record returns what is written down of the cluster.
func (c *Cluster) Record() labstate.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.record
	r.Nodes = slices.Clone(r.Nodes)
	return r
}

// foundation makes the account, the VPC and what everything else finds there.
func (c *Cluster) foundation(ctx context.Context) error {
	cfg := c.opts.Config
	for _, d := range []string{c.lab.LogDir(), c.lab.BinDir(), c.lab.RunDir()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("lab %s: %w", c.lab.Name, err)
		}
	}
	c.fabric = fabric.New(c.lab.Prefix(), c.log)
	c.cloud = cloud.New(cloud.Config{
		Lab: c.lab.Prefix(), Region: cfg.Region, VPC: cfg.VPC, Latency: cloud.DefaultLatency(),
		Wire: c.fabric, Machines: machines{c}, Log: c.log,
	})
	var err error
	if c.eks, err = c.cloud.CreateCluster(ctx, cloud.ClusterSpec{
		Name: cfg.Name, Version: minor(assets.KubernetesVersion), ServiceCIDR: cfg.ServiceCIDR, WithOIDC: cfg.WithOIDC, Tags: cfg.Tags,
	}); err != nil {
		return err
	}
	c.background("cloud", c.cloud.Run)
	admin, err := c.cloud.CreateUser(ctx, "admin", cloud.AdministratorAccess)
	if err != nil {
		return fmt.Errorf("account: %w", err)
	}
	if err := c.trust(); err != nil {
		return err
	}
	if err := c.save(func(r *labstate.Record) {
		r.ClusterID = c.eks.ID
		r.Admin = labstate.Credentials{AccessKeyID: admin.AccessKeyID, SecretAccessKey: admin.SecretAccessKey}
	}); err != nil {
		return err
	}
	return c.serve()
}

// trust makes the authority that signs for AWS' names and the bundle that nodes and the workstation have.
func (c *Cluster) trust() error {
	var err error
	if c.awsCA, err = pki.NewAuthority("weft lab"); err != nil {
		return err
	}
	machine, err := machineBundle()
	if err != nil {
		return fmt.Errorf("lab %s: %w", c.lab.Name, err)
	}
	c.bundle = slices.Concat(machine, []byte("\n"), c.awsCA.PEM)
	if err := labstate.WriteFile(c.lab.CABundle(), c.bundle, 0o644); err != nil {
		return err
	}
	return labstate.WriteFile(c.lab.ResolvConf(), fmt.Appendf(nil, "nameserver %s\n", awsAddress), 0o644)
}

// machineBundle is the machine's trust; one without any is no fault, the lab's authority suffices in the lab.
func machineBundle() ([]byte, error) {
	b, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(b) {
		return nil, errors.New("/etc/ssl/certs/ca-certificates.crt holds no certificate")
	}
	return b, nil
}

func (c *Cluster) startPlane(ctx context.Context) error {
	addresses := c.cloud.ControlPlane(c.eks.Name)
	if len(addresses.Endpoints) == 0 {
		return fmt.Errorf("cluster %s: its control plane has no interface in the VPC", c.eks.Name)
	}
	socket := c.lab.RunDir() + "/egress.sock"
	proxy, err := egress.New(egress.Config{Socket: socket, Routes: c.cloud.Assigned, Dial: c.dialFromVPC, Log: c.log})
	if err != nil {
		return err
	}
	c.background("egress proxy", proxy.Run)
	if c.plane, err = controlplane.New(controlplane.Config{
		Lab: c.lab, Assets: c.opts.Assets, Namespace: c.lab.Netns("cp"), Addresses: addresses.Endpoints,
		EndpointHost: c.endpointHost(), Issuer: c.eks.Issuer, ServiceCIDR: c.eks.ServiceCIDR,
		Shut:         []netip.Prefix{c.opts.Config.VPC, c.eks.ServiceCIDR, netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("100.64.0.0/10")},
		EgressSocket: socket,
	}); err != nil {
		return err
	}
	c.background("control plane", c.plane.Run)
	if c.client, err = kubernetes.NewForConfig(c.plane.RESTConfig()); err != nil {
		return fmt.Errorf("control plane: client: %w", err)
	}
	return c.relay(ctx)
}

func minor(version string) string {
	v := strings.TrimPrefix(version, "v")
	parts := strings.SplitN(v, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// Status is how everything is.
type Status struct {
	Record labstate.Record `json:"lab"`
	// Components are those of the control plane.
	Components []process.State   `json:"components,omitempty"`
	Nodes      []NodeStatus      `json:"nodes,omitempty"`
	Problems   map[string]string `json:"problems,omitempty"`
}

// Status asks every part.
func (c *Cluster) Status(ctx context.Context) Status {
	s := Status{Record: c.Record(), Problems: map[string]string{}}
	c.mu.Lock()
	for k, v := range c.problems {
		s.Problems[k] = v
	}
	plane := c.plane
	c.mu.Unlock()
	if plane != nil {
		s.Components = plane.States()
		s.Nodes = c.nodeStatus(ctx, s.Record.Nodes)
	}
	return s
}

// Down kills everything of the lab that runs and removes everything that it has, found by name alone: it
// needs no record, so it also works after a crash at any point.
func Down(ctx context.Context, lab labstate.Lab) error {
	// The daemon first, and until it is dead: it starts again what it sees end.
	errs := []error{removeGroups(ctx, lab.Cgroup("daemon"))}
	errs = append(errs, removeGroups(ctx, lab.Prefix()+"-"))
	errs = append(errs, fabric.Remove(ctx, lab.Prefix()))
	for _, dir := range []string{lab.EtcdDir(), lab.RunDir(), lab.Dir()} {
		errs = append(errs, os.RemoveAll(dir))
	}
	// Shared with other labs: they go with the last one.
	for _, dir := range []string{lab.RunRoot, lab.Root} {
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) && !isNotEmpty(err) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("lab %s: delete: %w", lab.Name, err)
	}
	return nil
}

func removeGroups(ctx context.Context, prefix string) error {
	groups, err := cgroup.List(prefix)
	if err != nil {
		return err
	}
	work, wctx := errgroup.WithContext(ctx)
	for _, g := range groups {
		work.Go(func() error { return g.Remove(wctx) })
	}
	return work.Wait()
}
