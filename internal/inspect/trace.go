package inspect

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// TraceFacts are what the way of a connection to a service depends on.
type TraceFacts struct {
	Node string
	// From is the client in words. HostNetwork: it has the node's addresses. Outside: it isn't on this node, and comes in by an interface.
	From                 string
	HostNetwork, Outside bool
	Protocol             string // TCP, UDP, SCTP
	Frontend             Frontend
	// Nobody is why there is no backend, in words.
	Nobody   string
	Backends []TraceBackend
	// Sockets: programs connect pods' sockets. NoSockets is why not.
	Sockets   bool
	NoSockets string
	// HostSockets: the node's own, too; HostOnly: those alone. Packets: packet programs translate what comes from pods; NorthSouth: all
	// that comes in by interfaces, too.
	HostSockets, HostOnly, Packets, NorthSouth bool
	// Fresh: the agent has confirmed the tables lately.
	Fresh bool
	// KubeProxy is what kube-proxy calls the chain of rules that serves the port.
	KubeProxy KubeProxyRules
	// SourceENI is by which the client's packets leave the node, NodeAddress the node's own.
	SourceENI, NodeAddress string
}

// A TraceBackend is one that may be chosen.
type TraceBackend struct {
	Address string `json:"address"`
	// Pod is known for those of this node.
	Pod string `json:"pod,omitempty"`
	// Where is "this node", "this node itself" (host network) or "another node".
	Where Place `json:"where"`
}

// A Place is where a backend is, seen from the node.
type Place string

// The places.
const (
	Here      Place = "a pod of this node"
	Itself    Place = "this node itself"
	Elsewhere Place = "another node"
)

// A Hop is one step on the way.
type Hop struct {
	At   string `json:"at"`
	Does string `json:"does"`
}

// By is who gives a connection its backend.
type By string

// Whoever does.
const (
	BySocket    By = "socket hook"
	ByPacket    By = "packet programs"
	ByKubeProxy By = "kube-proxy"
	ByNobody    By = "nobody"
)

// A Trace is what becomes of a connection to a service, hop by hop.
type Trace struct {
	Node     string         `json:"node"`
	From     string         `json:"from"`
	To       string         `json:"to"`
	Frontend Frontend       `json:"frontend"`
	By       By             `json:"by"`
	Backends []TraceBackend `json:"backends"`
	Hops     []Hop          `json:"hops"`
}

func (t *Trace) hop(at, format string, a ...any) {
	t.Hops = append(t.Hops, Hop{at, fmt.Sprintf(format, a...)})
}

// Follow decides from the facts alone.
func Follow(f TraceFacts) Trace {
	t := Trace{Node: f.Node, From: f.From, To: fmt.Sprintf("%s (%s)", f.Frontend.Address, f.Frontend.Service), Frontend: f.Frontend, Backends: f.Backends}
	switch {
	case f.Outside:
		f.outside(&t)
	case f.Protocol == "SCTP":
		t.hop("socket", "the hooks of sockets know TCP and UDP: SCTP is left to packets")
		f.packets(&t)
	default:
		f.socket(&t)
	}
	return t
}

func (f TraceFacts) flagged(flag string) bool {
	has := f.Frontend.Has()
	return has != nil && slices.Contains(has.Flags, flag)
}

// external tells the kinds that packet programs serve only with north-south traffic.
func (f TraceFacts) external() bool { return f.Frontend.Kind != "ClusterIP" }

