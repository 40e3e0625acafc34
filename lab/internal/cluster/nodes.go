package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/clusterconfig"
	"github.com/weft-cni/weft/lab/internal/eks/images"
	"github.com/weft-cni/weft/lab/internal/fabric"
	"github.com/weft-cni/weft/lab/internal/labstate"
	"github.com/weft-cni/weft/lab/internal/netns"
	"github.com/weft-cni/weft/lab/internal/node"
	"github.com/weft-cni/weft/lab/internal/node/boot"
	"github.com/weft-cni/weft/lab/internal/pki"
)

// machines lets the cloud power instances off.
type machines struct{ c *Cluster }

// Stop ends what runs in an instance and erases its disk, which dies with it.
func (m machines) Stop(ctx context.Context, i cloud.Instance) error {
	c := m.c
	defer c.lock(i.ID)()
	if err := node.Stop(ctx, c.lab, i.ID); err != nil {
		return err
	}
	if err := node.Erase(c.lab, i.ID); err != nil {
		return err
	}
	return c.save(func(r *labstate.Record) {
		r.Nodes = slices.DeleteFunc(r.Nodes, func(n labstate.Node) bool { return n.InstanceID == i.ID })
	})
}

// lock orders what is done to one instance.
func (c *Cluster) lock(id string) (unlock func()) {
	c.mu.Lock()
	m := c.nodes[id]
	if m == nil {
		m = &sync.Mutex{}
		c.nodes[id] = m
	}
	c.mu.Unlock()
	m.Lock()
	return m.Unlock
}

// firstNodes makes the node groups and boots their instances.
func (c *Cluster) firstNodes(ctx context.Context) error {
	for _, g := range c.opts.Config.NodeGroups {
		spec := cloud.NodegroupSpec{
			Name: g.Name, InstanceType: g.InstanceType, Min: g.Min, Max: g.Max, Desired: g.Desired,
			Private: g.Private, Zones: g.Zones, Labels: g.Labels, Tags: g.Tags, Metadata: cloud.Metadata{HopLimit: g.HopLimit},
		}
		for _, t := range g.Taints {
			spec.Taints = append(spec.Taints, cloud.Taint{Key: t.Key, Value: t.Value, Effect: eksEffects[t.Effect]})
		}
		if _, err := c.cloud.CreateNodegroup(ctx, c.eks.Name, spec); err != nil {
			return err
		}
	}
	work, wctx := errgroup.WithContext(ctx)
	for _, g := range c.opts.Config.NodeGroups {
		for range g.Desired {
			// Instances one after the other: zones are balanced by what runs already.
			instance, err := c.cloud.RunInstance(ctx, c.eks.Name, g.Name)
			if err != nil {
				return errors.Join(err, work.Wait())
			}
			work.Go(func() error { return c.boot(wctx, g, instance) })
		}
	}
	if err := work.Wait(); err != nil {
		return err
	}
	c.done(fmt.Sprintf("%d instances booted", c.opts.Config.Nodes()))
	return nil
}

var eksEffects = map[string]string{"NoSchedule": "NO_SCHEDULE", "PreferNoSchedule": "PREFER_NO_SCHEDULE", "NoExecute": "NO_EXECUTE"}

// boot prepares an instance's disk and powers it on.
func (c *Cluster) boot(ctx context.Context, g clusterconfig.NodeGroup, n cloud.Node) error {
	defer c.lock(n.ID)()
	cfg, err := c.nodeConfig(ctx, g, n)
	if err != nil {
		return err
	}
	if err := node.Prepare(cfg); err != nil {
		return err
	}
	if err := c.save(func(r *labstate.Record) {
		entry := labstate.Node{Name: n.PrivateDNSName, InstanceID: n.ID, NodeGroup: g.Name, Type: n.Type, Zone: n.AZ, PrivateIP: n.PrivateIP.String()}
		if n.PublicIP.IsValid() {
			entry.PublicIP = n.PublicIP.String()
		}
		r.Nodes = append(r.Nodes, entry)
	}); err != nil {
		return err
	}
	return c.powerOn(ctx, n.ID)
}

func (c *Cluster) powerOn(ctx context.Context, id string) error {
	cmd, err := node.Start(ctx, c.lab, id, c.opts.Assets)
	if err != nil {
		return err
	}
	c.tasks.Go(func() error {
		err := cmd.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return err
		}
		c.log.Info("instance off", "instance", id, "how", cmd.ProcessState.String())
		return nil
	})
	return nil
}

