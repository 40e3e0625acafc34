package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/ec2"
	"github.com/weft-cni/weft/internal/ec2/ec2sim"
	"github.com/weft-cni/weft/internal/operator"
	"github.com/weft-cni/weft/test/rig"
	"github.com/weft-cni/weft/test/scale/apiserver"
)

const (
	region  = "us-west-2"
	zones   = 3
	cluster = "scale"
)

func instanceID(n int) string { return fmt.Sprintf("i-%017x", n+1) }

// newCloud is a VPC with a subnet in each zone and an instance for each node.
func newCloud(nodes int) *ec2sim.Sim {
	s := ec2sim.New()
	s.AttachDelay = 3 * time.Second
	s.AddVPC("vpc-1", "10.0.0.0/8")
	for z := range zones {
		s.AddSubnet("vpc-1", subnet(z), fmt.Sprintf("10.%d.0.0/16", z), zone(z))
	}
	s.AddRouteTable("vpc-1", ec2.RouteTable{ID: "rtb-main", Main: true, Routes: []ec2.Route{{Destination: "0.0.0.0/0", Target: "nat-1", Active: true}}})
	for n := range nodes {
		s.Run(instanceID(n), "m5.large", subnet(n%zones), "sg-cluster")
	}
	return s
}

func zone(z int) string   { return region + string(rune('a'+z)) }
func subnet(z int) string { return "subnet-" + string(rune('a'+z)) }

// slow makes calls take their time, and holds them back as the operator's own client is held back.
func slow(ctx context.Context, s *ec2sim.Sim, share float64, latency time.Duration, m *operator.Metrics) {
	var limiter *ec2.Limiter
	if share > 0 {
		limiter = ec2.NewLimiter(share, m.Waited)
	}
	s.Hook(func(c ec2sim.Call) ec2sim.Fault {
		if limiter != nil {
			if err := limiter.Wait(ctx, c.Action); err != nil {
				return ec2sim.Fault{Before: err}
			}
		}
		t := time.NewTimer(latency)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return ec2sim.Fault{Before: ctx.Err()}
		case <-t.C:
			return ec2sim.Fault{}
		}
	})
}

func run(ctx context.Context, o options, programs string) (err error) {
	s, err := apiserver.Start(ctx, programs, o.work)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	scheme, err := operator.NewScheme()
	if err != nil {
		return err
	}
	c, err := client.New(s.Config(), client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	fmt.Printf("%d nodes of type m5.large in %d zones; real etcd and API server; the operator's code in this process, its leases, caches and\n"+
		"reconcilers as they run in a cluster; EC2 in memory, each call %s", o.nodes, zones, o.latency)
	if o.share > 0 {
		fmt.Printf(", held back to %.0f %% of AWS's published rates by the operator's own limiter\n", o.share*100)
	} else {
		fmt.Println(", not held back: faster than AWS allows")
	}
	fmt.Println("Not real: kubelets and agents (no node reports demand, pools stay unused), AWS's paging (a describe is one call)")
	began := time.Now()
	if err := addNodes(ctx, c, o.nodes); err != nil {
		return err
	}
	fmt.Printf("%8.1f s  to create the Node objects\n", time.Since(began).Seconds())
	sim := newCloud(o.nodes)
	if err := live(ctx, o, s.Config(), c, sim); err != nil {
		return err
	}
	if err := sim.Check(); err != nil {
		return fmt.Errorf("EC2 is in a state that can't be: %w", err)
	}
	return nil
}

func addNodes(ctx context.Context, c client.Client, nodes int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for n := range nodes {
		g.Go(func() error {
			z := n % zones
			node := &corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: nodeName(n), Labels: map[string]string{corev1.LabelTopologyRegion: region, corev1.LabelTopologyZone: zone(z)}},
				Spec:       corev1.NodeSpec{ProviderID: "aws:///" + zone(z) + "/" + instanceID(n)},
			}
			return c.Create(ctx, node)
		})
	}
	return g.Wait()
}

func nodeName(n int) string {
	return fmt.Sprintf("ip-10-%d-%d.%s.compute.internal", n>>8, n&0xff, region)
}