// socket is what connect() and sendmsg() do.
func (f TraceFacts) socket(t *Trace) {
	call := "connect()"
	if f.Protocol == "UDP" {
		call = "sendmsg()"
	}
	skip := ""
	switch {
	case !f.Sockets:
		skip = "no programs at sockets on this node: " + orNone(f.NoSockets)
	case f.Frontend.Held == nil:
		skip = "the maps don't have this frontend"
	case f.HostNetwork && !f.HostSockets:
		skip = "sockets of the node's own namespace are left alone, as long as kube-proxy isn't replaced"
	case !f.HostNetwork && f.HostOnly:
		skip = "sockets of pods are left to packets, by socketLB.hostNamespaceOnly"
	case !f.Fresh && !f.HostSockets:
		skip = "the agent hasn't confirmed the tables for a minute: left as it is"
	case f.flagged("source-ranges"):
		skip = "the frontend has source ranges, and a socket doesn't know its source yet: left to packets"
	}
	if skip != "" {
		t.hop(call, "%s", skip)
		f.packets(t)
		return
	}
	if len(f.Backends) == 0 {
		t.By = ByNobody
		if f.flagged("refuse") {
			t.hop(call, "fails at once with ECONNREFUSED: %s", f.Nobody)
			return
		}
		t.hop(call, "left as it is: there are endpoints, but none for this client: %s", f.Nobody)
		f.packets(t)
		return
	}
	t.By = BySocket
	t.hop(call, "the hook %s", f.choice())
	if f.Protocol == "UDP" {
		t.hop("recvmsg()", "answers are told as from %s; a datagram socket that was connected isn't seen here, its packets are translated by %s", f.Frontend.Address, f.packetBy())
	} else {
		t.hop("getpeername()", "tells %s", f.Frontend.Address)
	}
	f.deliver(t, "no packet is translated")
}

func (f TraceFacts) choice() string {
	switch {
	case f.flagged("affinity"):
		return fmt.Sprintf("gives the backend that this client has had for %d s at most without using it, or else one of %d at random", f.Frontend.Has().AffinitySeconds, len(f.Backends))
	case len(f.Backends) == 1:
		return "gives the one backend"
	}
	return fmt.Sprintf("gives one of %d backends at random", len(f.Backends))
}

func (f TraceFacts) packetBy() By {
	if f.Packets && f.Frontend.Held != nil && (!f.external() || f.NorthSouth) {
		return ByPacket
	}
	return ByKubeProxy
}

// packets is what from_pod does with what the socket hook left.
func (f TraceFacts) packets(t *Trace) {
	if f.HostNetwork {
		t.hop("stack", "the node's own packets meet no program before the stack")
		f.kubeProxy(t)
		return
	}
	if f.packetBy() != ByPacket {
		reason := "packet programs don't know services"
		switch {
		case f.Packets && f.Frontend.Held == nil:
			reason = "the maps don't have this frontend"
		case f.Packets:
			reason = fmt.Sprintf("a %s is left to kube-proxy as long as it isn't replaced", f.Frontend.Kind)
		}
		t.hop("from_pod", "sends it up the stack: %s", reason)
		f.kubeProxy(t)
		return
	}
	if !f.admits(t, "from_pod") {
		return
	}
	t.By = ByPacket
	t.hop("from_pod", "replaces the destination by %s; the flow is tracked as client to backend, and its answers get the service's address back", f.packetChoice())
	f.deliver(t, "only the destination was translated")
}

// admits tells whether there is anybody to send it to, as the packet program at the hook sees it.
func (f TraceFacts) admits(t *Trace, hook string) bool {
	if f.flagged("source-ranges") {
		t.hop(hook, "drops it if the client's address is in none of the service's source ranges")
	}
	if len(f.Backends) > 0 {
		return true
	}
	t.By = ByNobody
	if f.flagged("refuse") {
		t.hop(hook, "answers with a reset (TCP) or port unreachable: %s", f.Nobody)
	} else {
		t.hop(hook, "drops it: %s", f.Nobody)
	}
	return false
}

func (f TraceFacts) packetChoice() string {
	switch {
	case f.flagged("affinity"):
		return "the backend that the client's address has"
	case f.flagged("maglev"):
		return fmt.Sprintf("the one of %d backends that the hash of the flow says (Maglev)", len(f.Backends))
	case len(f.Backends) == 1:
		return "the one backend"
	}
	return fmt.Sprintf("one of %d backends at random", len(f.Backends))
}

