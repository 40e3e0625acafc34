package connectivity

import "github.com/weft-cni/weft/internal/probe"

// dnsCluster: a pod resolves a service by name.
type dnsCluster struct{}

func (dnsCluster) Name() string       { return "dns-cluster" }
func (dnsCluster) Skip(e *Env) string { return "" }
func (dnsCluster) Actions(e *Env) []Action {
	return resolve(e, "kubernetes.default.svc.cluster.local.")
}

// dnsWorld: a pod resolves a public name.
type dnsWorld struct{}

func (dnsWorld) Name() string { return "dns-world" }
func (dnsWorld) Skip(e *Env) string {
	if e.ExternalName == "" {
		return "--external-target is empty"
	}
	return ""
}
func (dnsWorld) Actions(e *Env) []Action { return resolve(e, e.ExternalName+".") }

func resolve(e *Env, name string) []Action {
	var out []Action
	for _, c := range e.Clients {
		out = append(out, e.probeAction(c.String()+" -> name "+name, c, "an address for "+name,
			causes{probe.NameError: "CoreDNS isn't ready, can't be reached through its service, or can't reach its upstream"}, nil,
			"dns", "--timeout", e.Timeout.String(), name))
	}
	return out
}
