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

// Address is where a frontend is reached.
type Address struct {
	netip.AddrPort
	Protocol corev1.Protocol
}

func (a Address) String() string { return fmt.Sprintf("%s/%s", a.AddrPort, a.Protocol) }

// A Frontend is an address of a service on a node, with those who may answer there.
type Frontend struct {
	Address Address
	Service Name
	Port    string // the service port's name
	// Backends are sorted, each once, of the address's family.
	Backends []netip.AddrPort
	// Affinity is how long an idle client keeps its backend; 0: each connection is for itself.
	Affinity time.Duration
	// Refuse says that without backends a client is told so at once. Otherwise there are backends, but not
	// for this node's clients: their packets are dropped.
	Refuse bool
}

// A Node is what the choice of backends depends on beside services and endpoints.
type Node struct {
	Name string
	Zone string // "": unknown
}