func (c *Cluster) nodeConfig(ctx context.Context, g clusterconfig.NodeGroup, n cloud.Node) (node.Config, error) {
	ca := c.plane.Certificates().CA
	client, err := ca.Issue(pki.Subject{CommonName: "system:node:" + n.PrivateDNSName, Organizations: []string{"system:nodes"}})
	if err != nil {
		return node.Config{}, err
	}
	serving := pki.Subject{
		CommonName: "system:node:" + n.PrivateDNSName, Organizations: []string{"system:nodes"},
		DNSNames: []string{n.PrivateDNSName}, Addresses: []netip.Addr{n.PrivateIP},
	}
	if n.PublicIP.IsValid() {
		serving.Addresses = append(serving.Addresses, n.PublicIP)
	}
	served, err := ca.Issue(serving)
	if err != nil {
		return node.Config{}, err
	}
	resolver := fabric.VPCResolver(c.opts.Config.VPC)
	cfg := node.Config{
		Lab: c.lab, Assets: c.opts.Assets,
		InstanceID: n.ID, InstanceType: n.Type, NodeGroup: g.Name, Cluster: c.eks.Name, Region: n.Region, Zone: n.AZ,
		Name: n.PrivateDNSName, Address: n.PrivateIP, MaxPods: maxPods(g, n), Labels: g.Labels, Spot: g.Spot, Managed: g.Managed,
		Endpoint: c.eks.Endpoint, ClusterCA: ca.PEM, Client: client, Serving: served,
		Resolver: resolver, ClusterDNS: clusterDNS(c.eks.ServiceCIDR),
		Registry: fmt.Sprintf("http://%s:%d", resolver, registryPort),
		Sandbox:  images.RefsFor(n.Region).Pause, Bundle: c.bundle,
	}
	for _, t := range g.Taints {
		cfg.Taints = append(cfg.Taints, node.Taint{Key: t.Key, Value: t.Value, Effect: t.Effect})
	}
	if c.opts.CNI == CNIPTP {
		assigned, err := c.cloud.Assign(ctx, cloud.AssignInput{ENI: n.ENIs[0], PrefixCount: ptpPrefixes})
		if err != nil {
			return node.Config{}, fmt.Errorf("instance %s: addresses for the ptp plugin: %w", n.ID, err)
		}
		cfg.CNI = node.PTP(assigned.Prefixes, vpcMTU)
	}
	return cfg, nil
}

const (
	// ptpPrefixes gives a node without weft 28 addresses for pods, as many as an m5.large has in ENIs.
	ptpPrefixes = 2
	vpcMTU      = 9001
)

// maxPods is what EKS' bootstrap computes: as many pods as the instance type has secondary addresses.
func maxPods(g clusterconfig.NodeGroup, n cloud.Node) int {
	if g.MaxPods > 0 {
		return g.MaxPods
	}
	return n.TypeInfo.MaxPods()
}

// clusterDNS is the tenth address of the service network, as on EKS.
func clusterDNS(services netip.Prefix) netip.Addr {
	a := services.Masked().Addr()
	for range 10 {
		a = a.Next()
	}
	return a
}

// waitNodes waits until every node is registered and, if it has a network, Ready.
func (c *Cluster) waitNodes(ctx context.Context) error {
	want := c.Record().Nodes
	err := poll(ctx, func() (bool, error) { return c.nodesUp(ctx, want) })
	if err != nil {
		return err
	}
	if c.opts.CNI == CNIPTP {
		c.done(fmt.Sprintf("%d of %d nodes Ready", len(want), len(want)))
	} else {
		c.done(fmt.Sprintf("%d of %d nodes registered; they become Ready when a CNI is installed", len(want), len(want)))
	}
	return nil
}

func (c *Cluster) nodesUp(ctx context.Context, want []labstate.Node) (bool, error) {
	for _, n := range want {
		if err := node.CrashLoop(c.lab, n.InstanceID); err != nil {
			return false, err
		}
	}
	list, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return false, nil //nolint:nilerr // the API server may be busy; the deadline says so
	}
	for _, n := range want {
		i := slices.IndexFunc(list.Items, func(o corev1.Node) bool { return o.Name == n.Name })
		if i < 0 || c.opts.CNI == CNIPTP && !isReady(list.Items[i]) {
			return false, nil
		}
	}
	return true, nil
}

