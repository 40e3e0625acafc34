package status

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
)

// Labels of weft's own pods, which the chart sets.
const (
	NameLabel    = "app.kubernetes.io/name"
	AgentName    = "weft-agent"
	OperatorName = "weft-operator"
)

// Evaluate judges a snapshot.
func Evaluate(s Snapshot) Report {
	s.Own, s.Pods = here(s.Own, s.Nodes), here(s.Pods, s.Nodes)
	e := &evaluation{Snapshot: s, report: Report{Namespace: s.Namespace}, networks: map[string]*v1alpha1.NodeNetwork{}}
	for i := range s.NodeNetworks {
		e.networks[s.NodeNetworks[i].Name] = &s.NodeNetworks[i]
	}
	if s.ClusterNetwork != nil {
		e.report.Cluster = s.ClusterNetwork.Spec.ClusterName
	}
	e.agent()
	e.operator()
	e.datapath()
	e.peers()
	for _, absent := range []string{"proxy", "relay", "cluster mesh"} {
		e.report.Components = append(e.report.Components, Component{Name: absent, State: Disabled})
	}
	e.nodes()
	e.kubelets()
	e.capacities()
	e.surroundings()
	e.pods()
	e.dns()
	e.images()
	r := e.report
	r.Healthy = r.OK(false)
	return r
}

// here are the pods whose node is there, or that have none yet. Kubernetes keeps those of a node that is gone for a
// while longer; nothing will become of them.
func here(pods []corev1.Pod, nodes []corev1.Node) []corev1.Pod {
	known := map[string]bool{"": true}
	for i := range nodes {
		known[nodes[i].Name] = true
	}
	return slices.DeleteFunc(slices.Clone(pods), func(p corev1.Pod) bool { return !known[p.Spec.NodeName] })
}

type evaluation struct {
	Snapshot
	report   Report
	networks map[string]*v1alpha1.NodeNetwork
}

func (e *evaluation) fail(where, what, do string) {
	e.report.Errors = append(e.report.Errors, Finding{Where: where, What: what, Do: do})
}

// pend is for what is not well yet, and on its way.
func (e *evaluation) pend(where, what, do string) {
	e.report.Errors = append(e.report.Errors, Finding{Where: where, What: what, Do: do, InProgress: true})
}

func (e *evaluation) warn(where, what, do string) {
	e.report.Warnings = append(e.report.Warnings, Finding{Where: where, What: what, Do: do})
}

func (e *evaluation) note(where, what, do string) {
	e.report.Notes = append(e.report.Notes, Finding{Where: where, What: what, Do: do})
}

// component closes a component's line; what failed since there were before errors is its own.
func (e *evaluation) component(name string, before int, detail string) {
	c := Component{Name: name, State: OK, Detail: detail}
	if detail != "" {
		c.State = Waiting
	}
	for _, f := range e.report.Errors[before:] {
		if f.InProgress && c.State != Failed {
			c.State = Waiting
		}
		if !f.InProgress {
			c.State = Failed
		}
	}
	e.report.Components = append(e.report.Components, c)
}

func (e *evaluation) agent() {
	before := len(e.report.Errors)
	d := e.Agent
	if d == nil {
		e.fail("DaemonSet "+e.Namespace+"/weft", "is not there: weft is not installed in this namespace", "weft install, or name the right namespace with --namespace")
		e.component("agent", before, "not installed")
		return
	}
	st := d.Status
	e.report.Workloads = append(e.report.Workloads, Workload{"DaemonSet", d.Name, st.DesiredNumberScheduled, st.NumberReady, st.NumberAvailable})
	own := e.own(AgentName)
	e.containers("agent", own)
	for i := range own {
		e.agentPod(&own[i])
	}
	detail := ""
	switch {
	case st.ObservedGeneration < d.Generation:
		detail = "the DaemonSet controller hasn't seen the last change yet"
		e.warn("DaemonSet "+e.Namespace+"/weft", detail, "")
	case st.DesiredNumberScheduled == 0 && len(e.Nodes) > 0:
		detail = "no node wants an agent"
		e.warn("DaemonSet "+e.Namespace+"/weft", fmt.Sprintf("%s: of %d nodes none matches its affinity and node selector (Linux on amd64 or arm64, not Fargate, and what the values say)", detail, len(e.Nodes)), "compare the values affinity and nodeSelector with the nodes' labels")
	case st.NumberReady < st.DesiredNumberScheduled:
		detail = fmt.Sprintf("%d of %d ready", st.NumberReady, st.DesiredNumberScheduled)
		if len(own) < int(st.DesiredNumberScheduled) {
			e.fail("DaemonSet "+e.Namespace+"/weft", fmt.Sprintf("%d of %d pods exist", len(own), st.DesiredNumberScheduled), "kubectl -n "+e.Namespace+" describe daemonset weft")
		}
	case st.UpdatedNumberScheduled < st.DesiredNumberScheduled:
		detail = fmt.Sprintf("%d of %d are of the newest revision", st.UpdatedNumberScheduled, st.DesiredNumberScheduled)
		e.warn("DaemonSet "+e.Namespace+"/weft", "is being rolled out: "+detail, "")
	}
	e.component("agent", before, detail)
}

