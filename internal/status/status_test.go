package status

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/contract"
)

const digest = "ghcr.io/weft-cni/agent@sha256:0123"

// healthy is a cluster of n nodes in which all is well.
func healthy(n int) Snapshot {
	two := int32(2)
	s := Snapshot{
		Namespace: "kube-system", Kubernetes: "v1.31.2-eks-7f9249a", TaintKey: contract.DefaultTaintKey, OwnNodeOnly: true,
		Agent: &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "weft", Namespace: "kube-system"}, Status: appsv1.DaemonSetStatus{
			DesiredNumberScheduled: int32(n), NumberReady: int32(n), NumberAvailable: int32(n), UpdatedNumberScheduled: int32(n)}},
		Operator: &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "weft-operator", Namespace: "kube-system"},
			Spec: appsv1.DeploymentSpec{Replicas: &two}, Status: appsv1.DeploymentStatus{ReadyReplicas: 2, AvailableReplicas: 2}},
		ClusterNetwork: &v1alpha1.ClusterNetwork{Spec: v1alpha1.ClusterNetworkSpec{ClusterName: "c1"}},
	}
	for i := 0; i < n; i++ {
		node := fmt.Sprintf("node-%d", i)
		s.Nodes = append(s.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}})
		s.Own = append(s.Own, pod("weft-"+node, AgentName, node))
		if i < 2 {
			s.Own = append(s.Own, pod("weft-operator-"+node, OperatorName, node))
		}
		address := fmt.Sprintf("192.168.0.%d", 10+i)
		s.NodeNetworks = append(s.NodeNetworks, v1alpha1.NodeNetwork{
			ObjectMeta: metav1.ObjectMeta{Name: node},
			Spec:       v1alpha1.NodeNetworkSpec{InstanceID: "i-" + node, Interfaces: []v1alpha1.Interface{{ID: "eni-1"}}},
			Status: v1alpha1.NodeNetworkStatus{InstanceID: "i-" + node, UsedAddresses: []v1alpha1.UsedAddress{{Address: address}},
				Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}, {Type: v1alpha1.ConditionAddressesAssigned, Status: metav1.ConditionTrue}}},
		})
		s.Pods = append(s.Pods, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p-" + node}, Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address}})
	}
	return s
}

func pod(name, kind, node string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name, Labels: map[string]string{NameLabel: kind}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "ghcr.io/weft-cni/agent:v0.1.0"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning,
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "c", ImageID: digest, Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}},
	}
}

// agentDown makes node-0's agent not ready, with what its pod shows.
func agentDown(s *Snapshot, change func(*corev1.Pod)) {
	s.Agent.Status.NumberReady--
	s.Agent.Status.NumberAvailable--
	p := &s.Own[0]
	p.Status.Conditions = nil
	p.Status.ContainerStatuses[0].Ready = false
	if change != nil {
		change(p)
	}
}

func waiting(reason, message string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodPending
		p.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
}

func condition(s *Snapshot, kind string, value metav1.ConditionStatus, reason, message string) {
	n := &s.NodeNetworks[0]
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == kind {
			n.Status.Conditions[i] = metav1.Condition{Type: kind, Status: value, Reason: reason, Message: message}
			return
		}
	}
	n.Status.Conditions = append(n.Status.Conditions, metav1.Condition{Type: kind, Status: value, Reason: reason, Message: message})
}

func kubelet(s *Snapshot, ready corev1.ConditionStatus, message string) {
	reason := map[corev1.ConditionStatus]string{corev1.ConditionTrue: "KubeletReady", corev1.ConditionFalse: "KubeletNotReady"}[ready]
	s.Nodes[0].Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Reason: reason, Message: message}}
}

func dns(name string, ready bool) corev1.Pod {
	p := pod("coredns-"+name, "", "node-0")
	p.Labels = map[string]string{"k8s-app": "kube-dns"}
	p.Status.PodIP = "192.168.9.9"
	if !ready {
		p.Status.PodIP, p.Status.Conditions, p.Status.Phase = "", nil, corev1.PodPending
		p.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
	}
	return p
}

// capacities gives every node max-pods, its addresses and the pods in its own network.
func capacities(s *Snapshot, maxPods int64, capacity int32, host int) {
	s.HostPods = map[string]int{}
	for i := range s.Nodes {
		s.HostPods[s.Nodes[i].Name] = host
		s.Nodes[i].Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(maxPods, resource.DecimalSI)}
		s.NodeNetworks[i].Spec.InstanceType, s.NodeNetworks[i].Status.Capacity = "m5.xlarge", capacity
	}
}

