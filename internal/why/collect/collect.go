// Package collect asks the API server, the agents and EC2 what package why decides on.
package collect

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/agentapi/remote"
	"github.com/weft-cni/weft/internal/flow"
	"github.com/weft-cni/weft/internal/kube"
	"github.com/weft-cni/weft/internal/why"
	"github.com/weft-cni/weft/internal/why/vpc"
)

// Network asks EC2 about the ENIs that have these addresses.
type Network func(ctx context.Context, region, vpcID string, addrs []netip.Addr, enis []string) (*vpc.Network, error)

// Collector asks.
type Collector struct {
	Kube   *kube.Client
	Agents *remote.Agents
	EC2    Network
	// Since bounds how old a drop may be that explains.
	Since time.Duration
	// Via is the node that forwards what the sender sends, if the sender itself isn't known to Kubernetes.
	Via string
}

// cluster is what the API server says.
type cluster struct {
	pods     []corev1.Pod
	nodes    []v1alpha1.NodeNetwork
	services []corev1.Service
	network  v1alpha1.ClusterNetwork
	hosts    map[netip.Addr]string // nodes by address
}

// Facts collects what is known of q. Only what nothing can be said without is an error.
func (c *Collector) Facts(ctx context.Context, q why.Question) (why.Facts, error) {
	f := why.Facts{Question: q}
	k, err := c.cluster(ctx, &f)
	if err != nil {
		return f, err
	}
	for _, side := range []struct {
		end *why.End
		p   *why.Party
	}{{&f.Question.From, &f.From}, {&f.Question.To, &f.To}} {
		*side.p = k.party(side.end)
	}
	if c.Via != "" && f.From.Node == "" {
		f.From.Node, f.From.ENI = c.Via, k.primary(c.Via)
	}
	if f.Question.From.Addr.IsValid() && f.Question.To.Addr.IsValid() {
		c.agents(ctx, &f)
		c.service(ctx, &f)
		c.ec2(ctx, &f, k)
	}
	return f, nil
}

func (c *Collector) cluster(ctx context.Context, f *why.Facts) (*cluster, error) {
	k := &cluster{hosts: map[netip.Addr]string{}}
	pods, err := c.Kube.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	k.pods = pods.Items
	var nn v1alpha1.NodeNetworkList
	if err := c.Kube.Objects.List(ctx, &nn); err != nil {
		return nil, fmt.Errorf("list nodenetworks: %w", err)
	}
	k.nodes = nn.Items
	services, err := c.Kube.Kube.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		f.Unknown = append(f.Unknown, fmt.Sprintf("whether an address is a service's: %v", err))
	} else {
		k.services = services.Items
	}
	if err := c.Kube.Objects.Get(ctx, client.ObjectKey{Name: v1alpha1.ClusterNetworkName}, &k.network); err != nil {
		f.Unknown = append(f.Unknown, fmt.Sprintf("the VPC's blocks: %v", err))
	}
	for _, n := range k.nodes {
		for _, i := range n.Spec.Interfaces {
			if a, err := netip.ParseAddr(i.PrimaryAddress); err == nil {
				k.hosts[a] = n.Name
			}
		}
	}
	return k, nil
}

// primary is the ENI by which a node's own packets leave.
func (k *cluster) primary(node string) string {
	for _, n := range k.nodes {
		for _, i := range n.Spec.Interfaces {
			if n.Name == node && i.DeviceIndex == 0 {
				return i.ID
			}
		}
	}
	return ""
}