// agentPod says why an agent's pod isn't ready.
func (e *evaluation) agentPod(p *corev1.Pod) {
	where := "agent on node " + p.Spec.NodeName
	if p.Spec.NodeName == "" {
		where = "pod " + p.Namespace + "/" + p.Name
	}
	if what, do, coming := podTrouble(p); what != "" {
		if coming {
			e.pend(where, what, do)
			return
		}
		e.fail(where, what, do)
		return
	}
	if podReady(p) {
		return
	}
	what, do, coming := e.networkTrouble(p.Spec.NodeName)
	switch {
	case what == "":
		e.pend(where, "runs but isn't ready", "kubectl -n "+p.Namespace+" logs "+p.Name)
	case coming:
		e.pend(where, what, do)
	default:
		e.fail(where, what, do)
	}
}

// networkTrouble says what a node's network waits for, and whether that is on its way.
func (e *evaluation) networkTrouble(node string) (what, do string, coming bool) {
	switch {
	case e.NoResources:
		return "waits for the operator, which makes the CRDs of weft.dev", "see the operator's line", true
	case e.networks[node] == nil:
		return "waits for the operator, which hasn't made the NodeNetwork " + node + " yet", "see the operator's line", true
	}
	n := e.networks[node]
	if c := meta.FindStatusCondition(n.Status.Conditions, v1alpha1.ConditionAddressesAssigned); c != nil && c.Status == metav1.ConditionFalse {
		// Said in the node's own line.
		return "waits for ENIs: " + c.Reason, "see the node's line", false
	}
	if len(n.Spec.Interfaces) == 0 {
		return "waits for ENIs: the operator hasn't assigned any to the node yet", "", true
	}
	for _, kind := range []string{v1alpha1.ConditionInterfacesReady, v1alpha1.ConditionDatapathReady, v1alpha1.ConditionReady} {
		if c := meta.FindStatusCondition(n.Status.Conditions, kind); c != nil && c.Status != metav1.ConditionTrue {
			return fmt.Sprintf("%s is %s: %s", kind, c.Status, sentence(c.Reason, c.Message)), "", c.Status == metav1.ConditionUnknown || c.Reason == v1alpha1.ReasonStarting
		}
	}
	return "", "", false
}