// live is the life of an operator, from its start until every node has its addresses, and then for as long as
// it takes to read all of EC2 once more with nothing to do.
func live(ctx context.Context, o options, rc *rest.Config, c client.Client, sim *ec2sim.Sim) error {
	log, err := os.Create(filepath.Join(o.work, "operator.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	logger := slog.New(slog.NewTextHandler(log, nil))
	ctrl.SetLogger(logr.FromSlogHandler(logger.Handler()))
	klog.SetLogger(logr.FromSlogHandler(logger.Handler()))
	conf := config.Default()
	conf.Cluster.Name = cluster
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	g.Go(func() error {
		return operator.Run(ctx, operator.Options{
			Config: conf, REST: operatorConfig(rc), Region: region, HealthAddr: "127.0.0.1:9234", MetricsAddr: "0", LeaseNamespace: "kube-system",
			EC2: func(m *operator.Metrics) ec2.API {
				slow(ctx, sim, o.share, o.latency, m)
				return sim
			},
			Log: logger,
		})
	})
	g.Go(func() error {
		defer cancel()
		peak, err := awaitAddresses(ctx, o, c, conf.IPAM.PreAllocate)
		if err != nil {
			return err
		}
		busy := len(sim.Calls())
		fmt.Printf("%8.1f s  from the operator's start until all %d nodes have %d free addresses each\n", time.Since(began).Seconds(), o.nodes, conf.IPAM.PreAllocate)
		fmt.Printf("%8.0f MB  of heap at most, with the simulated EC2 (%d ENIs)\n", float64(peak)/1e6, len(sim.Interfaces()))
		show(sim.Calls(), o.nodes)
		quiet := conf.SyncInterval.Duration + 10*time.Second
		timer := time.NewTimer(quiet)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		fmt.Printf("then in %s without anything to do:\n", quiet)
		show(sim.Calls()[busy:], o.nodes)
		return nil
	})
	if err := g.Wait(); err != nil {
		tail, rerr := os.ReadFile(log.Name())
		return errors.Join(fmt.Errorf("%w; the end of the operator's log:\n%s", err, tail[max(0, len(tail)-2000):]), rerr)
	}
	return nil
}

// awaitAddresses returns the most heap that was in use meanwhile.
func awaitAddresses(ctx context.Context, o options, c client.Client, want int) (uint64, error) {
	var peak uint64
	next := time.Now()
	err := rig.Await(ctx, o.timeout, "every node has its addresses", func() error {
		peak = max(peak, heap())
		if time.Now().Before(next) {
			return errWaiting
		}
		next = time.Now().Add(time.Second)
		done, err := addressed(ctx, c, want)
		if err == nil && done < o.nodes {
			err = fmt.Errorf("%d of %d nodes have: %w", done, o.nodes, errWaiting)
		}
		return err
	})
	return peak, err
}

func show(calls []ec2sim.Call, nodes int) {
	for _, line := range count(calls, nodes) {
		fmt.Println("          ", line)
	}
}

// errWaiting is no failure.
var errWaiting = errors.New("not yet")

// operatorConfig has the limits of requests to the API server that controller-runtime gives the operator in a
// cluster: none of the client's own, since the server is fair to all by itself. What client-go does without
// being told, 5 a second, holds a thousand nodes back more than EC2 does.
func operatorConfig(rc *rest.Config) *rest.Config {
	rc = rest.CopyConfig(rc)
	rc.QPS, rc.Burst = -1, 0
	return rc
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// addressed counts the nodes whose NodeNetwork gives the agent that many addresses.
func addressed(ctx context.Context, c client.Client, want int) (int, error) {
	var list v1alpha1.NodeNetworkList
	if err := c.List(ctx, &list); err != nil {
		return 0, err
	}
	done := 0
	for _, nn := range list.Items {
		n := 0
		for _, i := range nn.Spec.Interfaces {
			if i.Managed || i.DeviceIndex == 0 {
				n += len(i.Addresses)
			}
		}
		if n >= want {
			done++
		}
	}
	return done, nil
}

// count says how often each action was called, failures apart.
func count(calls []ec2sim.Call, nodes int) []string {
	ok, failed := map[string]int{}, map[string]int{}
	for _, c := range calls {
		if c.Err != nil {
			failed[c.Action]++
		} else {
			ok[c.Action]++
		}
	}
	var out []string
	for a := range ok {
		out = append(out, fmt.Sprintf("%-34s %6d calls, %.3f for each node", a, ok[a], float64(ok[a])/float64(nodes)))
	}
	for a := range failed {
		out = append(out, fmt.Sprintf("%-34s %6d calls failed", a, failed[a]))
	}
	slices.Sort(out)
	if len(out) == 0 {
		out = []string{"no EC2 call"}
	}
	return out
}