// party completes an end: a pod's address, or whose an address is.
func (k *cluster) party(end *why.End) why.Party {
	var p why.Party
	pod := k.pod(*end)
	if pod != nil {
		end.Pod = pod.Namespace + "/" + pod.Name
		if a, err := netip.ParseAddr(pod.Status.PodIP); err == nil && !end.Addr.IsValid() {
			end.Addr = a
		}
		p = why.Party{Kind: why.KindPod, Node: pod.Spec.NodeName, Phase: string(pod.Status.Phase), Terminating: pod.DeletionTimestamp != nil, HostNetwork: pod.Spec.HostNetwork}
	}
	if !end.Addr.IsValid() {
		return p
	}
	for _, n := range k.nodes {
		for _, i := range n.Spec.Interfaces {
			if i.PrimaryAddress == end.Addr.String() {
				p.ENI = i.ID
			}
			for _, a := range i.Addresses {
				if a.Address != end.Addr.String() || pod != nil && n.Name != pod.Spec.NodeName {
					continue
				}
				p.ENI = i.ID
				if pod == nil {
					p.Kind, p.Node = why.KindFree, n.Name
				}
			}
		}
		for _, u := range n.Status.UsedAddresses {
			if u.Address == end.Addr.String() && u.Pod != end.Pod {
				p.LastPod = u.Pod
			}
		}
	}
	switch {
	case p.Kind != "":
	case k.hosts[end.Addr] != "":
		p.Kind, p.Node = why.KindNode, k.hosts[end.Addr]
	case k.service(end.Addr):
		p.Kind = why.KindService
	case k.inside(end.Addr):
		p.Kind = why.KindInside
	default:
		p.Kind = why.KindOutside
	}
	return p
}

// pod is the one that the end names, or the living one that has its address.
func (k *cluster) pod(end why.End) *corev1.Pod {
	for i := range k.pods {
		p := &k.pods[i]
		if end.Pod != "" && p.Namespace+"/"+p.Name == end.Pod {
			return p
		}
		ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		if end.Pod == "" && !p.Spec.HostNetwork && !ended && p.Status.PodIP == end.Addr.String() {
			return p
		}
	}
	return nil
}

func (k *cluster) service(a netip.Addr) bool {
	return slices.ContainsFunc(k.services, func(s corev1.Service) bool {
		return slices.Contains(s.Spec.ClusterIPs, a.String()) || slices.Contains(s.Spec.ExternalIPs, a.String())
	})
}

func (k *cluster) inside(a netip.Addr) bool {
	return slices.ContainsFunc(k.network.Status.VPCCIDRs, func(s string) bool {
		p, err := netip.ParsePrefix(s)
		return err == nil && p.Contains(a)
	})
}

// agents asks those of both ends.
func (c *Collector) agents(ctx context.Context, f *why.Facts) {
	all, err := c.Agents.List(ctx)
	if err != nil {
		f.Unknown = append(f.Unknown, fmt.Sprintf("what the nodes saw: %v", err))
		return
	}
	nodes := []string{f.From.Node, f.To.Node}
	chosen := slices.DeleteFunc(slices.Clone(all), func(a remote.Agent) bool { return !slices.Contains(nodes, a.Node) })
	if len(chosen) == 0 {
		chosen = all // nobody knows whose the addresses are, so anybody may have seen them
	}
	q := f.Question
	path := "/v1/why?" + url.Values{"from": {q.From.Addr.String()}, "to": {q.To.Addr.String()}, "protocol": {q.Protocol}, "port": {strconv.Itoa(int(q.Port))}}.Encode()
	heard := chosen[:0:0]
	for _, answer := range remote.Ask[why.Witness](ctx, c.Agents, chosen, path) {
		if answer.Err != nil {
			f.Unknown = append(f.Unknown, fmt.Sprintf("what was seen on %v", answer.Err))
			continue
		}
		n := answer.Value
		heard = append(heard, answer.Agent)
		f.Nodes = append(f.Nodes, n.Node)
		f.Connections = append(f.Connections, n.Connections...)
		for _, side := range []struct {
			end why.End
			p   *why.Party
		}{{q.From, &f.From}, {q.To, &f.To}} {
			if side.p.Node != n.Name {
				continue
			}
			if side.p.Kind == why.KindPod && !side.p.HostNetwork {
				_, has := n.Endpoints[side.end.Addr]
				side.p.Endpoint = &has
			}
			if mtu := n.MTU[side.end.Addr]; mtu > 0 {
				side.p.MTU = mtu
			}
		}
	}
	records, err := c.history(ctx, heard, q)
	if err != nil {
		f.Unknown = append(f.Unknown, fmt.Sprintf("all of what happened before: %v", err))
	}
	for _, r := range records {
		switch r.Type {
		case flow.Drop:
			f.Drops = append(f.Drops, r)
		case flow.Close:
			// What closed lives in the table for a moment longer.
			c := ended(r)
			if !slices.ContainsFunc(f.Connections, func(x why.Connection) bool { return x.Node == c.Node && x.From == c.From }) {
				f.Connections = append(f.Connections, c)
			}
		}
	}
	// The newest first: a retry is told from what was given up.
	slices.SortStableFunc(f.Connections, func(a, b why.Connection) int { return b.Began.Compare(a.Began) })
}

