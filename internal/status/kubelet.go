package status

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kubelets waits for nodes whose agent is ready and whose kubelet doesn't say so yet: it asks the runtime every
// few seconds, and until then no pod is scheduled there.
func (e *evaluation) kubelets() {
	serving := map[string]bool{}
	for _, p := range e.own(AgentName) {
		serving[p.Spec.NodeName] = podReady(&p)
	}
	for i := range e.Nodes {
		node := &e.Nodes[i]
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue && serving[node.Name] {
				e.pend("node "+node.Name, "its agent is ready, its kubelet isn't: "+sentence(c.Reason, c.Message), "kubectl describe node "+node.Name)
			}
		}
	}
}

// dns waits for the cluster's DNS: what a person tries next needs it.
func (e *evaluation) dns() {
	if e.Agent == nil || e.Agent.Status.NumberReady == 0 {
		return // the note of what is pending says it
	}
	const label, name = "k8s-app", "kube-dns"
	n, why := 0, ""
	for i := range e.Pods {
		p := &e.Pods[i]
		if p.Namespace != metav1.NamespaceSystem || p.Labels[label] != name || p.DeletionTimestamp != nil || ended(p) {
			continue
		}
		if podReady(p) {
			return
		}
		n++
		what, _, _ := podTrouble(p)
		if what == "" {
			what = "runs but isn't ready"
		}
		if why == "" {
			why = ": " + p.Name + " " + what
		}
	}
	if n > 0 {
		e.warn("cluster DNS", fmt.Sprintf("none of %d pods is ready%s", n, why), fmt.Sprintf("kubectl -n %s describe pods -l %s=%s", metav1.NamespaceSystem, label, name))
	}
}

// usualHostPods is how many pods of the host's network every node has in the end: the agent and kube-proxy.
// EKS' own formula for max-pods adds as many.
const usualHostPods = 2

// capacities compares what kubelets take with the addresses that their nodes can have. Pods above that are
// scheduled and then wait for an address that never comes.
func (e *evaluation) capacities() {
	type excess struct {
		instance       string
		maxPods        int64
		capacity, host int
	}
	var order []excess
	nodes := map[excess][]string{}
	for i := range e.Nodes {
		node := &e.Nodes[i]
		n := e.networks[node.Name]
		if n == nil || n.Status.Capacity == 0 || n.Status.InstanceID != n.Spec.InstanceID {
			continue // the agent hasn't reported
		}
		x := excess{n.Spec.InstanceType, node.Status.Allocatable.Pods().Value(), int(n.Status.Capacity), max(e.HostPods[node.Name], usualHostPods)}
		if x.maxPods <= int64(x.capacity+x.host) {
			continue
		}
		if nodes[x] == nil {
			order = append(order, x)
		}
		nodes[x] = append(nodes[x], node.Name)
	}
	for _, x := range order {
		where := "node " + nodes[x][0]
		if len(nodes[x]) > 1 {
			where = "nodes " + strings.Join(first(nodes[x], 3), ", ")
		}
		e.note(where,
			fmt.Sprintf("max-pods is %d, but with these settings an instance of type %s has addresses for %d pods, beside %d in the host's network: the scheduler may place pods there that get no address", x.maxPods, x.instance, x.capacity, x.host),
			fmt.Sprintf("set max-pods to %d (eksctl: maxPodsPerNode; kubelet: --max-pods), or take a larger instance type", x.capacity+x.host))
	}
}