func isReady(n corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// poll asks every 100 ms until the answer is yes, an error, or ctx ends.
func poll(ctx context.Context, ask func() (bool, error)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := ask()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// NotFoundError says that a node or node group isn't there.
type NotFoundError struct {
	Kind, Name string
	Known      []string
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no %s %q; there are: %s", e.Kind, e.Name, strings.Join(e.Known, ", "))
}

func (c *Cluster) group(name string) (clusterconfig.NodeGroup, error) {
	groups := c.opts.Config.NodeGroups
	if name == "" && len(groups) > 0 {
		return groups[0], nil
	}
	i := slices.IndexFunc(groups, func(g clusterconfig.NodeGroup) bool { return g.Name == name })
	if i < 0 {
		e := &NotFoundError{Kind: "node group", Name: name}
		for _, g := range groups {
			e.Known = append(e.Known, g.Name)
		}
		return clusterconfig.NodeGroup{}, e
	}
	return groups[i], nil
}

func (c *Cluster) node(name string) (labstate.Node, error) {
	r := c.Record()
	n, ok := r.Find(name)
	if !ok {
		e := &NotFoundError{Kind: "node", Name: name}
		for _, n := range r.Nodes {
			e.Known = append(e.Known, n.Name)
		}
		return n, e
	}
	return n, nil
}

// AddNode boots another instance of a node group, the first if group is empty, and waits until it is a node.
func (c *Cluster) AddNode(ctx context.Context, group string) (labstate.Node, error) {
	g, err := c.group(group)
	if err != nil {
		return labstate.Node{}, err
	}
	instance, err := c.cloud.RunInstance(ctx, c.eks.Name, g.Name)
	if err != nil {
		return labstate.Node{}, err
	}
	if err := c.boot(ctx, g, instance); err != nil {
		return labstate.Node{}, err
	}
	n, err := c.node(instance.ID)
	if err != nil {
		return n, err
	}
	return n, poll(ctx, func() (bool, error) { return c.nodesUp(ctx, []labstate.Node{n}) })
}

// DeleteNode terminates an instance and waits until it and its Node are gone.
func (c *Cluster) DeleteNode(ctx context.Context, name string) error {
	n, err := c.node(name)
	if err != nil {
		return err
	}
	if _, err := c.cloud.TerminateInstances(ctx, []string{n.InstanceID}); err != nil {
		return err
	}
	err = poll(ctx, func() (bool, error) {
		_, there := c.Record().Find(n.InstanceID)
		return !there && !netns.Exists(c.lab.Netns(n.InstanceID)), nil
	})
	if err != nil {
		return fmt.Errorf("instance %s: terminate: %w", n.InstanceID, err)
	}
	return c.waitNodeGone(ctx, n)
}

// RebootNode powers an instance off and on: same disk, same interfaces, everything else fresh.
func (c *Cluster) RebootNode(ctx context.Context, name string) error {
	n, err := c.node(name)
	if err != nil {
		return err
	}
	defer c.lock(n.InstanceID)()
	if err := node.Stop(ctx, c.lab, n.InstanceID); err != nil {
		return err
	}
	// Routes, rules and what else the former life left in its namespace go with it.
	if err := netns.Delete(c.lab.Netns(n.InstanceID)); err != nil {
		return fmt.Errorf("instance %s: reboot: %w", n.InstanceID, err)
	}
	if err := c.cloud.Resync(ctx); err != nil {
		return fmt.Errorf("instance %s: reboot: %w", n.InstanceID, err)
	}
	return c.powerOn(ctx, n.InstanceID)
}

// NodeStatus is one node as status shows it.
type NodeStatus struct {
	labstate.Node
	// State is what the Node object says: Ready, NotReady, or not registered.
	State    string                 `json:"state"`
	Running  bool                   `json:"running"`
	Services map[string]boot.Status `json:"services,omitempty"`
}

func (c *Cluster) nodeStatus(ctx context.Context, nodes []labstate.Node) []NodeStatus {
	states := map[string]string{}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	list, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	missing := "not registered"
	if err != nil {
		missing = "unknown: the API server doesn't answer"
	} else {
		for _, n := range list.Items {
			states[n.Name] = "NotReady"
			if isReady(n) {
				states[n.Name] = "Ready"
			}
		}
	}
	out := make([]NodeStatus, 0, len(nodes))
	for _, n := range nodes {
		s := NodeStatus{Node: n, State: states[n.Name]}
		if s.State == "" {
			s.State = missing
		}
		_, err := node.PID(c.lab, n.InstanceID)
		s.Running = err == nil
		// A status that can't be read is one that isn't written yet.
		s.Services, _ = node.Services(c.lab, n.InstanceID)
		out = append(out, s)
	}
	return out
}
