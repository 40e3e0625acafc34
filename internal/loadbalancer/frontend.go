package loadbalancer

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Name is a namespaced name.
type Name struct{ Namespace, Name string }

func (n Name) String() string { return n.Namespace + "/" + n.Name }

func (n Name) compare(o Name) int {
	return cmp.Or(cmp.Compare(n.Namespace, o.Namespace), cmp.Compare(n.Name, o.Name))
}

// Address is where a frontend is reached. An unspecified one (0.0.0.0, ::) stands for every address of the node.
type Address struct {
	netip.AddrPort
	Protocol corev1.Protocol
}

func (a Address) String() string { return fmt.Sprintf("%s/%s", a.AddrPort, a.Protocol) }

// Scope says whose connections a frontend is for.
type Scope uint8

// Cluster are pods of this node and the node itself, Outside is whoever comes in by an interface.
const (
	Cluster Scope = iota
	Outside
)

func (s Scope) String() string {
	if s == Outside {
		return "outside"
	}
	return "cluster"
}

// Kind is what a frontend's address is to its service.
type Kind uint8

// The kinds, in the order in which they have an address that several claim, before age and name.
const (
	ClusterIP Kind = iota
	NodePort
	LoadBalancer
	ExternalIP
	KindHostPort
)

func (k Kind) String() string {
	return [...]string{"ClusterIP", "NodePort", "LoadBalancer", "ExternalIP", "HostPort"}[k]
}

// Key is what tells one frontend from all others.
type Key struct {
	Address
	Scope Scope
}

func (k Key) String() string {
	if k.Scope == Cluster {
		return k.Address.String()
	}
	return k.Address.String() + " from " + k.Scope.String()
}

// A Frontend is an address of a service on a node, with those who may answer there.
type Frontend struct {
	Address Address
	Scope   Scope
	Kind    Kind
	Service Name
	Port    string // the service port's name
	// Backends are sorted, each once, of the address's family.
	Backends []netip.AddrPort
	// Affinity is how long an idle client keeps its backend; 0: each connection is for itself.
	Affinity time.Duration
	// Refuse says that without backends a client is told so at once. Otherwise there are backends, but not
	// for this node's clients: their packets are dropped.
	Refuse bool
	// Outside says that whoever comes from outside may use it. With OutsideOwn they have a frontend of their own,
	// of scope Outside, instead of this one.
	Outside, OutsideOwn bool
	// Restricted clients must have an address in Ranges. HostAllowed says that the node's own is.
	Restricted, HostAllowed bool
	Ranges                  []netip.Prefix
	// Maglev chooses by a table that is the same on all nodes.
	Maglev bool
}

// Key is the frontend's.
func (f *Frontend) Key() Key { return Key{f.Address, f.Scope} }

// Settings say which addresses of services are served, and how. The zero value is what is served beside
// kube-proxy: ClusterIPs.
type Settings struct {
	// NorthSouth serves every kind of address, in kube-proxy's place.
	NorthSouth                                      bool
	WithoutNodePorts, WithoutExternalIPs            bool
	WithoutHostPorts, WithoutAffinity, WithoutHints bool
	// NodePortAddresses are those of the node's that serve node ports; none: all.
	NodePortAddresses []netip.Prefix
	// ClusterIPOutside lets whoever comes from outside use ClusterIPs.
	ClusterIPOutside bool
	// Silent drops what has no backend, instead of refusing it.
	Silent bool
	// Maglev is the algorithm of services that don't name one.
	Maglev bool
}

// A Node is what the choice of backends depends on beside services and endpoints.
type Node struct {
	Name string
	Zone string // "": unknown
	// Addresses are the node's own.
	Addresses []netip.Addr
	Settings  Settings
}