func TestEvaluate(t *testing.T) {
	for _, test := range []struct {
		name                    string
		nodes                   int
		change                  func(*Snapshot)
		errors, warnings, notes []string
		coming                  bool // the first error is on its way to be none
	}{
		{name: "all is well", nodes: 3},
		{name: "not installed", nodes: 1, change: func(s *Snapshot) { *s = Snapshot{Namespace: "kube-system", Nodes: s.Nodes} },
			errors: []string{"DaemonSet kube-system/weft: is not there: weft is not installed"}},
		{name: "an agent of a node that is gone", nodes: 2, change: func(s *Snapshot) {
			p := pod("weft-node-gone", AgentName, "node-gone")
			p.Status.Conditions = nil
			s.Own = append(s.Own, p)
		}},
		{name: "an interface was taken away", nodes: 2, change: func(s *Snapshot) {
			condition(s, v1alpha1.ConditionInterfacesReady, metav1.ConditionFalse, "InterfaceMissing", "assigned, but no device has the MAC of: eni-1")
		}, errors: []string{"node node-0: InterfacesReady is False: InterfaceMissing: assigned, but no device has the MAC of: eni-1; pods on it have no network"}},
		{name: "image missing", nodes: 2, change: func(s *Snapshot) { agentDown(s, waiting("ImagePullBackOff", `manifest unknown`)) },
			errors: []string{"agent on node node-0: image ghcr.io/weft-cni/agent:v0.1.0 is missing: ImagePullBackOff: manifest unknown"}},
		{name: "not scheduled", nodes: 2, change: func(s *Snapshot) {
			agentDown(s, func(p *corev1.Pod) {
				p.Spec.NodeName, p.Status.Phase, p.Status.ContainerStatuses = "", corev1.PodPending, nil
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/2 nodes are available: 2 Insufficient cpu."}}
			})
		}, errors: []string{"pod kube-system/weft-node-0: is not scheduled because of Unschedulable: 0/2 nodes are available: 2 Insufficient cpu."}},
		{name: "crashes", nodes: 2, change: func(s *Snapshot) {
			agentDown(s, waiting("CrashLoopBackOff", ""))
			s.Own[0].Status.ContainerStatuses[0].RestartCount = 4
			s.Own[0].Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", Message: "starting\nkernel 4.14: found no BPF, expected 5.10 or later\n"}
		}, errors: []string{"agent on node node-0: crashed 4 times, the last time it ended with code 1: kernel 4.14: found no BPF"}},
		{name: "no resources yet", nodes: 2, change: func(s *Snapshot) {
			agentDown(s, nil)
			s.NoResources, s.NodeNetworks = true, nil
		}, errors: []string{"agent on node node-0: waits for the operator, which makes the CRDs"}, notes: []string{"not managed"}},
		{name: "no NodeNetwork yet", nodes: 2, change: func(s *Snapshot) { agentDown(s, nil); s.NodeNetworks = s.NodeNetworks[1:] },
			errors: []string{"agent on node node-0: waits for the operator, which hasn't made the NodeNetwork node-0"}, notes: []string{"not managed"}},
		{name: "waits for ENIs", nodes: 2, change: func(s *Snapshot) { agentDown(s, nil); s.NodeNetworks[0].Spec.Interfaces = nil },
			errors: []string{"agent on node node-0: waits for ENIs: the operator hasn't assigned any"}},
		{name: "a right is missing", nodes: 2, change: func(s *Snapshot) {
			agentDown(s, nil)
			condition(s, v1alpha1.ConditionAddressesAssigned, metav1.ConditionFalse, "UnauthorizedOperation", "ec2:CreateNetworkInterface: the role may not call it")
		}, errors: []string{"agent on node node-0: waits for ENIs: UnauthorizedOperation",
			"node node-0: EC2 doesn't give what it needs: UnauthorizedOperation: ec2:CreateNetworkInterface: the role may not call it -> add the action to the IAM policy"}},
		{name: "a right is missing, the agent is well", nodes: 2, change: func(s *Snapshot) {
			condition(s, v1alpha1.ConditionAddressesAssigned, metav1.ConditionFalse, "UnauthorizedOperation", "ec2:CreateNetworkInterface")
		}, errors: []string{"node node-0: EC2 doesn't give"}},
		{name: "devices", nodes: 2, change: func(s *Snapshot) {
			agentDown(s, nil)
			condition(s, v1alpha1.ConditionInterfacesReady, metav1.ConditionFalse, "Missing", "eni-2 (02:..) is not there")
		}, errors: []string{"agent on node node-0: InterfacesReady is False: Missing: eni-2 (02:..) is not there"}},
		{name: "not ready without a reason", nodes: 2, change: func(s *Snapshot) { agentDown(s, nil) },
			errors: []string{"agent on node node-0: runs but isn't ready -> kubectl -n kube-system logs weft-node-0"}},
		{name: "NodeNetwork of a node that is gone", nodes: 2, change: func(s *Snapshot) {
			s.NodeNetworks = append(s.NodeNetworks, v1alpha1.NodeNetwork{ObjectMeta: metav1.ObjectMeta{Name: "old"}, Status: v1alpha1.NodeNetworkStatus{
				Conditions: []metav1.Condition{{Type: v1alpha1.ConditionAddressesAssigned, Status: metav1.ConditionFalse}}}})
		}},
		{name: "no operator", nodes: 2, change: func(s *Snapshot) { s.Operator = nil }, errors: []string{"Deployment kube-system/weft-operator: is not there"}},
		{name: "one operator of two", nodes: 2, change: func(s *Snapshot) {
			s.Operator.Status.ReadyReplicas = 1
			s.Own[1].Status.Conditions = nil
		}, warnings: []string{"operator on node node-0: runs but isn't ready"}},
		{name: "no operator is ready", nodes: 2, change: func(s *Snapshot) {
			s.Operator.Status.ReadyReplicas = 0
			s.Own[1].Status.Conditions, s.Own[3].Status.Conditions = nil, nil
		}, errors: []string{"operator on node node-0: runs but", "operator on node node-1: runs but"}},
		{name: "two operators, one node", nodes: 1, change: func(s *Snapshot) {
			s.Operator.Status.ReadyReplicas = 1
			p := pod("weft-operator-b", OperatorName, "")
			p.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable"}}}
			s.Own = append(s.Own, p)
		}, notes: []string{"operator pod weft-operator-b: is not scheduled: 2 replicas never share a node, and the cluster has 1"}},
		{name: "operator scaled to 0", nodes: 2, change: func(s *Snapshot) {
			zero := int32(0)
			s.Operator.Spec.Replicas, s.Operator.Status.ReadyReplicas = &zero, 0
		}, errors: []string{"is scaled to 0"}},
		{name: "a feature is off", nodes: 2, change: func(s *Snapshot) {
			s.ClusterNetwork.Status.Conditions = []metav1.Condition{{Type: "UnassignPrivateIpAddresses", Status: metav1.ConditionFalse, Reason: "UnauthorizedOperation", Message: "addresses are not given back"}}
		}, notes: []string{"feature off: UnassignPrivateIpAddresses: UnauthorizedOperation: addresses are not given back"}},
		{name: "old facts", nodes: 2, change: func(s *Snapshot) {
			s.ClusterNetwork.Status.StaleSince = &metav1.Time{Time: time.Unix(0, 0)}
		}, warnings: []string{"cluster network: what is known of the VPC is of 1970-01-01"}},
		{name: "coredns waits", nodes: 1, change: func(s *Snapshot) {
			agentDown(s, waiting("ContainerCreating", ""))
			s.Pods = []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "coredns-1"}, Status: corev1.PodStatus{Phase: corev1.PodPending}}}
		}, errors: []string{"agent on node node-0: is being created"}, notes: []string{"pending: kube-system/coredns-1: expected until the network is up"}},
		{name: "unmanaged pods", nodes: 2, change: func(s *Snapshot) {
			s.Pods = append(s.Pods, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "old"}, Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "192.168.9.9"}},
				corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "done"}, Status: corev1.PodStatus{Phase: corev1.PodSucceeded, PodIP: "192.168.9.9"}})
		}, notes: []string{"not managed: a/old"}},
		{name: "the taint stays", nodes: 2, change: func(s *Snapshot) { s.Nodes[0].Spec.Taints = []corev1.Taint{{Key: contract.DefaultTaintKey}} },
			warnings: []string{"node node-0: is ready, but still has the start-up taint"}},
		{name: "no address free", nodes: 2, change: func(s *Snapshot) { s.NodeNetworks[0].Status.Waiting = 3 }, warnings: []string{"node node-0: 3 pods wait for an address"}},
		{name: "another instance's status", nodes: 2, change: func(s *Snapshot) { s.NodeNetworks[0].Status.InstanceID = "i-old" }, warnings: []string{"node node-0: its NodeNetwork's status is of instance i-old"}},
		{name: "the agent is starting", nodes: 2, change: func(s *Snapshot) {
			agentDown(s, nil)
			condition(s, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonStarting, "cni installed")
		}, errors: []string{"agent on node node-0: Ready is False: Starting: cni installed"}, coming: true},
		{name: "kubelet is behind", nodes: 2, change: func(s *Snapshot) {
			kubelet(s, corev1.ConditionFalse, "container runtime network not ready: cni plugin not initialized")
		}, errors: []string{"node node-0: its agent is ready, its kubelet isn't: KubeletNotReady: container runtime network not ready"}},
		{name: "kubelet is ready", nodes: 2, change: func(s *Snapshot) { kubelet(s, corev1.ConditionTrue, "") }},
		{name: "kubelet and agent aren't ready", nodes: 2, change: func(s *Snapshot) {
			agentDown(s, nil)
			kubelet(s, corev1.ConditionFalse, "cni plugin not initialized")
		}, errors: []string{"agent on node node-0: runs but isn't ready"}},
		{name: "no DNS yet", nodes: 2, change: func(s *Snapshot) { s.Pods = append(s.Pods, dns("a", false), dns("b", false)) },
			warnings: []string{"cluster DNS: none of 2 pods is ready: coredns-a is being created -> kubectl -n kube-system describe pods -l k8s-app=kube-dns"}},
		{name: "half of DNS", nodes: 2, change: func(s *Snapshot) { s.Pods = append(s.Pods, dns("a", false), dns("b", true)) }, notes: []string{"not managed: kube-system/coredns-b"}},
		{name: "more pods than addresses", nodes: 5, change: func(s *Snapshot) { capacities(s, 58, 42, 3) },
			notes: []string{"nodes node-0, node-1, node-2, 2 more: max-pods is 58, but with these settings an instance of type m5.xlarge has addresses for 42 pods, beside 3 in the host's network: the scheduler may place pods there that get no address -> set max-pods to 45 ("}},
		{name: "max-pods as EKS computes it", nodes: 2, change: func(s *Snapshot) { capacities(s, 58, 56, 1) }},
		{name: "max-pods beside many pods of the host", nodes: 2, change: func(s *Snapshot) { capacities(s, 58, 50, 8) }},
		{name: "one node is smaller", nodes: 3, change: func(s *Snapshot) {
			capacities(s, 58, 56, 3)
			s.NodeNetworks[1].Status.Capacity = 20
		}, notes: []string{"node node-1: max-pods is 58, but with these settings an instance of type m5.xlarge has addresses for 20 pods"}},
		{name: "capacity isn't known yet", nodes: 2, change: func(s *Snapshot) { capacities(s, 58, 0, 3) }},
		{name: "no node wants it", nodes: 2, change: func(s *Snapshot) { s.Agent.Status = appsv1.DaemonSetStatus{}; s.Own = s.Own[1:2] }, warnings: []string{"no node wants an agent"}},
		{name: "a roll-out", nodes: 2, change: func(s *Snapshot) { s.Agent.Status.UpdatedNumberScheduled = 1 }, warnings: []string{"is being rolled out: 1 of 2"}},
		{name: "before 1.30", nodes: 2, change: func(s *Snapshot) { s.OwnNodeOnly, s.Kubernetes = false, "v1.27.9" }, notes: []string{"needs Kubernetes 1.30, this is v1.27.9"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := healthy(test.nodes)
			if test.change != nil {
				test.change(&s)
			}
			r := Evaluate(s)
			expect(t, "errors", r.Errors, test.errors)
			if test.coming && (!r.Errors[0].InProgress || r.Components[0].State != Waiting) {
				t.Errorf("%+v counts as failed: %+v", r.Errors[0], r.Components[0])
			}
			expect(t, "warnings", r.Warnings, test.warnings)
			expect(t, "notes", r.Notes, test.notes)
			if want := len(test.errors)+len(test.warnings) == 0; r.Healthy != want {
				t.Errorf("healthy is %v, expected %v", r.Healthy, want)
			}
			if r.OK(true) != (len(test.errors) == 0) {
				t.Error("warnings are not ignored, or errors are")
			}
		})
	}
}

