// Package matrix is the table of who reaches whom by which hooks, which docs/datapath-matrix.md shows and the
// datapath's tests walk.
package matrix

// A Node is where a hook runs.
type Node string

// The node that a row is about, and another one.
const (
	Here Node = "here"
	Peer Node = "peer"
)

// A Party sends or answers.
type Party string

// The parties, as seen from the node that the table is about.
const (
	Pod          Party = "pod"
	OtherPod     Party = "another pod"
	Host         Party = "host"
	RemotePod    Party = "remote pod"
	RemoteNode   Party = "remote node"
	ControlPlane Party = "control plane"
	World        Party = "world"
	Metadata     Party = "instance metadata"

	ClusterIPOther   Party = "cluster IP of another pod"
	ClusterIPRemote  Party = "cluster IP of a remote pod"
	ClusterIPSelf    Party = "cluster IP of the pod itself"
	ClusterIPHost    Party = "cluster IP of the host"
	ClusterIPControl Party = "cluster IP of the control plane"
	NodePortHere     Party = "node port of a pod here"
	NodePortLocal    Party = "node port of a pod here, local policy"
	NodePortRemote   Party = "node port of a remote pod"

	WeftIPOther    Party = "cluster IP of another pod, by weft"
	WeftIPRemote   Party = "cluster IP of a remote pod, by weft"
	WeftIPSelf     Party = "cluster IP of the pod itself, by weft"
	WeftIPHost     Party = "cluster IP of the host, by weft"
	WeftPortHere   Party = "node port of a pod here, by weft"
	WeftPortRemote Party = "node port of a remote pod, by weft"
	WeftPortHost   Party = "node port of the host, by weft"
)

// Endpoint says whether the party has a device with hooks of its own.
func (p Party) Endpoint() bool { return p == Pod || p == OtherPod || p == RemotePod }

// A Service is an address and port that kube-proxy, or weft, translates to its backend.
type Service struct {
	Name       Party
	Addr       string // of the cluster; empty: a node port
	Port       uint16
	NodePort   bool
	Backend    Party
	Masquerade bool // kube-proxy translates the source too
	Weft       bool // by weft's programs, on the node that the table is about, in both families
}

// Services lists the kinds, each with its one backend.
func Services() []Service {
	return []Service{
		{Name: ClusterIPOther, Addr: "10.96.0.1", Port: 7, Backend: OtherPod},
		{Name: ClusterIPRemote, Addr: "10.96.0.2", Port: 7, Backend: RemotePod},
		{Name: ClusterIPSelf, Addr: "10.96.0.3", Port: 7, Backend: Pod, Masquerade: true},
		{Name: ClusterIPHost, Addr: "10.96.0.4", Port: 7, Backend: Host},
		{Name: ClusterIPControl, Addr: "10.96.0.5", Port: 7, Backend: ControlPlane},
		{Name: NodePortHere, Port: 30001, NodePort: true, Backend: Pod, Masquerade: true},
		{Name: NodePortLocal, Port: 30002, NodePort: true, Backend: Pod},
		{Name: NodePortRemote, Port: 30003, NodePort: true, Backend: RemotePod, Masquerade: true},
		{Name: WeftIPOther, Addr: "10.96.1.1", Port: 7, Backend: OtherPod, Weft: true},
		{Name: WeftIPRemote, Addr: "10.96.1.2", Port: 7, Backend: RemotePod, Weft: true},
		{Name: WeftIPSelf, Addr: "10.96.1.3", Port: 7, Backend: Pod, Weft: true},
		{Name: WeftIPHost, Addr: "10.96.1.4", Port: 7, Backend: Host, Weft: true},
		{Name: WeftPortHere, Port: 30011, NodePort: true, Backend: Pod, Weft: true},
		{Name: WeftPortRemote, Port: 30012, NodePort: true, Backend: RemotePod, Weft: true},
		{Name: WeftPortHost, Port: 30013, NodePort: true, Backend: Host, Weft: true},
	}
}

// A Step is what one hook made of one packet.
type Step struct {
	Node    Node
	Hook    string
	Outcome string
}

// A Cell is one source and one destination.
type Cell struct {
	From, To Party
	// Request and Reply are all hooks that see the packet, in order.
	Request, Reply []Step
	// Class says from where the class of the source comes.
	Class string
	// Pending names what the row waits for; such a row has no steps.
	Pending string
}

// Decides says whether the step is the one that decides for an endpoint of its node: what it sends, or what
// it gets.
func (s Step) Decides() (egress, ingress bool) {
	switch s.Hook {
	case "from_pod":
		return true, s.Outcome == "delivered"
	case "from_netdev":
		return false, s.Outcome == "delivered"
	case "to_pod":
		return false, s.Outcome == "forwarded"
	}
	return false, false
}