func (e *evaluation) operator() {
	before := len(e.report.Errors)
	d := e.Operator
	if d == nil {
		if e.Agent != nil {
			e.fail("Deployment "+e.Namespace+"/weft-operator", "is not there: nodes get no addresses", "weft install with operator.enabled=true")
		}
		e.component("operator", before, "not installed")
		// Without an agent either it isn't on its way: nothing is installed.
		e.report.Components[len(e.report.Components)-1].State = Failed
		return
	}
	desired := int32(1)
	if d.Spec.Replicas != nil {
		desired = *d.Spec.Replicas
	}
	st := d.Status
	e.report.Workloads = append(e.report.Workloads, Workload{"Deployment", d.Name, desired, st.ReadyReplicas, st.AvailableReplicas})
	own := e.own(OperatorName)
	e.containers("operator", own)
	// One replica does the work; the second stands by on another node.
	report, coming := e.warn, e.warn
	if st.ReadyReplicas == 0 {
		report, coming = e.fail, e.pend
	}
	short := len(e.Nodes) < int(desired)
	for i := range own {
		p := &own[i]
		where := "operator pod " + p.Name
		if p.Spec.NodeName != "" {
			where = "operator on node " + p.Spec.NodeName
		}
		what, do, onItsWay := podTrouble(p)
		switch {
		case what != "" && p.Spec.NodeName == "" && short && st.ReadyReplicas > 0:
			e.note(where, fmt.Sprintf("is not scheduled: %d replicas never share a node, and the cluster has %d", desired, len(e.Nodes)), "add a node, or set operator.replicas")
		case onItsWay:
			coming(where, what, do)
		case what != "":
			report(where, what, do)
		case !podReady(p):
			coming(where, "runs but isn't ready", "kubectl -n "+p.Namespace+" logs "+p.Name)
		}
	}
	detail := ""
	if desired == 0 {
		e.fail("Deployment "+e.Namespace+"/weft-operator", "is scaled to 0: nodes get no addresses", "kubectl -n "+e.Namespace+" scale deployment weft-operator --replicas=2")
	}
	if st.ReadyReplicas < desired {
		detail = fmt.Sprintf("%d of %d ready", st.ReadyReplicas, desired)
		if short && st.ReadyReplicas > 0 {
			detail = ""
		} else if len(own) == 0 {
			report("Deployment "+e.Namespace+"/weft-operator", "has no pods", "kubectl -n "+e.Namespace+" describe deployment weft-operator")
		}
	}
	e.component("operator", before, detail)
}

// nodes judges every NodeNetwork whose node is there.
func (e *evaluation) nodes() {
	agents, serving := map[string]bool{}, map[string]bool{}
	for _, p := range e.own(AgentName) {
		agents[p.Spec.NodeName] = true
		serving[p.Spec.NodeName] = podReady(&p)
	}
	for i := range e.Nodes {
		node := &e.Nodes[i]
		n := e.networks[node.Name]
		if n == nil {
			continue
		}
		where := "node " + node.Name
		if c := meta.FindStatusCondition(n.Status.Conditions, v1alpha1.ConditionAddressesAssigned); c != nil && c.Status == metav1.ConditionFalse {
			e.fail(where, "EC2 doesn't give what it needs: "+sentence(c.Reason, c.Message), remedy(c.Reason, e.Namespace))
		}
		// An agent that isn't ready says so in its own line.
		for _, kind := range []string{v1alpha1.ConditionInterfacesReady, v1alpha1.ConditionDatapathReady} {
			if c := meta.FindStatusCondition(n.Status.Conditions, kind); c != nil && c.Status == metav1.ConditionFalse && serving[node.Name] {
				report := e.fail
				if c.Reason == v1alpha1.ReasonInterfaceMissing {
					// Just attached, or the operator attaches it again.
					report = e.pend
				}
				report(where, kind+" is False: "+sentence(c.Reason, c.Message)+"; pods on it have no network", "kubectl -n "+e.Namespace+" logs deployment/weft-operator")
			}
		}
		ready := meta.IsStatusConditionTrue(n.Status.Conditions, v1alpha1.ConditionReady)
		if n.Status.InstanceID != "" && n.Spec.InstanceID != "" && n.Status.InstanceID != n.Spec.InstanceID {
			e.warn(where, fmt.Sprintf("its NodeNetwork's status is of instance %s, the node is %s: the agent hasn't reported yet", n.Status.InstanceID, n.Spec.InstanceID), "")
		}
		if n.Status.Waiting > 0 {
			e.warn(where, fmt.Sprintf("%d pods wait for an address (%d held, %d used, at most %d)", n.Status.Waiting, n.Status.Held, n.Status.Used, n.Status.Capacity), "")
		}
		for _, taint := range node.Spec.Taints {
			if taint.Key == e.TaintKey && ready && agents[node.Name] {
				e.warn(where, "is ready, but still has the start-up taint "+taint.Key, "see the operator's line")
			}
		}
	}
}