func expect(t *testing.T, what string, got []Finding, want []string) {
	t.Helper()
	lines := make([]string, 0, len(got))
	for _, f := range got {
		lines = append(lines, f.Line())
	}
	if len(lines) != len(want) {
		t.Errorf("%d %s, expected %d: %q", len(lines), what, len(want), lines)
		return
	}
	for i := range want {
		if !strings.Contains(lines[i], want[i]) {
			t.Errorf("%s: found %q, expected %q in it", what, lines[i], want[i])
		}
	}
}

func TestDraw(t *testing.T) {
	s := healthy(3)
	s.Pods = s.Pods[:2]
	var b bytes.Buffer
	if err := Draw(&b, Evaluate(s), false); err != nil {
		t.Fatal(err)
	}
	want := `weft in namespace kube-system of cluster c1

  agent          OK
  operator       OK
  node health    disabled
  proxy          disabled
  relay          disabled
  cluster mesh   disabled

  DaemonSet     weft           Desired: 3  Ready: 3/3  Available: 3/3
  Deployment    weft-operator  Desired: 2  Ready: 2/2  Available: 2/2
  Containers    agent          Running: 3
  Containers    operator       Running: 2
  Cluster Pods  2/2 managed
  Image         agent     ghcr.io/weft-cni/agent:v0.1.0@sha256:0123: 3
  Image         operator  ghcr.io/weft-cni/agent:v0.1.0@sha256:0123: 2
`
	if b.String() != want {
		t.Errorf("found\n%s\nexpected\n%s", b.String(), want)
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("color where none was asked for")
	}
	b.Reset()
	if err := Draw(&b, Evaluate(s), true); err != nil || !strings.Contains(b.String(), "\x1b[32mOK\x1b[0m") {
		t.Errorf("no color: %v", err)
	}
}

