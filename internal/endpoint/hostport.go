package endpoint

import "net/netip"

// HostPort is a port of the node that leads to a port of the pod.
type HostPort struct {
	// Address of the node; not valid: any that it has.
	Address  netip.Addr `json:"address,omitzero"`
	Port     uint16     `json:"port"`
	Target   uint16     `json:"target"`
	Protocol string     `json:"protocol"` // as in Kubernetes: TCP, UDP or SCTP
}
