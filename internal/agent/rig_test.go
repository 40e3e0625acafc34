package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/loadbalancer"
	"github.com/weft-cni/weft/internal/nodehealth"
	"github.com/weft-cni/weft/internal/nodenet"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
	"github.com/weft-cni/weft/internal/runtimeservice"
	"github.com/weft-cni/weft/internal/service"
	"github.com/weft-cni/weft/internal/socklb"
)

// The network of the tests: the process is in the node's namespace; a router namespace is VPC and world.
// It answers for the subnet's router, sends each address to the ENI that has it, and, as a VPC does,
// drops what comes by another ENI than its source's.
const (
	subnetCIDR = "10.20.0.0/24"
	world      = "198.51.100.80"
	peerVPC    = "10.99.0.5" // inside the second CIDR
	instance   = "i-0123456789abcdef0"
)

var (
	eniMACs  = []net.HardwareAddr{{0x0a, 0, 0, 0, 0, 1}, {0x0a, 0, 0, 0, 0, 2}}
	eniNames = []string{"eth0", "ens6"}
	eniOwn   = []string{"10.20.0.10", "10.20.0.20"}
	eniPods  = [][]string{{"10.20.0.11", "10.20.0.12", "10.20.0.13"}, {"10.20.0.21", "10.20.0.22", "10.20.0.23"}}
)

type rig struct {
	t       testing.TB
	router  nstest.Space
	cluster *fakeCluster
	runtime *fakeRuntime
	dir     string
	bpf     string
	cgroup  string // empty: sockets can't be connected to services
	conf    config.Config
	addWait time.Duration
	plugin  string // empty: built
	metrics string // where the agent serves them

	datapath atomic.Pointer[datapath.Datapath] // the running agent's
	balancer atomic.Pointer[socklb.Balancer]   // likewise

	stop func()
}

// newRig makes the network and the sources, but starts no agent.
func newRig(t testing.TB) *rig {
	t.Helper()
	nstest.NeedRoot(t)
	r := &rig{t: t, router: nstest.New(t), dir: t.TempDir(), cluster: newFakeCluster(), runtime: &fakeRuntime{all: map[string]runtimeservice.Sandbox{}}, addWait: 2 * time.Second}
	r.conf = testConfig()
	for _, d := range []string{"bin", "conf", "run", "state"} {
		r.must(os.MkdirAll(filepath.Join(r.dir, d), 0o755))
	}
	// Devices and pins of an earlier test in this process's namespace.
	r.must(nodenet.Cleanup(slog.New(slog.DiscardHandler)))
	r.dropPairs()
	r.bpf = fmt.Sprintf("/sys/fs/bpf/weft-test-%d/%s", os.Getpid(), strings.NewReplacer("/", "_").Replace(t.Name()))
	t.Cleanup(func() { os.RemoveAll(filepath.Dir(r.bpf)) })
	// A mount of the host's settings, as the container has it.
	sysctl := filepath.Join(r.dir, "sysctl")
	r.must(os.Mkdir(sysctl, 0o755), unix.Mount("/proc/sys/net", sysctl, "", unix.MS_BIND, ""))
	t.Cleanup(func() { r.must(unix.Unmount(sysctl, unix.MNT_DETACH)) })
	r.wire()
	r.cluster.set(r.nodeNetwork(2), r.clusterNetwork())
	return r
}

// dropPairs removes what is there of pairs. Most go by themselves meanwhile, with the namespaces of the test
// before; so a listing may be interrupted, and a device gone.
func (r *rig) dropPairs() {
	r.t.Helper()
	nstest.Eventually(r.t, 10*time.Second, "old devices are gone", func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			if l.Type() != "veth" {
				continue
			}
			if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
				return fmt.Errorf("device %s: %w", l.Attrs().Name, err)
			}
		}
		return nil
	})
}

