package agent

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/weft-cni/weft/internal/cni"
	"github.com/weft-cni/weft/internal/endpoint"
	"github.com/weft-cni/weft/internal/loadbalancer"
)

// hostPortsOf reads what the runtime says of the pod's host ports.
func hostPortsOf(conf cni.NetConf) ([]endpoint.HostPort, error) {
	var out []endpoint.HostPort
	for _, m := range conf.RuntimeConfig.PortMappings {
		if m.HostPort == 0 {
			continue // a port that the pod merely tells
		}
		h := endpoint.HostPort{Protocol: strings.ToUpper(m.Protocol)}
		if h.Protocol == "" {
			h.Protocol = string(corev1.ProtocolTCP)
		}
		if !slices.Contains([]corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}, corev1.Protocol(h.Protocol)) {
			return nil, fmt.Errorf("host port %d has protocol %q, expected tcp, udp or sctp", m.HostPort, m.Protocol)
		}
		var ok, okToo bool
		h.Port, ok = portNumber(m.HostPort)
		h.Target, okToo = portNumber(m.ContainerPort)
		if !ok || !okToo {
			return nil, fmt.Errorf("host port %d leads to port %d, expected 1 to 65535", m.HostPort, m.ContainerPort)
		}
		if m.HostIP != "" {
			a, err := netip.ParseAddr(m.HostIP)
			if err != nil || a.Zone() != "" {
				return nil, fmt.Errorf("host port %d is for %q, expected an address of the node", m.HostPort, m.HostIP)
			}
			if a = a.Unmap(); !a.IsUnspecified() {
				h.Address = a
			}
		}
		out = append(out, h)
	}
	return out, nil
}

func portNumber(n int) (uint16, bool) { return uint16(n), n > 0 && n <= 65535 }

// hostPorts are those of all endpoints, as services are told of them. A pod without a name goes by its container.
func hostPorts(all []endpoint.Endpoint) []loadbalancer.HostPort {
	var out []loadbalancer.HostPort
	for _, e := range all {
		pod := loadbalancer.Name{Name: e.ContainerID}
		if namespace, name, ok := strings.Cut(e.Pod, "/"); ok {
			pod = loadbalancer.Name{Namespace: namespace, Name: name}
		}
		for _, h := range e.HostPorts {
			out = append(out, loadbalancer.HostPort{
				Pod: pod, HostIP: h.Address, Port: h.Port, Protocol: corev1.Protocol(h.Protocol), Backend: netip.AddrPortFrom(e.Address, h.Target),
			})
		}
	}
	return out
}

// tellHostPorts hands the host ports of this node's pods to the services.
func (a *agent) tellHostPorts() {
	a.tellingHostPorts.Lock() // or older ones would be told after newer ones
	defer a.tellingHostPorts.Unlock()
	a.balance.table.SetHostPorts(hostPorts(a.manager.Endpoints()))
}
