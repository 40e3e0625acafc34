package matrix

import "slices"

const (
	fromPod    = "from_pod"
	toPod      = "to_pod"
	fromNetdev = "from_netdev"
	toNetdev   = "to_netdev"

	forwarded  = "forwarded"
	redirected = "redirected"
	toStack    = "to-stack"
	delivered  = "delivered"
	sent       = "sent"
)

// From where the class of a source comes.
const (
	classDevice  = "the endpoint's, by the device"
	classHost    = "the host's: an address of the node, and no mark of a pod"
	classAddress = "of the source address, in weft_ipcache"
	classWorld   = "the world's: the source address is unknown"
	classProxy   = "the node's: kube-proxy has translated the source"
	classMiddle  = "the node's: weft has translated the source"
)

func here(hook, outcome string) Step { return Step{Node: Here, Hook: hook, Outcome: outcome} }

func peer(hook, outcome string) Step { return Step{Node: Peer, Hook: hook, Outcome: outcome} }

func path(steps ...Step) []Step { return steps }

// Cells is the table.
func Cells() []Cell {
	return slices.Concat(tried(), services(), pending())
}

func tried() []Cell {
	return []Cell{
		{From: Pod, To: OtherPod, Class: classDevice,
			Request: path(here(fromPod, delivered)),
			Reply:   path(here(fromPod, delivered))},
		{From: Pod, To: Host, Class: classDevice,
			Request: path(here(fromPod, toStack)),
			Reply:   path(here(toPod, forwarded))},
		{From: Pod, To: RemotePod, Class: classDevice,
			Request: path(here(fromPod, sent), here(toNetdev, forwarded), peer(fromNetdev, delivered)),
			Reply:   path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, delivered))},
		{From: Pod, To: RemoteNode, Class: classDevice,
			Request: path(here(fromPod, sent), here(toNetdev, forwarded), peer(fromNetdev, forwarded)),
			Reply:   path(peer(toNetdev, forwarded), here(fromNetdev, delivered))},
		{From: Pod, To: ControlPlane, Class: classDevice,
			Request: path(here(fromPod, sent), here(toNetdev, forwarded)),
			Reply:   path(here(fromNetdev, delivered))},
		{From: Pod, To: World, Class: classDevice,
			Request: path(here(fromPod, sent), here(toNetdev, forwarded)),
			Reply:   path(here(fromNetdev, delivered))},
		{From: Pod, To: Metadata, Class: classDevice,
			Request: path(here(fromPod, toStack), here(toNetdev, forwarded)),
			Reply:   path(here(fromNetdev, toStack), here(toPod, forwarded))},
		{From: Pod, To: ClusterIPOther, Class: classDevice,
			Request: path(here(fromPod, toStack), here(toPod, forwarded)),
			Reply:   path(here(fromPod, toStack), here(toPod, forwarded))},
		{From: Pod, To: ClusterIPRemote, Class: classDevice,
			Request: path(here(fromPod, toStack), here(toNetdev, redirected), here(toNetdev, forwarded), peer(fromNetdev, delivered)),
			Reply:   path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, toStack), here(toPod, forwarded))},
		{From: Pod, To: ClusterIPSelf, Class: classProxy,
			Request: path(here(fromPod, toStack), here(toPod, forwarded)),
			Reply:   path(here(fromPod, toStack), here(toPod, forwarded))},
		{From: Pod, To: ClusterIPHost, Class: classDevice,
			Request: path(here(fromPod, toStack)),
			Reply:   path(here(toPod, forwarded))},
		{From: Pod, To: ClusterIPControl, Class: classDevice,
			Request: path(here(fromPod, toStack), here(toNetdev, redirected), here(toNetdev, forwarded)),
			Reply:   path(here(fromNetdev, toStack), here(toPod, forwarded))},
		{From: Pod, To: NodePortHere, Class: classProxy,
			Request: path(here(fromPod, toStack), here(toPod, forwarded)),
			Reply:   path(here(fromPod, toStack), here(toPod, forwarded))},
		{From: Pod, To: NodePortRemote, Class: classProxy,
			Request: path(here(fromPod, toStack), here(toNetdev, forwarded), peer(fromNetdev, delivered)),
			Reply:   path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, forwarded), here(toPod, forwarded))},
		{From: Host, To: Pod, Class: classHost,
			Request: path(here(toPod, forwarded)),
			Reply:   path(here(fromPod, toStack))},
		{From: Host, To: RemotePod, Class: classHost,
			Request: path(here(toNetdev, forwarded), peer(fromNetdev, delivered)),
			Reply:   path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, forwarded))},
		{From: Host, To: RemoteNode, Class: classHost,
			Request: path(here(toNetdev, forwarded), peer(fromNetdev, forwarded)),
			Reply:   path(peer(toNetdev, forwarded), here(fromNetdev, forwarded))},
		{From: Host, To: ControlPlane, Class: classHost,
			Request: path(here(toNetdev, forwarded)),
			Reply:   path(here(fromNetdev, forwarded))},
		{From: Host, To: World, Class: classHost,
			Request: path(here(toNetdev, forwarded)),
			Reply:   path(here(fromNetdev, forwarded))},
		{From: Host, To: Metadata, Class: classHost,
			Request: path(here(toNetdev, forwarded)),
			Reply:   path(here(fromNetdev, forwarded))},
		{From: Host, To: ClusterIPOther, Class: classHost,
			Request: path(here(toPod, forwarded)),
			Reply:   path(here(fromPod, toStack))},
		{From: Host, To: ClusterIPRemote, Class: classHost,
			Request: path(here(toNetdev, forwarded), peer(fromNetdev, delivered)),
			Reply:   path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, forwarded))},
		{From: Host, To: ClusterIPControl, Class: classHost,
			Request: path(here(toNetdev, forwarded)),
			Reply:   path(here(fromNetdev, forwarded))},
		{From: RemotePod, To: Pod, Class: classAddress,
			Request: path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, delivered)),
			Reply:   path(here(fromPod, sent), here(toNetdev, forwarded), peer(fromNetdev, delivered))},
		{From: RemotePod, To: Host, Class: classAddress,
			Request: path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, forwarded)),
			Reply:   path(here(toNetdev, forwarded), peer(fromNetdev, delivered))},
		{From: RemotePod, To: NodePortHere, Class: classProxy,
			Request: path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, forwarded), here(toPod, forwarded)),
			Reply:   path(here(fromPod, toStack), here(toNetdev, forwarded), peer(fromNetdev, delivered))},
		{From: RemotePod, To: NodePortLocal, Class: classAddress,
			Request: path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, forwarded), here(toPod, forwarded)),
			Reply:   path(here(fromPod, toStack), here(toNetdev, forwarded), peer(fromNetdev, delivered))},
		{From: RemotePod, To: NodePortRemote, Class: classProxy,
			Request: path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, forwarded), here(toNetdev, forwarded), peer(fromNetdev, delivered)),
			Reply:   path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, forwarded), here(toNetdev, forwarded), peer(fromNetdev, delivered))},
		{From: RemoteNode, To: Pod, Class: classAddress,
			Request: path(peer(toNetdev, forwarded), here(fromNetdev, delivered)),
			Reply:   path(here(fromPod, sent), here(toNetdev, forwarded), peer(fromNetdev, forwarded))},
		{From: RemoteNode, To: Host, Class: classAddress,
			Request: path(peer(toNetdev, forwarded), here(fromNetdev, forwarded)),
			Reply:   path(here(toNetdev, forwarded), peer(fromNetdev, forwarded))},
		{From: RemoteNode, To: NodePortHere, Class: classProxy,
			Request: path(peer(toNetdev, forwarded), here(fromNetdev, forwarded), here(toPod, forwarded)),
			Reply:   path(here(fromPod, toStack), here(toNetdev, forwarded), peer(fromNetdev, forwarded))},
		{From: RemoteNode, To: NodePortLocal, Class: classAddress,
			Request: path(peer(toNetdev, forwarded), here(fromNetdev, forwarded), here(toPod, forwarded)),
			Reply:   path(here(fromPod, toStack), here(toNetdev, forwarded), peer(fromNetdev, forwarded))},
		{From: RemoteNode, To: NodePortRemote, Class: classProxy,
			Request: path(peer(toNetdev, forwarded), here(fromNetdev, forwarded), here(toNetdev, forwarded), peer(fromNetdev, delivered)),
			Reply:   path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, forwarded), here(toNetdev, forwarded), peer(fromNetdev, forwarded))},
		{From: ControlPlane, To: Pod, Class: classAddress,
			Request: path(here(fromNetdev, delivered)),
			Reply:   path(here(fromPod, sent), here(toNetdev, forwarded))},
		{From: ControlPlane, To: Host, Class: classAddress,
			Request: path(here(fromNetdev, forwarded)),
			Reply:   path(here(toNetdev, forwarded))},
		{From: World, To: Pod, Class: classWorld,
			Request: path(here(fromNetdev, delivered)),
			Reply:   path(here(fromPod, sent), here(toNetdev, forwarded))},
		{From: World, To: Host, Class: classWorld,
			Request: path(here(fromNetdev, forwarded)),
			Reply:   path(here(toNetdev, forwarded))},
		{From: World, To: NodePortHere, Class: classProxy,
			Request: path(here(fromNetdev, forwarded), here(toPod, forwarded)),
			Reply:   path(here(fromPod, toStack), here(toNetdev, forwarded))},
		{From: World, To: NodePortLocal, Class: classWorld,
			Request: path(here(fromNetdev, forwarded), here(toPod, forwarded)),
			Reply:   path(here(fromPod, toStack), here(toNetdev, forwarded))},
		{From: World, To: NodePortRemote, Class: classProxy,
			Request: path(here(fromNetdev, forwarded), here(toNetdev, forwarded), peer(fromNetdev, delivered)),
			Reply:   path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, forwarded), here(toNetdev, forwarded))},
	}
}