func TestWait(t *testing.T) {
	bad := healthy(2)
	agentDown(&bad, nil)
	n := 0
	read := func(context.Context) (Snapshot, error) {
		n++
		switch {
		case n == 2:
			return Snapshot{}, errors.New("the API server restarts")
		case n < 5:
			return bad, nil
		}
		return healthy(2), nil
	}
	var lines []string
	r, err := Wait(t.Context(), read, false, time.Millisecond, func(r Report) { lines = append(lines, r.Brief()) })
	if err != nil || !r.Healthy || n != 5 {
		t.Errorf("found %v after %d readings", err, n)
	}
	if len(lines) != 2 || !strings.Contains(lines[0], "1 of 2 ready") {
		t.Errorf("a line is for a change, found %q", lines)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	r, err = Wait(ctx, func(context.Context) (Snapshot, error) { return bad, nil }, false, time.Millisecond, func(Report) {})
	if !errors.Is(err, ErrUnhealthy) || len(r.Errors) != 1 {
		t.Errorf("found %v, %v", err, r.Errors)
	}
	ctx2, cancel2 := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel2()
	away := errors.New("no cluster")
	if _, err = Wait(ctx2, func(context.Context) (Snapshot, error) { return Snapshot{}, away }, false, time.Millisecond, func(Report) {}); !errors.Is(err, away) {
		t.Errorf("found %v", err)
	}
}

// What was never installed isn't waited for; what is being installed is.
func TestWaitForNothing(t *testing.T) {
	none := Snapshot{Namespace: "kube-system", Nodes: healthy(2).Nodes}
	said := 0
	r, err := Wait(t.Context(), func(context.Context) (Snapshot, error) { return none, nil }, false, time.Hour, func(Report) { said++ })
	if !errors.Is(err, ErrAbsent) || r.Healthy || said != 1 {
		t.Errorf("found %v, healthy %v, said %d times", err, r.Healthy, said)
	}
	n := 0
	_, err = Wait(t.Context(), func(context.Context) (Snapshot, error) {
		if n++; n < 3 {
			coming := none
			coming.Release = true
			return coming, nil
		}
		return healthy(2), nil
	}, false, time.Millisecond, func(Report) {})
	if err != nil || n != 3 {
		t.Errorf("found %v after %d readings", err, n)
	}
}