// ended is a connection that is in no table any more.
func ended(r flow.Record) why.Connection {
	return why.Connection{
		Node: r.Node, From: netip.AddrPortFrom(r.From.Addr, r.From.Port), To: netip.AddrPortFrom(r.To.Addr, r.To.Port), Protocol: r.Protocol,
		State: "ended", Sent: r.From.Packets, Received: r.To.Packets, SentBytes: r.From.Bytes,
		Began: r.Time.Add(-time.Duration(r.Seconds * float64(time.Second))),
	}
}

// history of the flow: drops in both directions and ends of connections, oldest first.
func (c *Collector) history(ctx context.Context, chosen []remote.Agent, q why.Question) ([]flow.Record, error) {
	peer := func(e why.End) flow.Peer { return flow.Peer{Prefix: netip.PrefixFrom(e.Addr, e.Addr.BitLen())} }
	f := flow.Filter{Types: []flow.Type{flow.Drop}, Since: time.Now().Add(-c.Since)}
	there, back := f, f
	there.Types = append(there.Types, flow.Close)
	there.From, there.To = []flow.Peer{peer(q.From)}, []flow.Peer{peer(q.To)}
	back.From, back.To = []flow.Peer{peer(q.To)}, []flow.Peer{peer(q.From)}
	// What the sender forges has another source.
	if q.From.Pod != "" {
		there.From = append(there.From, flow.Peer{Pod: q.From.Pod})
	}
	var out []flow.Record
	for _, filter := range []flow.Filter{there, back} {
		records, err := remote.Gather[flow.Record](ctx, c.Agents, chosen, "/v1/flows?"+filter.Values().Encode())
		if err != nil {
			return out, err
		}
		out = append(out, records...)
	}
	out = slices.DeleteFunc(out, func(r flow.Record) bool { return !about(r, q) })
	slices.SortStableFunc(out, func(a, b flow.Record) int { return a.Time.Compare(b.Time) })
	return out, nil
}

// about tells whether a drop between the two ends is of this flow.
func about(r flow.Record, q why.Question) bool {
	if r.Protocol != q.Protocol {
		// An ICMP error between the two may be about it.
		kind, _, _ := strings.Cut(r.ICMP, "/")
		return (r.Protocol == "icmp" && slices.Contains([]string{"3", "11", "12"}, kind) ||
			r.Protocol == "icmpv6" && slices.Contains([]string{"1", "2", "3", "4"}, kind)) &&
			(r.From.Addr == q.From.Addr || r.From.Addr == q.To.Addr)
	}
	return q.Port == 0 || r.To.Port == q.Port || r.Type == flow.Drop && r.From.Port == q.Port
}

func (c *Collector) ec2(ctx context.Context, f *why.Facts, k *cluster) {
	if c.EC2 == nil {
		f.Unknown = append(f.Unknown, "security groups, network ACLs, route tables, source check: EC2 was not asked")
		return
	}
	addrs := []netip.Addr{f.Question.From.Addr, f.Question.To.Addr}
	for _, conn := range f.Connections {
		if conn.Translated.IsValid() && !slices.Contains(addrs, conn.Translated.Addr()) {
			addrs = append(addrs, conn.Translated.Addr())
		}
	}
	var enis []string
	for _, id := range []string{f.From.ENI, f.To.ENI} {
		if id != "" && !slices.Contains(enis, id) {
			enis = append(enis, id)
		}
	}
	n, err := c.EC2(ctx, k.network.Status.Region, k.network.Status.VPCID, addrs, enis)
	if err != nil {
		f.Unknown = append(f.Unknown, fmt.Sprintf("security groups, network ACLs, route tables, source check: %v", err))
		return
	}
	for _, s := range k.network.Status.VPCCIDRs {
		if p, err := netip.ParsePrefix(s); err == nil {
			n.CIDRs = append(n.CIDRs, p)
		}
	}
	f.VPC = n
}
