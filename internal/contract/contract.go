// Package contract holds the names and numbers that other processes, other machines or an older weft
// depend on: paths, devices, marks, routing tables, ports. Changing one breaks a running node, so each
// stands in docs/decisions/0001-contracts.md with its reason.
package contract

import "net/netip"

// Paths on the node.
const (
	RunDir   = "/run/weft"     // emptied by a boot
	StateDir = "/var/lib/weft" // survives a boot

	CNISocket  = RunDir + "/cni.sock"   // 0600, served by the agent
	APISocket  = RunDir + "/agent.sock" // 0600, served by the agent: what people ask it
	BootFile   = RunDir + "/boot"       // random token of this boot: namespaces share the kernel's boot_id
	ReadyFile  = RunDir + "/ready"      // written once the node became ready in this boot
	LockFile   = RunDir + "/agent.lock"
	JournalDir = StateDir + "/journal"     // endpoints
	FencesFile = StateDir + "/fences.json" // addresses that the node gave up
	DeletesDir = StateDir + "/deletes"     // DELs that came while the agent was away

	CNIConfDir  = "/etc/cni/net.d"
	CNIConfName = "05-weft.conflist"
	CNIBinDir   = "/opt/cni/bin"
	CNIBinName  = "weft-cni"
	CNINetwork  = "weft"

	// PinDir carries the layout version: a new layout of any map gets a new directory.
	PinDir   = "/sys/fs/bpf/weft/v1"
	PinMaps  = PinDir + "/maps"
	PinLinks = PinDir + "/links"
)

// Routing. Numbers keep clear of the VPC CNI (rules 512 to 1536, tables 2 to 15), Cilium (rules 20 and
// 111, tables 10 to 25), ec2-net-utils (tables 10000 and up) and nm-cloud-setup (30200, 30400).
const (
	TablePods     = 7700 // one /32 per local endpoint
	TableENIBase  = 7701 // + device index: the ENI's own default route
	RulePriPods   = 77   // from all lookup TablePods
	RulePriSource = 177  // from ENDPOINT lookup TableENIBase+index
	RouteProtocol = 119  // rtnetlink protocol of every route and rule that weft owns
)

// QueueHandle is that of every root queue that weft sets on an ENI, 7766: as tc prints it. The kernel's own
// have none, and those that people make get 8001: and up.
const QueueHandle = 0x77660000

// Packet marks. kube-proxy owns 0x4000 and 0x8000, the VPC CNI 0x80, Cilium 0x0f00 and the upper half;
// weft and Cilium never own one node together.
const (
	MarkClassMask  = 0xffff0000 // 16-bit handle of the source's class
	MarkKindMask   = 0x00000f00
	MarkFromPod    = 0x00000100 // forwarded from an endpoint of this node, source checked
	MarkDecided    = 0x00000200 // sent to an ENI by a program that decided everything
	MarkFromNetdev = 0x00000300 // came in by an ENI and goes up the stack
	MarkMask       = MarkClassMask | MarkKindMask
)

// Devices. The host side of an endpoint's veth gets the interface index IfindexBase+slot, so that a
// program finds its endpoint by array index; 0 <= slot < MaxEndpoints.
const (
	DevicePrefix = "weft" // + 10 hex digits of SHA-256(container id, interface name)
	IfindexBase  = 0x100000
	MaxEndpoints = 4096
)

// Ports on the node's loopback (health) and address (metrics); Cilium's numbers.
const (
	AgentHealthPort     = 9879
	AgentMetricsPort    = 9962
	OperatorHealthPort  = 9234
	OperatorMetricsPort = 9963
	NodeHealthPort      = 4240
)

// DefaultTaintKey is the start-up taint that the guides put on node groups.
const DefaultTaintKey = "node.cilium.io/agent-not-ready"

var (
	// Gateway is the next hop that every pod sees; the datapath answers ARP for it.
	Gateway = netip.AddrFrom4([4]byte{169, 254, 1, 1})
	// Gateway6 is Gateway for IPv6.
	Gateway6 = netip.MustParseAddr("fe80::1")
	// HairpinSource is the source of a pod's connection to itself through its service.
	HairpinSource = netip.AddrFrom4([4]byte{169, 254, 42, 1})
)

// HostMAC is the address of the host side of every endpoint's veth: local, and the same everywhere, so
// that nothing depends on learning it.
func HostMAC() [6]byte { return [6]byte{0x02, 'w', 'e', 'f', 't', 0x01} }

// EndpointMAC is the pod's own MAC, derived from its IPv4 address.
func EndpointMAC(a netip.Addr) [6]byte {
	b := a.Unmap().As4()
	return [6]byte{0x02, 0x77, b[0], b[1], b[2], b[3]}
}