func (r *rig) must(errs ...error) {
	r.t.Helper()
	if err := errors.Join(errs...); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) wire() {
	gw := netip.MustParseAddr("10.20.0.1")
	r.must(r.router.Set("ipv4/ip_forward", "1"))
	for i, name := range eniNames {
		far := fmt.Sprintf("r%d", i)
		r.must(
			nstest.Pair(nstest.Space{}, name, eniMACs[i], r.router, far),
			r.router.Up(far),
			r.router.Set("ipv4/conf/"+far+"/rp_filter", "1"),
		)
		for _, a := range append([]string{eniOwn[i]}, eniPods[i]...) {
			addr := netip.MustParseAddr(a)
			r.must(r.router.Route(netip.PrefixFrom(addr, 32), netip.Addr{}, far), r.router.Neighbour(addr, eniMACs[i], far))
		}
	}
	r.must(r.router.Up("lo", "10.20.0.1/32", world+"/32", peerVPC+"/32"))
	// As the operating system does for the first interface; the second appears bare and down.
	r.must(
		nstest.Space{}.Up("eth0", eniOwn[0]+"/24"),
		nstest.Space{}.Route(netip.MustParsePrefix("0.0.0.0/0"), gw, "eth0"),
	)
}

func (r *rig) nodeNetwork(enis int) *v1alpha1.NodeNetwork {
	nn := &v1alpha1.NodeNetwork{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Generation: 1}}
	nn.Spec = v1alpha1.NodeNetworkSpec{InstanceID: instance, InstanceType: "m5.large", MaxInterfaces: 3, MaxAddressesPerInterface: 10}
	gen := int64(0)
	for i := range enis {
		in := v1alpha1.Interface{
			ID: fmt.Sprintf("eni-%d", i), MAC: eniMACs[i].String(), DeviceIndex: int32(i), SubnetID: "subnet-a",
			SubnetCIDR: subnetCIDR, PrimaryAddress: eniOwn[i], Managed: true,
		}
		for _, a := range eniPods[i] {
			gen++
			in.Addresses = append(in.Addresses, v1alpha1.Address{Address: a, Generation: gen})
		}
		nn.Spec.Interfaces = append(nn.Spec.Interfaces, in)
	}
	nn.Spec.Generation = gen
	return nn
}

func (r *rig) clusterNetwork() *v1alpha1.ClusterNetwork {
	cn := &v1alpha1.ClusterNetwork{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClusterNetworkName}}
	cn.Status.VPCCIDRs = []string{"10.20.0.0/16"}
	cn.Status.Subnets = []v1alpha1.Subnet{{ID: "subnet-a", CIDR: subnetCIDR, DefaultRoute: v1alpha1.RouteInternetGateway}}
	return cn
}

func (r *rig) options() Options {
	if r.plugin == "" {
		r.plugin = plugin(r.t)
	}
	return Options{
		Config: r.conf, Node: "node-1", RunDir: filepath.Join(r.dir, "run"), StateDir: filepath.Join(r.dir, "state"),
		ProcSysNet: filepath.Join(r.dir, "sysctl"),
		Install:    Install{Plugin: r.plugin, BinDir: filepath.Join(r.dir, "bin"), ConfDir: filepath.Join(r.dir, "conf")},
		Exceptions: filepath.Join(r.dir, "ip-masq-agent"),
		Cluster:    r.cluster, Runtime: r.runtime,
		Instance: func(context.Context) (string, error) { return instance, nil },
		Datapath: func() (Datapath, error) {
			dp, err := datapath.Open(datapath.Config{PinDir: r.bpf, Log: slog.New(slog.DiscardHandler)})
			r.datapath.Store(dp)
			return dp, err
		},
		Balancer: func() (Balancer, error) {
			lb, err := socklb.Open(socklb.Config{PinDir: r.bpf, Cgroup: r.cgroup, NorthSouth: r.conf.KubeProxyReplacement, HostToo: r.conf.KubeProxyReplacement})
			if err != nil {
				return nil, err
			}
			r.balancer.Store(lb)
			return lb, nil
		},
		AddWait: r.addWait, CollectEvery: 100 * time.Millisecond, GuardEvery: 200 * time.Millisecond, Version: "test", Log: testLog(r.t),
		MetricsAddress: r.metrics,
	}
}

// start runs an agent in this process until stopAgent or the end of the test.
func (r *rig) start() {
	r.t.Helper()
	r.launch()
	r.awaitReady()
}

