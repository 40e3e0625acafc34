package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/weft-cni/weft/internal/agentapi"
	"github.com/weft-cni/weft/internal/loadbalancer"
	"github.com/weft-cni/weft/internal/socklb"
	"github.com/weft-cni/weft/test/rig"
	"github.com/weft-cni/weft/test/scale/apiserver"
)

const shop = "shop"

// runServices starts an agent beside an API server that has services already, and then changes one endpoint after
// the other.
func runServices(ctx context.Context, o options, programs string) (err error) {
	s, err := apiserver.Start(ctx, programs, o.work)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	c, err := kubernetes.NewForConfig(s.Config())
	if err != nil {
		return err
	}
	fmt.Printf("%d services with %d endpoints each; real etcd and API server; a whole agent, its programs and maps, in a namespace\n", o.services, o.endpoints)
	began := time.Now()
	frontends, err := addServices(ctx, s, c, o)
	if err != nil {
		return err
	}
	fmt.Printf("%8.1f s   to create the objects\n", time.Since(began).Seconds())
	n, err := newAgentNode(o, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if err := n.fill(ctx, frontends); err != nil {
		return err
	}
	return n.change(ctx, c, frontends)
}

// addServices returns what each should have in the maps. Services go past the API server, whose allocator of addresses
// counts all of them for each: 20,000 would take it a quarter of an hour. Nothing else of it is left out.
func addServices(ctx context.Context, server *apiserver.Server, c kubernetes.Interface, o options) ([]loadbalancer.Key, error) {
	if _, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: shop}}, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	out := make([]loadbalancer.Key, o.services)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range o.services {
		g.Go(func() error {
			s := service(i)
			out[i] = loadbalancer.Key{Address: loadbalancer.Address{AddrPort: netip.AddrPortFrom(serviceAddress(i), 80), Protocol: corev1.ProtocolTCP}}
			if err := server.Put(ctx, "services/specs/"+shop+"/"+s.Name, s); err != nil {
				return err
			}
			_, err := c.DiscoveryV1().EndpointSlices(shop).Create(ctx, slice(i, o.endpoints), metav1.CreateOptions{})
			return err
		})
	}
	return out, g.Wait()
}

// serviceAddress is one of the cluster's range for services, but for those that it gives itself.
func serviceAddress(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 100, byte(64 + i>>8), byte(i)})
}

// service is as the API server stores it.
func service(i int) *corev1.Service {
	single, cluster, at := corev1.IPFamilyPolicySingleStack, corev1.ServiceInternalTrafficPolicyCluster, serviceAddress(i).String()
	return &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: serviceName(i), UID: types.UID(fmt.Sprintf("01234567-89ab-cdef-0123-%012d", i)),
			CreationTimestamp: metav1.Now()},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: at, ClusterIPs: []string{at}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			IPFamilyPolicy: &single, InternalTrafficPolicy: &cluster, SessionAffinity: corev1.ServiceAffinityNone, Selector: map[string]string{"app": serviceName(i)},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}}},
	}
}

func serviceName(i int) string { return fmt.Sprintf("s%05d", i) }

// slice is as its controller writes it.
func slice(i, endpoints int) *discoveryv1.EndpointSlice {
	name, http, proto, port, yes, no := serviceName(i), "http", corev1.ProtocolTCP, int32(8080), true, false
	out := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4,
		ObjectMeta: metav1.ObjectMeta{Name: name + "-abcde", Labels: map[string]string{discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io"}},
		Ports:      []discoveryv1.EndpointPort{{Name: &http, Port: &port, Protocol: &proto}}}
	for e := range endpoints {
		at, z := i*endpoints+e, zone(e%zones)
		node := nodeName(at % 1000)
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{netip.AddrFrom4([4]byte{10, byte(128 + at>>16), byte(at >> 8), byte(at)}).String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no}, NodeName: &node, Zone: &z,
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: shop, Name: fmt.Sprintf("%s-%d", name, e), UID: "01234567-89ab-cdef-0123-456789abcdef"},
		})
	}
	return out
}

// agentNode is this process's namespace as a node.
type agentNode struct {
	o     options
	spec  rig.Spec
	agent *rig.Agent
	space rig.Space
	undo  []func() error
}

