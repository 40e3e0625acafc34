package config

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-cni/weft/internal/masquerade"
)

// LoadBalancer says how a backend is chosen.
type LoadBalancer struct {
	Algorithm string `json:"algorithm"`
	// ServiceTopology has the hints of EndpointSlices followed, as kube-proxy does.
	ServiceTopology bool `json:"serviceTopology"`
}

// Values of LoadBalancer.Algorithm, by Cilium's names.
const (
	AlgorithmRandom = "random"
	AlgorithmMaglev = "maglev"
)

// Maglev is what the algorithm of this name needs.
type Maglev struct {
	TableSize int `json:"tableSize"`
}

// DefaultMaglevSize is Cilium's.
const DefaultMaglevSize = 16381

// MaglevSizes are those that Cilium takes: primes just below the powers of two.
func MaglevSizes() []int {
	return []int{251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071}
}

// NodePort is what is told of node ports.
type NodePort struct {
	// Range is the API server's, such as 30000,32767.
	Range string `json:"range"`
	// Addresses of the node, as prefixes, that serve node ports; none: all.
	Addresses []string `json:"addresses,omitempty"`
	// BindProtection keeps the node's own processes from listening where a node port is served.
	BindProtection bool `json:"bindProtection"`
}

// SocketLB is what sockets are connected to services.
type SocketLB struct {
	// HostNamespaceOnly leaves pods' sockets as they are; their packets are translated instead. For meshes whose
	// proxies in pods must see a service's address.
	HostNamespaceOnly bool `json:"hostNamespaceOnly"`
}

const defaultNodePorts = "30000,32767"

// Values of ServiceNoBackendResponse, by Cilium's names.
const (
	NoBackendReject = "reject"
	NoBackendDrop   = "drop"
)

// ParseNodePorts reads a range of node ports, as Cilium writes it or with a dash.
func ParseNodePorts(s string) (masquerade.Ports, error) {
	return masquerade.ParsePorts(strings.Replace(s, ",", "-", 1))
}

func (c Config) validateServices(bad func(path, format string, a ...any)) {
	switch c.LoadBalancer.Algorithm {
	case AlgorithmRandom, AlgorithmMaglev:
	default:
		bad("loadBalancer.algorithm", "is %q, expected %s or %s", c.LoadBalancer.Algorithm, AlgorithmRandom, AlgorithmMaglev)
	}
	if !slices.Contains(MaglevSizes(), c.Maglev.TableSize) {
		bad("maglev.tableSize", "is %d, expected one of %v", c.Maglev.TableSize, MaglevSizes())
	}
	switch c.ServiceNoBackendResponse {
	case NoBackendReject, NoBackendDrop:
	default:
		bad("serviceNoBackendResponse", "is %q, expected %s or %s", c.ServiceNoBackendResponse, NoBackendReject, NoBackendDrop)
	}
	if _, err := ParseNodePorts(c.NodePort.Range); err != nil {
		bad("nodePort.range", "%v", err)
	}
	for _, text := range c.NodePort.Addresses {
		if _, err := netip.ParsePrefix(text); err != nil {
			bad("nodePort.addresses", "has %q, expected prefixes such as 10.0.0.0/8", text)
		}
	}
}