// launch runs an agent that need not become ready.
func (r *rig) launch() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, r.options()) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				r.t.Errorf("agent ended: %v", err)
			}
		})
	}
	r.t.Cleanup(r.stop)
}

func (r *rig) awaitReady() {
	r.t.Helper()
	nstest.Eventually(r.t, 60*time.Second, "agent ready", func() error {
		s := r.cluster.lastStatus()
		for _, c := range s.Conditions {
			if c.Type == v1alpha1.ConditionReady && c.Status == metav1.ConditionTrue {
				_, err := os.Stat(filepath.Join(r.dir, "conf", "05-weft.conflist"))
				return err
			}
		}
		return fmt.Errorf("status is %+v", s)
	})
}

// testConfig is what the chart gives where nobody chose otherwise.
func testConfig() config.Config {
	c := config.Default()
	c.Cluster.Name = "test"
	return c
}

// testLogs in the environment shows the agent's words.
const testLogs = "WEFT_TEST_LOG"

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type logWriter struct{ t testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	if os.Getenv(testLogs) != "" {
		fmt.Fprint(os.Stderr, string(p))
	}
	return len(p), nil
}

var built struct {
	sync.Once
	path string
	err  error
}

// plugin builds the real plugin, once for all tests of the process.
func plugin(t testing.TB) string {
	t.Helper()
	built.Do(func() {
		dir, err := os.MkdirTemp("", "weft-cni-test-")
		if err != nil {
			built.err = err
			return
		}
		built.path = filepath.Join(dir, "weft-cni")
		cmd := exec.Command("go", "build", "-o", built.path, "github.com/weft-cni/weft/cmd/weft-cni")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build the plugin: %w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// pod is a namespace that libcni gives an interface.
type pod struct {
	nstest.Space
	id   string
	addr netip.Addr
	// capabilities are what the runtime knows of the pod.
	capabilities map[string]any
}

func (r *rig) libcni() (*libcni.CNIConfig, *libcni.NetworkConfigList) {
	r.t.Helper()
	list, err := libcni.ConfListFromFile(filepath.Join(r.dir, "conf", "05-weft.conflist"))
	r.must(err)
	return libcni.NewCNIConfigWithCacheDir([]string{filepath.Join(r.dir, "bin")}, filepath.Join(r.dir, "cache"), nil), list
}

func (p pod) config() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: p.id, NetNS: p.Path(), IfName: "eth0", CapabilityArgs: p.capabilities,
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", p.id}, {"K8S_POD_UID", "uid-" + p.id}}}
}

func (r *rig) addTo(p *pod) error {
	c, list := r.libcni()
	res, err := c.AddNetworkList(context.Background(), list, p.config())
	if err != nil {
		return err
	}
	got, err := types100.NewResultFromResult(res)
	if err != nil {
		return err
	}
	p.addr, _ = netip.AddrFromSlice(got.IPs[0].Address.IP)
	p.addr = p.addr.Unmap()
	r.runtime.put(p.id)
	return nil
}

func (r *rig) add(id string) *pod {
	r.t.Helper()
	p := &pod{Space: nstest.New(r.t), id: id}
	r.must(r.addTo(p))
	return p
}

func (r *rig) del(p *pod) error {
	c, list := r.libcni()
	err := c.DelNetworkList(context.Background(), list, p.config())
	if err == nil {
		r.runtime.drop(p.id)
	}
	return err
}

// rules lists routing rules; a dump that the agent's own changes interrupt is repeated.
func (r *rig) rules() []netlink.Rule {
	r.t.Helper()
	var out []netlink.Rule
	nstest.Eventually(r.t, 2*time.Second, "list rules", func() (err error) {
		out, err = netlink.RuleList(netlink.FAMILY_V4)
		return err
	})
	return out
}

// routes lists routes likewise.
func (r *rig) routes(filter *netlink.Route, mask uint64) []netlink.Route {
	r.t.Helper()
	var out []netlink.Route
	nstest.Eventually(r.t, 2*time.Second, "list routes", func() (err error) {
		out, err = netlink.RouteListFiltered(netlink.FAMILY_V4, filter, mask)
		return err
	})
	return out
}

// cniCode is the code of the plugin's error.
func cniCode(err error) uint {
	var e *types.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// fakeCluster is the Kubernetes API for one node: objects are set by the test, statuses kept.
type fakeCluster struct {
	mu      sync.Mutex
	nn      *v1alpha1.NodeNetwork
	cn      *v1alpha1.ClusterNetwork
	changed chan struct{}
	status  v1alpha1.NodeNetworkStatus
	events  []string
	// services by owner; nil: the API server hasn't told yet.
	services map[string][]netip.Prefix
	// balanced enters services with their endpoints.
	balanced func(*loadbalancer.Table)
	peers    []nodehealth.Peer
}

func newFakeCluster() *fakeCluster { return &fakeCluster{changed: make(chan struct{})} }

func (c *fakeCluster) set(nn *v1alpha1.NodeNetwork, cn *v1alpha1.ClusterNetwork) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nn, c.cn = nn, cn
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeCluster) Watch(ctx context.Context, changed func(*v1alpha1.NodeNetwork, *v1alpha1.ClusterNetwork), _ func(string)) error {
	for {
		c.mu.Lock()
		nn, cn, next := c.nn.DeepCopy(), c.cn.DeepCopy(), c.changed
		c.mu.Unlock()
		changed(nn, cn)
		select {
		case <-ctx.Done():
			return nil
		case <-next:
		}
	}
}

// WatchServices tells of the services that the test set before.
func (c *fakeCluster) WatchServices(ctx context.Context, t *service.Table, lb *loadbalancer.Table, synced func()) error {
	for {
		c.mu.Lock()
		services, balanced, known, next := maps.Clone(c.services), c.balanced, c.services != nil, c.changed
		c.mu.Unlock()
		for owner, prefixes := range services {
			t.Set(owner, prefixes)
		}
		if balanced != nil {
			balanced(lb)
		}
		if known {
			synced()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-next:
		}
	}
}

// WatchPeers tells of the nodes that the test set.
func (c *fakeCluster) WatchPeers(ctx context.Context, changed func([]nodehealth.Peer)) error {
	for {
		c.mu.Lock()
		peers, next := slices.Clone(c.peers), c.changed
		c.mu.Unlock()
		changed(peers)
		select {
		case <-ctx.Done():
			return nil
		case <-next:
		}
	}
}

func (c *fakeCluster) setPeers(peers ...nodehealth.Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peers = peers
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeCluster) setService(owner string, prefixes ...netip.Prefix) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.services == nil {
		c.services = map[string][]netip.Prefix{}
	}
	c.services[owner] = prefixes
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeCluster) ApplyStatus(_ context.Context, s v1alpha1.NodeNetworkStatus) error {
	// Over the wire, as the API would have it.
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = v1alpha1.NodeNetworkStatus{}
	return json.Unmarshal(b, &c.status)
}

func (c *fakeCluster) lastStatus() v1alpha1.NodeNetworkStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.status.DeepCopy()
}

func (c *fakeCluster) Warn(reason, message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, reason+": "+message)
}

func (c *fakeCluster) WarnAbout(_ context.Context, object corev1.ObjectReference, reason, message string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, object.Kind+" "+object.Namespace+"/"+object.Name+": "+reason+": "+message)
	return nil
}

func (c *fakeCluster) warned(part string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		if strings.Contains(e, part) {
			return true
		}
	}
	return false
}

// fakeRuntime lists sandboxes.
type fakeRuntime struct {
	mu  sync.Mutex
	all map[string]runtimeservice.Sandbox
	err error
}

func (f *fakeRuntime) put(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all[id] = runtimeservice.Sandbox{ID: id, Namespace: "shop", Name: id, UID: "uid-" + id}
}

func (f *fakeRuntime) drop(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, id)
}

func (f *fakeRuntime) Sandboxes(context.Context) (map[string]runtimeservice.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]runtimeservice.Sandbox{}
	for k, v := range f.all {
		out[k] = v
	}
	return out, f.err
}

// status asks STATUS as the runtime does.
func (r *rig) askStatus() error {
	c, list := r.libcni()
	return c.GetStatusNetworkList(context.Background(), list)
}
