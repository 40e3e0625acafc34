package connectivity

// noMasquerade: inside the VPC a pod is seen by its own address, by pods and by hosts.
type noMasquerade struct{}

func (noMasquerade) Name() string       { return "no-masquerade-inside-vpc" }
func (noMasquerade) Skip(e *Env) string { return "" }
func (noMasquerade) Actions(e *Env) []Action {
	var out []Action
	for _, c := range e.Clients {
		for _, p := range e.Echoes {
			out = append(out, e.httpAction(c, p.String()+" sees its address", url(p.IP, echoPort), nil, fromAddress(c.IP, "between pods")))
		}
		for _, n := range e.Nodes {
			for _, a := range n.Internal {
				out = append(out, e.httpAction(c, n.Name+" sees its address", url(a, hostPort), nil, fromAddress(c.IP, "on the way to a node")))
			}
		}
	}
	return out
}
