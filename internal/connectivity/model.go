package connectivity

import (
	"context"
	"time"

	"github.com/weft-cni/weft/internal/probe"
)

// Test is a named group of scenarios; it fails if one of its actions does.
type Test struct {
	Name      string
	About     string
	Scenarios []Scenario
}

// Scenario is one kind of traffic.
type Scenario interface {
	// Name is lower-kebab and unique within its test.
	Name() string
	// Skip says why the scenario can't run on this cluster; "" means that it can.
	Skip(*Env) string
	// Actions lists what to do. They are independent and run several at a time.
	Actions(*Env) []Action
}

// Action is one attempt from one place to another.
type Action struct {
	// Name tells source and destination: "client-1 (ip-10-0-0-1) -> echo-other-node:8080".
	Name string
	// Do runs it and judges what it saw.
	Do func(ctx context.Context) Outcome
}

// Outcome of an action. Seen, Want and Cause are set if it failed.
type Outcome struct {
	OK    bool
	Seen  string
	Want  string
	Cause string
}

// Pod is a place that traffic starts from or goes to.
type Pod struct {
	Name, Node, IP string
	HostNetwork    bool
}

// Node is a node with its addresses.
type Node struct {
	Name     string
	Internal []string
	External []string
}

// Service is a service in front of one echo pod.
type Service struct {
	Name, ClusterIP string
	Port, NodePort  int32
	Backend         Pod
	Local           bool // externalTrafficPolicy
}

// Prober runs weft-probe in a pod.
type Prober interface {
	// Probe returns the result that the client printed; the error says that it could not be run at all.
	Probe(ctx context.Context, in Pod, args ...string) (probe.Result, error)
}

// ControlPlane is what a test asks of the API server.
type ControlPlane interface {
	// AskWebhook creates an object that the webhook must judge, and says how the API server answered:
	// nil if it was admitted.
	AskWebhook(ctx context.Context, deny bool) error
	// AskAggregated lists the resource that the aggregated API in the pod serves.
	AskAggregated(ctx context.Context) (string, error)
	// Logs and Exec go by way of the node's kubelet.
	Logs(ctx context.Context, in Pod) (string, error)
}

// Env is what scenarios know of the cluster.
type Env struct {
	Prober       Prober
	ControlPlane ControlPlane

	Clients  []Pod // one a node, on the pod network
	Echoes   []Pod // one a node, on the pod network
	Hosts    []Pod // one a node, on the host's network
	Nodes    []Node
	Services []Service // one for each echo, ClusterIP and NodePort
	Webhook  Pod

	ExternalName    string // one.one.one.one
	ExternalAddress string // 1.1.1.1
	Timeout         time.Duration
}

// on returns the pod of the list that runs on a node.
func on(pods []Pod, node string) (Pod, bool) {
	for _, p := range pods {
		if p.Node == node {
			return p, true
		}
	}
	return Pod{}, false
}

// near are the pods of list on from's node, far the others.
func near(from Pod, list []Pod) []Pod {
	return filter(list, func(p Pod) bool { return p.Node == from.Node })
}
func far(from Pod, list []Pod) []Pod {
	return filter(list, func(p Pod) bool { return p.Node != from.Node })
}

func filter[T any](in []T, keep func(T) bool) []T {
	var out []T
	for _, v := range in {
		if keep(v) {
			out = append(out, v)
		}
	}
	return out
}