// services are those that weft's programs translate, as kube-proxy isn't there or the socket programs didn't.
func services() []Cell {
	out := path(here(fromPod, sent), here(toNetdev, forwarded), peer(fromNetdev, delivered))
	back := path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, delivered))
	return []Cell{
		{From: Pod, To: WeftIPOther, Class: classDevice, Request: path(here(fromPod, delivered)), Reply: path(here(fromPod, delivered))},
		{From: Pod, To: WeftIPRemote, Class: classDevice, Request: out, Reply: back},
		{From: Pod, To: WeftIPSelf, Class: classMiddle, Request: path(here(fromPod, delivered)), Reply: path(here(fromPod, delivered))},
		{From: Pod, To: WeftIPHost, Class: classDevice, Request: path(here(fromPod, toStack)), Reply: path(here(toPod, forwarded))},
		{From: Pod, To: WeftPortRemote, Class: classDevice, Request: out, Reply: back},
		{From: Pod, To: WeftPortHost, Class: classDevice, Request: path(here(fromPod, toStack)), Reply: path(here(toPod, forwarded))},
		{From: RemotePod, To: WeftPortHere, Class: classAddress,
			Request: path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, delivered)),
			Reply:   path(here(fromPod, sent), here(toNetdev, forwarded), peer(fromNetdev, delivered))},
		{From: RemotePod, To: WeftPortRemote, Class: classMiddle,
			Request: path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, sent), here(toNetdev, forwarded), peer(fromNetdev, delivered)),
			Reply:   path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, sent), here(toNetdev, forwarded), peer(fromNetdev, delivered))},
		{From: RemoteNode, To: WeftPortHere, Class: classAddress,
			Request: path(peer(toNetdev, forwarded), here(fromNetdev, delivered)),
			Reply:   path(here(fromPod, sent), here(toNetdev, forwarded), peer(fromNetdev, forwarded))},
		{From: World, To: WeftPortHere, Class: classWorld,
			Request: path(here(fromNetdev, delivered)),
			Reply:   path(here(fromPod, sent), here(toNetdev, forwarded))},
		{From: World, To: WeftPortRemote, Class: classMiddle,
			Request: path(here(fromNetdev, sent), here(toNetdev, forwarded), peer(fromNetdev, delivered)),
			Reply:   path(peer(fromPod, sent), peer(toNetdev, forwarded), here(fromNetdev, sent), here(toNetdev, forwarded))},
		{From: World, To: WeftPortHost, Class: classWorld,
			Request: path(here(fromNetdev, toStack)),
			Reply:   path(here(toNetdev, forwarded))},
	}
}

// pending are rows of what comes later, so that nobody takes them for forgotten.
func pending() []Cell {
	return []Cell{
		{From: RemotePod, To: "pod, by a tunnel", Class: "the tunnel's key", Pending: "overlay: from_overlay"},
		{From: World, To: "host, with a policy for it", Class: classWorld, Pending: "policy for the host: from_netdev"},
		{From: Host, To: "world, with a policy for the host", Class: classHost, Pending: "policy for the host: to_netdev"},
	}
}
