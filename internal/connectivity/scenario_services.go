package connectivity

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/weft-cni/weft/internal/probe"
)

// podToService: a pod reaches every echo through its ClusterIP.
type podToService struct{}

func (podToService) Name() string       { return "pod-to-service" }
func (podToService) Skip(e *Env) string { return "" }
func (podToService) Actions(e *Env) []Action {
	var out []Action
	for _, c := range e.Clients {
		for _, s := range e.Services {
			if !s.Local {
				out = append(out, e.httpAction(c, "service "+s.Name, url(s.ClusterIP, s.Port), clusterCauses(), fromPod(s.Backend.Name)))
			}
		}
	}
	return out
}

// podToItself: a pod reaches itself through its own service (hairpin).
type podToItself struct{}

func (podToItself) Name() string       { return "pod-to-itself-by-service" }
func (podToItself) Skip(e *Env) string { return "" }
func (podToItself) Actions(e *Env) []Action {
	var out []Action
	for _, s := range e.Services {
		if !s.Local {
			out = append(out, e.httpAction(s.Backend, "itself by service "+s.Name, url(s.ClusterIP, s.Port), itselfCauses(), fromPod(s.Backend.Name)))
		}
	}
	return out
}

// nodePort: hosts and pods reach every echo through every address of every node.
type nodePort struct{}

func (nodePort) Name() string       { return "node-port" }
func (nodePort) Skip(e *Env) string { return "" }
func (nodePort) Actions(e *Env) []Action {
	var out []Action
	for _, from := range append(append([]Pod{}, e.Clients...), e.Hosts...) {
		for _, s := range e.Services {
			if s.Local {
				continue
			}
			for _, n := range e.Nodes {
				for _, a := range n.Internal {
					out = append(out, e.httpAction(from, fmt.Sprintf("NodePort %s of %s on InternalIP %s", s.Name, n.Name, a), url(a, s.NodePort), serviceCauses(), fromPod(s.Backend.Name)))
				}
				for _, a := range n.External {
					out = append(out, e.httpAction(from, fmt.Sprintf("NodePort %s of %s on ExternalIP %s", s.Name, n.Name, a), url(a, s.NodePort), outsideCauses(), fromPod(s.Backend.Name)))
				}
			}
		}
	}
	return out
}

// nodePortLocal: with externalTrafficPolicy Local a backend on the node itself sees the client's own
// address, and its reply leaves by the interface of the node's address, not by the pod's.
type nodePortLocal struct{}

func (nodePortLocal) Name() string       { return "node-port-local-policy" }
func (nodePortLocal) Skip(e *Env) string { return oneNode(e) }
func (nodePortLocal) Actions(e *Env) []Action {
	var out []Action
	for _, s := range e.Services {
		if !s.Local {
			continue
		}
		for _, h := range far(s.Backend, e.Hosts) {
			for _, n := range e.Nodes {
				if n.Name != s.Backend.Node {
					continue
				}
				for _, a := range n.Internal {
					out = append(out, e.httpAction(h, fmt.Sprintf("NodePort %s (externalTrafficPolicy Local) of %s on %s", s.Name, n.Name, a), url(a, s.NodePort),
						causes{probe.Timeout: "the reply left by the pod's ENI with the node's address and was dropped by the source/destination check, or the security group of the node doesn't allow the port"},
						clientIsOneOf(addressesOf(e, h.Node), "on the way to a NodePort with externalTrafficPolicy Local")))
				}
			}
		}
	}
	return out
}

func addressesOf(e *Env, node string) []string {
	for _, n := range e.Nodes {
		if n.Name == node {
			return n.Internal
		}
	}
	return nil
}

func clientIsOneOf(want []string, path string) func(probe.Result) Outcome {
	return func(r probe.Result) Outcome {
		reply, _ := r.ReplyOf()
		host, _, err := net.SplitHostPort(reply.Client)
		if err == nil {
			if a, err := netip.ParseAddr(host); err == nil {
				host = a.Unmap().String()
			}
			for _, w := range want {
				if host == w {
					return Outcome{OK: true}
				}
			}
		}
		return Outcome{Want: fmt.Sprintf("source address %v", want), Seen: "source address " + host, Cause: "the source was rewritten " + path}
	}
}

// clusterCauses: the pod's socket is connected to one of the service's pods, by weft where it can and else by
// kube-proxy.
func clusterCauses() causes {
	return causes{
		probe.Timeout: "the node's agent doesn't follow the service (it is stuck, or may not watch endpointslices), so sockets are sent to a pod that is gone; where status names kube-proxy for services, its rules are missing",
		probe.Refused: "the service has no ready endpoint, or the node has not yet heard of it",
	}
}

// itselfCauses: a pod whose socket is connected to its own address meets only itself.
func itselfCauses() causes {
	c := clusterCauses()
	c[probe.Timeout] = "the pod itself drops what it sends to its own address (a rule of its firewall, as a mesh makes them); where status names kube-proxy for services, it did not give the packet another source (its mark for pods that reach themselves is missing, or another program's rule comes first)"
	return c
}

func serviceCauses() causes {
	return causes{
		probe.Timeout: "kube-proxy's rules are missing or lead to a pod that is gone, or the reply takes another way than the request",
		probe.Refused: "the service has no ready endpoint, or kube-proxy has not yet heard of it",
	}
}