// places are how many backends are where.
func (f TraceFacts) places() map[Place]int {
	out := map[Place]int{}
	for _, b := range f.Backends {
		out[b.Where]++
	}
	return out
}

// deliver is the way to the backends.
func (f TraceFacts) deliver(t *Trace, translated string) {
	places := f.places()
	if n := places[Here]; n > 0 {
		if f.HostNetwork {
			t.hop("to_pod", "%d of %d backends are pods of this node: the stack routes to the pod's device", n, len(f.Backends))
		} else {
			t.hop("from_pod", "%d of %d backends are pods of this node: straight into the pod, source unchanged, %s", n, len(f.Backends), translated)
		}
	}
	if n := places[Itself]; n > 0 {
		t.hop("stack", "%d of %d backends are this node itself: up the stack to its process", n, len(f.Backends))
	}
	if n := places[Elsewhere]; n > 0 {
		by := "the node's route"
		if f.SourceENI != "" {
			by = "ENI " + f.SourceENI
		}
		t.hop("to_netdev", "%d of %d backends are on other nodes: out by %s, source unchanged inside of the VPC, %s", n, len(f.Backends), by, translated)
	}
}

// outside is what comes in by an interface.
func (f TraceFacts) outside(t *Trace) {
	switch {
	case !f.NorthSouth || !f.Packets:
		t.hop("from_netdev", "lets it by: node ports, load balancers and external addresses are kube-proxy's as long as it isn't replaced")
		f.kubeProxy(t)
		return
	case f.Frontend.Held == nil:
		t.hop("from_netdev", "doesn't know this frontend")
		f.kubeProxy(t)
		return
	case !f.external():
		t.By = ByNobody
		t.hop("from_netdev", "doesn't answer for a ClusterIP from outside of the cluster")
		return
	}
	if !f.admits(t, "from_netdev") {
		return
	}
	t.By = ByPacket
	t.hop("from_netdev", "replaces the destination by %s", f.packetChoice())
	places := f.places()
	if n := places[Here]; n > 0 {
		t.hop("from_netdev", "%d of %d backends are pods of this node: straight into the pod with the client's own address; answers leave by the interface that it came in by", n, len(f.Backends))
	}
	if n := places[Itself]; n > 0 {
		t.hop("stack", "%d of %d backends are this node itself: up the stack with the client's own address", n, len(f.Backends))
	}
	if n := places[Elsewhere]; n > 0 {
		t.hop("from_netdev", "%d of %d backends are on other nodes: the source becomes the node's %s with a port of its own (SNAT), so the backend doesn't see the client's address; out by the primary ENI", n, len(f.Backends), orNone(f.NodeAddress))
	}
}

// kubeProxy names the rules by which it goes where weft leaves it.
func (f TraceFacts) kubeProxy(t *Trace) {
	t.By = ByKubeProxy
	t.hop("netfilter", "kube-proxy's rules: in iptables mode chain %s of table nat, in nftables mode chain %s of table ip kube-proxy; if kube-proxy doesn't run, nobody answers", f.KubeProxy.IPTables, f.KubeProxy.NFTables)
}

// Draw writes the trace for a person.
func (t Trace) Draw(out io.Writer) {
	fmt.Fprintf(out, "%s -> %s, on node %s: by %s\n", t.From, t.To, t.Node, t.By)
	for i, h := range t.Hops {
		fmt.Fprintf(out, "  %d. %-13s %s\n", i+1, h.At, h.Does)
	}
	for _, b := range t.Backends {
		pod := ""
		if b.Pod != "" {
			pod = " (" + b.Pod + ")"
		}
		fmt.Fprintf(out, "  backend %s%s: %s\n", b.Address, pod, b.Where)
	}
}

// Words are the hops' alone, for a search.
func (t Trace) Words() string {
	var all []string
	for _, h := range t.Hops {
		all = append(all, h.At+": "+h.Does)
	}
	return strings.Join(all, "\n")
}