// surroundings says what is off and what is old.
func (e *evaluation) surroundings() {
	if cn := e.ClusterNetwork; cn != nil {
		for _, c := range cn.Status.Conditions {
			if c.Status == metav1.ConditionFalse {
				e.note("feature off", fmt.Sprintf("%s: %s", c.Type, sentence(c.Reason, c.Message)), "")
			}
		}
		if cn.Status.StaleSince != nil {
			e.warn("cluster network", "what is known of the VPC is of "+cn.Status.StaleSince.UTC().Format("2006-01-02 15:04:05 UTC")+": EC2 could not be read since", "see the operator's log: kubectl -n "+e.Namespace+" logs deployment/weft-operator")
		}
	}
	if e.Agent != nil && !e.OwnNodeOnly {
		e.note("feature off", "an agent's token can write other nodes' NodeNetworks too: ValidatingAdmissionPolicy weft-own-node is not there (it needs Kubernetes 1.30, this is "+e.Kubernetes+")", "")
	}
}

// pods counts what weft manages and says which wait as expected.
func (e *evaluation) pods() {
	used := map[string]bool{}
	for _, n := range e.NodeNetworks {
		for _, u := range n.Status.UsedAddresses {
			used[u.Address] = true
		}
	}
	up := e.Agent != nil && e.Agent.Status.NumberReady > 0
	var unmanaged, pending []string
	for i := range e.Pods {
		p := &e.Pods[i]
		name := p.Namespace + "/" + p.Name
		switch {
		case ended(p):
		case p.Status.PodIP == "":
			if p.Status.Phase == corev1.PodPending && p.Namespace == metav1.NamespaceSystem {
				pending = append(pending, name)
			}
		default:
			e.report.Pods.Total++
			if used[p.Status.PodIP] {
				e.report.Pods.Managed++
			} else {
				unmanaged = append(unmanaged, name)
			}
		}
	}
	if len(pending) > 0 && !up {
		sort.Strings(pending)
		e.note("pending", strings.Join(first(pending, 4), ", ")+": expected until the network is up", "")
	}
	if len(unmanaged) > 0 && up {
		sort.Strings(unmanaged)
		e.note("not managed", strings.Join(first(unmanaged, 4), ", ")+": made by another CNI, or the agent hasn't reported them yet", "restart them when it suits you")
	}
}

func (e *evaluation) own(name string) []corev1.Pod {
	var out []corev1.Pod
	for _, p := range e.Own {
		if p.Labels[NameLabel] == name && p.DeletionTimestamp == nil {
			out = append(out, p)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Spec.NodeName+"/"+out[i].Name < out[j].Spec.NodeName+"/"+out[j].Name
	})
	return out
}

func (e *evaluation) containers(name string, pods []corev1.Pod) {
	c := Container{Name: name}
	for _, p := range pods {
		running := false
		for _, st := range p.Status.ContainerStatuses {
			running = running || st.State.Running != nil
		}
		if running {
			c.Running++
		} else {
			c.Other++
		}
	}
	e.report.Containers = append(e.report.Containers, c)
}

func (e *evaluation) images() {
	counts := map[Image]int{}
	for _, p := range e.Own {
		component := "operator"
		if p.Labels[NameLabel] == AgentName {
			component = "agent"
		}
		specs := map[string]string{}
		for _, c := range p.Spec.Containers {
			specs[c.Name] = c.Image
		}
		for _, st := range p.Status.ContainerStatuses {
			image := Image{Component: component, Reference: specs[st.Name]}
			if _, digest, ok := strings.Cut(st.ImageID, "@"); ok {
				image.Digest = digest
			}
			counts[image]++
		}
	}
	for image, n := range counts {
		image.Count = n
		e.report.Images = append(e.report.Images, image)
	}
	sort.Slice(e.report.Images, func(i, j int) bool {
		a, b := e.report.Images[i], e.report.Images[j]
		return a.Component+a.Reference+a.Digest < b.Component+b.Reference+b.Digest
	})
}

func first(list []string, n int) []string {
	if len(list) <= n {
		return list
	}
	return append(append([]string{}, list[:n]...), fmt.Sprintf("%d more", len(list)-n))
}

func sentence(reason, message string) string {
	if message == "" {
		return reason
	}
	if reason == "" || strings.Contains(message, reason) {
		return message
	}
	return reason + ": " + message
}
