package connectivity

import "github.com/weft-cni/weft/internal/probe"

// podToHost: a pod reaches each address of each node, by ICMP and to a server on the node's network.
type podToHost struct{}

func (podToHost) Name() string       { return "pod-to-host" }
func (podToHost) Skip(e *Env) string { return "" }
func (podToHost) Actions(e *Env) []Action {
	var out []Action
	for _, c := range e.Clients {
		for _, n := range e.Nodes {
			for _, a := range n.Internal {
				out = append(out, e.icmpAction(c, n.Name+" InternalIP "+a, a, nil),
					e.httpAction(c, n.Name+" InternalIP "+a, url(a, hostPort), nil, nil))
			}
			for _, a := range n.External {
				out = append(out, e.icmpAction(c, n.Name+" ExternalIP "+a, a, outsideCauses()))
			}
		}
	}
	return out
}

// outsideCauses are the causes for a node's public address: the packet leaves through the internet gateway and
// comes back from outside the security group, although both ends are members.
func outsideCauses() causes {
	return causes{probe.Timeout: "the security group of the node allows no traffic from outside: a packet to a public address leaves by the internet gateway and comes back as a stranger's, even between members. Allow ICMP and TCP 30000-32767 in it if this is wanted"}
}

// hostToPod: a process on the node's network reaches pods on its own node and on others.
type hostToPod struct{}

func (hostToPod) Name() string       { return "host-to-pod" }
func (hostToPod) Skip(e *Env) string { return "" }
func (hostToPod) Actions(e *Env) []Action {
	var out []Action
	for _, h := range e.Hosts {
		for _, p := range e.Echoes {
			out = append(out,
				e.httpAction(h, p.String(), url(p.IP, echoPort), between(h, p), fromPod(p.Name)),
				e.icmpAction(h, p.String(), p.IP, between(h, p)))
		}
	}
	return out
}