func newAgentNode(o options, s *apiserver.Server) (n *agentNode, err error) {
	n = &agentNode{o: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	plugin, err := filepath.Abs(filepath.Join(o.bin, "weft-cni"))
	if err != nil {
		return nil, err
	}
	if n.space, err = rig.OwnSpace(); err != nil {
		return nil, err
	}
	n.undo = append(n.undo, n.space.Close)
	router, err := rig.NewSpace()
	if err != nil {
		return nil, err
	}
	n.undo = append(n.undo, router.Close)
	mac, gw := net.HardwareAddr{0x0a, 0, 0, 0, 0, 1}, netip.MustParseAddr("10.20.0.1")
	err = rig.Wire(rig.End{Space: n.space, Name: "eth0", MAC: mac, Address: netip.MustParseAddr("10.20.0.10"), Next: gw},
		rig.End{Space: router, Name: "eth0", MAC: net.HardwareAddr{0x0a, 0, 0, 0, 0, 2}, Address: gw})
	if err != nil {
		return nil, err
	}
	group, err := rig.NewControlGroup("scale")
	if err != nil {
		return nil, err
	}
	n.undo = append(n.undo, group.Close)
	host, token := s.Host()
	n.spec = rig.Spec{Name: nodeName(0), Dir: filepath.Join(o.work, "node"), Plugin: plugin, AddWait: 5 * time.Second, Cgroup: group.Dir, API: &rig.API{Host: host, Token: token},
		Assignment: rig.Assignment{MAC: mac.String(), Address: "10.20.0.10", SubnetCIDR: "10.20.0.0/16", Pods: []string{"10.20.0.11", "10.20.0.12"}}}
	if err := errors.Join(os.MkdirAll(n.spec.BPFFS(), 0o755), unix.Mount("bpf", n.spec.BPFFS(), "bpf", 0, "")); err != nil {
		return nil, fmt.Errorf("BPF file system: %w", err)
	}
	n.undo = append(n.undo, func() error { return unix.Unmount(n.spec.BPFFS(), unix.MNT_DETACH) })
	return n, nil
}

func (n *agentNode) close() error {
	var errs []error
	if n.agent != nil {
		errs = append(errs, n.agent.Kill())
	}
	for _, f := range slices.Backward(n.undo) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// fill starts the agent with empty maps, waits until it says that they are right, and looks whether they are.
func (n *agentNode) fill(ctx context.Context, frontends []loadbalancer.Key) (err error) {
	began := time.Now()
	if n.agent, err = rig.Launch(n.space, n.spec); err != nil {
		return err
	}
	var t *socklb.Tables
	err = rig.Await(ctx, 5*time.Minute, "the agent says that the tables are right", func() error {
		if t == nil {
			if t, err = socklb.OpenTables(n.spec.PinDir()); err != nil {
				return err
			}
		}
		if at, err := t.Confirmed(); err != nil || at == 0 {
			return errors.Join(errWaiting, err)
		}
		return nil
	})
	if t != nil {
		defer t.Close()
	}
	if err != nil {
		return errors.Join(err, n.agent.Ready(ctx))
	}
	took := time.Since(began)
	used, memory, err := usage(n.agent.Process())
	if err != nil {
		return err
	}
	for _, key := range frontends {
		if got, ok, err := t.Backends(key); err != nil || !ok || len(got) != n.o.endpoints {
			return fmt.Errorf("frontend %s has %d backends (there is one: %v), expected %d: %w", key, len(got), ok, n.o.endpoints, err)
		}
	}
	stats, err := n.stats(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%8.2f s   from the agent's start until all %d frontends and %d backends are in the maps, %d writes\n", took.Seconds(), stats.Frontends, stats.Backends, stats.Writes)
	fmt.Printf("%8.2f s   of CPU, all that the agent has used by then\n", used.Seconds())
	fmt.Printf("%8.0f MB  of memory at most, the whole agent's\n", memory/1e6)
	sizes, err := t.Memory()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		fmt.Printf("%8.1f MB  in map %s\n", float64(sizes[name])/1e6, name)
	}
	return nil
}

func (n *agentNode) stats(ctx context.Context) (s socklb.Stats, err error) {
	var b bytes.Buffer
	if err := agentapi.NewClient(n.spec.APISocket()).Get(ctx, "/v1/services/stats", &b); err != nil {
		return s, err
	}
	return s, json.Unmarshal(b.Bytes(), &s)
}

// change gives one service another endpoint, many times over, each time another service.
func (n *agentNode) change(ctx context.Context, c kubernetes.Interface, frontends []loadbalancer.Key) error {
	t, err := socklb.OpenTables(n.spec.PinDir())
	if err != nil {
		return err
	}
	defer t.Close()
	before, err := n.stats(ctx)
	if err != nil {
		return err
	}
	usedBefore, _, err := usage(n.agent.Process())
	if err != nil {
		return err
	}
	var written, answered []time.Duration
	for k := range n.o.changes {
		i := k * len(frontends) / n.o.changes
		s := slice(i, n.o.endpoints)
		fresh := netip.AddrFrom4([4]byte{10, 127, byte(k >> 8), byte(k)})
		s.Endpoints[k%n.o.endpoints].Addresses[0] = fresh.String()
		want := netip.AddrPortFrom(fresh, 8080)
		began := time.Now()
		var g errgroup.Group
		var told time.Duration
		g.Go(func() error {
			_, err := c.DiscoveryV1().EndpointSlices(shop).Update(ctx, s, metav1.UpdateOptions{})
			told = time.Since(began)
			return err
		})
		err := awaitBackend(ctx, t, frontends[i], want)
		took := time.Since(began)
		if err := errors.Join(err, g.Wait()); err != nil {
			return err
		}
		written, answered = append(written, took), append(answered, told)
	}
	after, err := n.stats(ctx)
	if err != nil {
		return err
	}
	used, _, err := usage(n.agent.Process())
	if err != nil {
		return err
	}
	slices.Sort(written)
	slices.Sort(answered)
	fmt.Printf("%8.1f ms  median from one changed endpoint's update to the map (99th part: %.1f ms; %d changes); the API server answers the update itself after %.1f ms\n",
		ms(written[len(written)/2]), ms(written[len(written)*99/100]), len(written), ms(answered[len(answered)/2]))
	fmt.Printf("%8.1f     writes to the maps for each change, %.1f ms of the agent's CPU\n",
		float64(after.Writes-before.Writes)/float64(len(written)), ms(used-usedBefore)/float64(len(written)))
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// awaitBackend looks a thousand times a second.
func awaitBackend(ctx context.Context, t *socklb.Tables, key loadbalancer.Key, want netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		got, _, err := t.Backends(key)
		if err != nil || slices.Contains(got, want) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s has %v, expected %s among them: %w", key, got, want, ctx.Err())
		case <-tick.C:
		}
	}
}

// usage is a process's time of CPU and the most memory that it has had.
func usage(pid int) (time.Duration, float64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// What comes after the name in parentheses, which may have blanks.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, 0, fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(fields))
	}
	const tick = time.Second / 100 // USER_HZ
	var used time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		used += time.Duration(n) * tick
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return used, kb * 1024, err
		}
	}
	return used, 0, fmt.Errorf("/proc/%d/status has no VmHWM", pid)
}
