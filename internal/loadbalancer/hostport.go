package loadbalancer

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// A HostPort is a port of the node that a pod of it has.
type HostPort struct {
	Pod      Name
	HostIP   netip.Addr // unspecified or not valid: every address of the node's of the backend's family
	Port     uint16
	Protocol corev1.Protocol
	Backend  netip.AddrPort
}

// hostPortOwner stands for a pod where a service's name is expected. No service's name has a slash.
func hostPortOwner(pod Name) Name { return Name{pod.Namespace, podPrefix + pod.Name} }

const podPrefix = "pod/"

// Pod is the pod that the name stands for, if it isn't a service's.
func (n Name) Pod() (Name, bool) {
	pod, ok := strings.CutPrefix(n.Name, podPrefix)
	return Name{n.Namespace, pod}, ok
}

// resolveHostPorts are the frontends of a pod's host ports.
func resolveHostPorts(n Node, pod Name, ports []HostPort) ([]Frontend, []Problem) {
	if !n.Settings.NorthSouth || n.Settings.WithoutHostPorts {
		return nil, nil
	}
	var out []Frontend
	var problems []Problem
	seen := map[Key]bool{}
	for _, p := range ports {
		backend := netip.AddrPortFrom(p.Backend.Addr().Unmap(), p.Backend.Port())
		v4 := backend.Addr().Is4()
		at := p.HostIP.Unmap()
		if !at.IsValid() || at.IsUnspecified() {
			at = wildcard(v4)
		}
		f := Frontend{Address: Address{netip.AddrPortFrom(at, p.Port), protocol(p.Protocol)}, Kind: KindHostPort, Service: hostPortOwner(pod),
			Backends: []netip.AddrPort{backend}, Outside: true}
		switch {
		case at.Is4() != v4:
			continue // the pod's address of the other family has it
		case p.Port == 0 || backend.Port() == 0 || !backend.Addr().IsValid() || !carried(f.Address.Protocol):
			problems = appendProblem(problems, Problem{Service: f.Service, Address: f.Address, Reason: fmt.Sprintf("host port of %s can't be served", backend)})
		case !seen[f.Key()]:
			seen[f.Key()] = true
			out = append(out, f)
		}
	}
	return out, problems
}
