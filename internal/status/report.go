// Package status says how weft is in a cluster: a snapshot is collected, judged by a pure function, and
// drawn. Whatever isn't well comes with its reason and with what to do.
package status

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
)

// Snapshot is what a judgement is made of.
type Snapshot struct {
	Namespace string
	// Kubernetes is the server's version: v1.31.2-eks-….
	Kubernetes string
	// TaintKey is the start-up taint's.
	TaintKey string
	Agent    *appsv1.DaemonSet
	Operator *appsv1.Deployment
	// Own are weft's pods, Pods all others that have a network of their own.
	Own, Pods []corev1.Pod
	// HostPods counts, by node, the pods that live in its own network.
	HostPods       map[string]int
	Nodes          []corev1.Node
	NodeNetworks   []v1alpha1.NodeNetwork
	ClusterNetwork *v1alpha1.ClusterNetwork
	// HealthChecking: nodes probe each other.
	HealthChecking bool
	// NoResources: the CRDs of weft.dev are not there.
	NoResources bool
	// Release: Helm has a release of weft in the namespace, whatever of it is there.
	Release bool
	// OwnNodeOnly: the admission policy that keeps an agent's token to its own node is there.
	OwnNodeOnly bool
}

// State of a component.
type State string

// The states.
const (
	OK       State = "OK"
	Disabled State = "disabled"
	Waiting  State = "waiting"
	Failed   State = "error"
)

// Report is the judgement.
type Report struct {
	Healthy    bool        `json:"healthy"`
	Namespace  string      `json:"namespace"`
	Cluster    string      `json:"cluster,omitempty"`
	Components []Component `json:"components"`
	Workloads  []Workload  `json:"workloads"`
	Containers []Container `json:"containers"`
	Pods       Managed     `json:"clusterPods"`
	Images     []Image     `json:"images"`
	Datapaths  []Datapath  `json:"datapaths"`
	// Errors and Warnings keep weft from being healthy; --ignore-warnings leaves the second out. Notes
	// are as expected.
	Errors   []Finding `json:"errors"`
	Warnings []Finding `json:"warnings"`
	Notes    []Finding `json:"notes"`
}

// Component is a line of the table.
type Component struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Detail string `json:"detail,omitempty"`
}

// Datapath is how the programs run on a node.
type Datapath struct {
	Node      string   `json:"node"`
	Kernel    string   `json:"kernel"`
	Attach    string   `json:"attach"`
	PodDevice string   `json:"podDevice,omitempty"`
	Fallbacks []string `json:"fallbacks,omitempty"`
	Pending   []string `json:"pending,omitempty"`
	// Pacing is how limited pods are kept to their limit, PacingReason why so.
	Pacing       string `json:"pacing,omitempty"`
	PacingReason string `json:"pacingReason,omitempty"`
}

// Workload counts a controller's pods.
type Workload struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Desired   int32  `json:"desired"`
	Ready     int32  `json:"ready"`
	Available int32  `json:"available"`
}

// Container counts the containers of a workload by their state.
type Container struct {
	Name    string `json:"name"`
	Running int    `json:"running"`
	Other   int    `json:"notRunning"`
}

// Managed counts the cluster's pods that weft gave a network.
type Managed struct {
	Managed int `json:"managed"`
	Total   int `json:"total"`
}

// Image is an image that runs, with the number of containers that run it.
type Image struct {
	Component string `json:"component"`
	Reference string `json:"reference"`
	Digest    string `json:"digest,omitempty"`
	Count     int    `json:"count"`
}

// Finding is something to know about.
type Finding struct {
	// Where is the object: node ip-…, pod kube-system/weft-x2x4z.
	Where string `json:"where"`
	What  string `json:"what"`
	// Do is what to do; empty if nothing is.
	Do string `json:"do,omitempty"`
	// InProgress is true for what is on its way by itself, such as a pod that is being created.
	InProgress bool `json:"inProgress,omitempty"`
}

// OK is whether a person may go on.
func (r Report) OK(ignoreWarnings bool) bool {
	return len(r.Errors) == 0 && (ignoreWarnings || len(r.Warnings) == 0)
}

// Interval is how often a waiting status looks again.
const Interval = time.Second
