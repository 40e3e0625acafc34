package connectivity

import "github.com/weft-cni/weft/internal/probe"

// podToPodSameNode: a pod reaches a pod of its own node by address.
type podToPodSameNode struct{}

func (podToPodSameNode) Name() string       { return "pod-to-pod-same-node" }
func (podToPodSameNode) Skip(e *Env) string { return "" }
func (podToPodSameNode) Actions(e *Env) []Action {
	return podToPod(e, near)
}

// podToPodOtherNode: a pod reaches the pods of other nodes by address.
type podToPodOtherNode struct{}

func (podToPodOtherNode) Name() string { return "pod-to-pod-other-node" }
func (podToPodOtherNode) Skip(e *Env) string {
	return oneNode(e)
}
func (podToPodOtherNode) Actions(e *Env) []Action { return podToPod(e, far) }

func podToPod(e *Env, pick func(Pod, []Pod) []Pod) []Action {
	var out []Action
	for _, c := range e.Clients {
		for _, p := range pick(c, e.Echoes) {
			out = append(out,
				e.httpAction(c, p.String(), url(p.IP, echoPort), between(c, p), fromPod(p.Name)),
				e.icmpAction(c, p.String(), p.IP, between(c, p)))
		}
	}
	return out
}

// between are the causes for a path from a pod or node to a pod. On one node no security group and no router has a say.
func between(from, to Pod) causes {
	if from.Node != to.Node {
		return nil
	}
	return causes{probe.Timeout: "node " + from.Node + " itself drops the packets: a rule of its firewall (nft list ruleset), or what weft put there (weft status); no security group acts between places on one node"}
}

func oneNode(e *Env) string {
	if len(e.Nodes) < 2 {
		return "there is only one node"
	}
	return ""
}
