package connectivity

import "github.com/weft-cni/weft/internal/probe"

// podToWorldAddress: a pod reaches a public address.
type podToWorldAddress struct{}

func (podToWorldAddress) Name() string { return "pod-to-world-address" }
func (podToWorldAddress) Skip(e *Env) string {
	if e.ExternalAddress == "" {
		return "--external-ip is empty"
	}
	return ""
}
func (podToWorldAddress) Actions(e *Env) []Action { return world(e, e.ExternalAddress, true) }

// podToWorldName: a pod reaches a public name.
type podToWorldName struct{}

func (podToWorldName) Name() string            { return "pod-to-world-name" }
func (podToWorldName) Skip(e *Env) string      { return dnsWorld{}.Skip(e) }
func (podToWorldName) Actions(e *Env) []Action { return world(e, e.ExternalName, false) }

func world(e *Env, host string, ping bool) []Action {
	likely := causes{probe.Timeout: "the packet left with an address that the internet gateway doesn't translate (masquerading is off or chose another ENI's address), or the subnet has no route out"}
	var out []Action
	for _, c := range e.Clients {
		// What answers, and with which status, is not ours to judge: that it answers is.
		out = append(out, e.probeAction(c.String()+" -> "+host+": HTTP", c, "an HTTP answer of "+host, likely, nil,
			"http", "--any-status", "--timeout", e.Timeout.String(), "http://"+host+"/"))
		if ping {
			out = append(out, e.icmpAction(c, host, host, likely))
		}
	}
	return out
}
