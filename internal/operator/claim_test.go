package operator

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
)

func addrs(text string) (out []netip.Addr) {
	for _, f := range strings.Fields(text) {
		out = append(out, netip.MustParseAddr("10.0.0."+f))
	}
	return out
}

func texts(in []netip.Addr) (out []string) {
	for _, a := range in {
		out = append(out, a.String())
	}
	return out
}

func toldOf(own, foreign string) *v1alpha1.Interface {
	out := &v1alpha1.Interface{ID: "eni-0", Managed: true, Foreign: texts(addrs(foreign))}
	for _, a := range addrs(own) {
		out.Addresses = append(out.Addresses, v1alpha1.Address{Address: a.String(), Generation: 1})
	}
	return out
}

func TestClaim(t *testing.T) {
	for _, c := range []struct {
		name         string
		secondary    string
		told         *v1alpha1.Interface
		cni          presence
		pods         string
		own, foreign string
	}{
		{name: "a fresh ENI", cni: active},
		{name: "first look, no other CNI: left by an install before", secondary: "5 6", own: "5 6"},
		{name: "first look, the other CNI is gone and its pods aren't", secondary: "5 6 7", pods: "6", own: "5 7", foreign: "6"},
		{name: "first look, the other CNI has left the node but exists", secondary: "5 6", cni: gated, foreign: "5 6"},
		{name: "first look, the other CNI runs", secondary: "5 6", cni: active, foreign: "5 6"},
		{name: "what endpoints have stays, whoever comes", secondary: "5 6", told: toldOf("5 6", ""), cni: active, pods: "5", own: "5 6"},
		{name: "what appears is weft's: its own call, or one whose answer was lost", secondary: "5 6 7", told: toldOf("5", ""), own: "5 6 7"},
		{name: "also beside one that exists elsewhere", secondary: "5 6 7", told: toldOf("5", "6"), cni: gated, own: "5 7", foreign: "6"},
		{name: "but not beside one that runs here", secondary: "5 6 7", told: toldOf("5", ""), cni: active, own: "5", foreign: "6 7"},
		{name: "nor if a pod has it that weft knows nothing of", secondary: "5 6", told: toldOf("5", ""), pods: "6", own: "5", foreign: "6"},
		{name: "another's stays another's while its CNI exists", secondary: "5 6", told: toldOf("5", "6"), cni: gated, own: "5", foreign: "6"},
		{name: "or while a pod has it", secondary: "5 6 7", told: toldOf("5", "6 7"), pods: "6", own: "5 7", foreign: "6"},
		{name: "what is gone is nobody's", secondary: "5", told: toldOf("5 6", "7"), cni: gated, own: "5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := others{cni: c.cni, pods: map[netip.Addr]bool{}}
			for _, a := range addrs(c.pods) {
				o.pods[a] = true
			}
			own, foreign := claim(addrs(c.secondary), c.told, o)
			if !slices.Equal(own, addrs(c.own)) || !slices.Equal(foreign, addrs(c.foreign)) {
				t.Errorf("own %v, foreign %v; want %s and %s", own, foreign, c.own, c.foreign)
			}
		})
	}
}

// Whatever happens on a node in whatever order, no address is weft's that the other CNI took while it ran, for
// as long as its DaemonSet exists or a pod has it; and weft's never become another's.
func TestClaimProperties(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 3))
		var told *v1alpha1.Interface
		taken := map[netip.Addr]string{} // by whom, in truth
		pods := map[netip.Addr]bool{}    // of the other CNI
		cni := presence(r.IntN(3))
		next := byte(1)
		for step := range 40 {
			switch r.IntN(6) {
			case 0:
				cni = presence(r.IntN(3))
			case 1, 2:
				// weft takes some, unless the ENI is closed to it or was never looked at; the answer may be lost.
				if told == nil || cni == active {
					continue
				}
				taken[netip.AddrFrom4([4]byte{10, 0, 0, next})] = "weft"
				next++
			case 3:
				if cni != active {
					continue
				}
				a := netip.AddrFrom4([4]byte{10, 0, 0, next})
				next++
				if taken[a] = "cni"; r.IntN(2) == 0 {
					pods[a] = true
				}
			case 4:
				for a := range pods {
					delete(pods, a)
					break
				}
			}
			var secondary []netip.Addr
			for a := range taken {
				secondary = append(secondary, a)
			}
			own, foreign := claim(secondary, told, others{cni: cni, pods: pods})
			if len(own)+len(foreign) != len(secondary) {
				t.Fatalf("seed %d step %d: %d addresses became %d and %d", seed, step, len(secondary), len(own), len(foreign))
			}
			before := told
			told = &v1alpha1.Interface{Managed: true, Foreign: texts(foreign)}
			for _, a := range own {
				told.Addresses = append(told.Addresses, v1alpha1.Address{Address: a.String()})
				if taken[a] == "weft" {
					continue
				}
				if cni != absent || pods[a] {
					had := before != nil && slices.ContainsFunc(before.Addresses, func(x v1alpha1.Address) bool { return x.Address == a.String() })
					if !had {
						t.Fatalf("seed %d step %d: %s of the other CNI is handed out (%v, pod %v)", seed, step, a, cni, pods[a])
					}
				}
				taken[a] = "weft" // taken over
			}
			if before == nil {
				continue
			}
			for _, a := range before.Addresses {
				if slices.Contains(texts(foreign), a.Address) {
					t.Fatalf("seed %d step %d: %s was an endpoint's and is now another's", seed, step, a.Address)
				}
			}
		}
	}
}

// awsNode makes or changes the AWS VPC CNI's DaemonSet.
func (w *world) awsNode(selector map[string]string) {
	w.t.Helper()
	set := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: vpcCNINamespace, Name: vpcCNIName}}
	set.Spec.Template.Spec.NodeSelector = selector
	if err := w.client.Create(w.t.Context(), set); err != nil {
		w.t.Fatal(err)
	}
	w.clock = w.clock.Add(neighbourAge)
}

func (w *world) deleteAWSNode() {
	w.t.Helper()
	set := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: vpcCNINamespace, Name: vpcCNIName}}
	if err := w.client.Delete(w.t.Context(), set); err != nil {
		w.t.Fatal(err)
	}
	w.clock = w.clock.Add(neighbourAge)
}

// primary is the ENI that came with instance n.
func (w *world) primary(n int) string {
	w.t.Helper()
	for _, e := range w.sim.Interfaces() {
		if e.Attachment != nil && e.Attachment.InstanceID == instance(n) && e.Attachment.DeviceIndex == 0 {
			return e.ID
		}
	}
	w.t.Fatalf("instance %d has no primary ENI", n)
	return ""
}

// theirs: the other CNI takes n addresses of a node's primary ENI.
func (w *world) theirs(node, n int) (out []string) {
	w.t.Helper()
	added, err := w.sim.AssignAddresses(w.t.Context(), w.primary(node), n)
	if err != nil {
		w.t.Fatal(err)
	}
	return texts(added)
}

// handed are the addresses that a node's agent may give to endpoints.
func (w *world) handed(name string) (own, foreign []string) {
	w.t.Helper()
	for _, i := range w.network(name).Spec.Interfaces {
		for _, a := range i.Addresses {
			own = append(own, a.Address)
		}
		foreign = append(foreign, i.Foreign...)
	}
	return own, foreign
}

func (w *world) notHanded(name string, theirs []string) {
	w.t.Helper()
	own, _ := w.handed(name)
	for _, a := range theirs {
		if slices.Contains(own, a) {
			w.t.Fatalf("%s is another CNI's and is handed out", a)
		}
	}
}

// Beside a running VPC CNI weft keeps off the primary ENI; once that has left the node weft uses the room that
// is left there; once it is deleted, weft takes over what no pod has.
func TestBesideAnotherCNI(t *testing.T) {
	w := newWorld(t)
	w.awsNode(nil)
	node := w.addNode("n1", 1, "m5.large", "subnet-a") // 3 ENIs with 9
	node.Labels = map[string]string{corev1.LabelOSStable: "linux"}
	theirs := w.theirs(1, 4)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "old"}, Spec: corev1.PodSpec{NodeName: "n1"}, Status: corev1.PodStatus{PodIP: theirs[0]}}
	if err := w.client.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	w.settle("n1")
	w.notHanded("n1", theirs)
	own, foreign := w.handed("n1")
	if len(own) != 8 || len(foreign) != 4 {
		t.Fatalf("own %v, foreign %v", own, foreign)
	}
	if n := len(w.sim.Calls("AssignPrivateIpAddresses")); n != 1 {
		t.Errorf("the primary ENI got addresses beside a VPC CNI that takes whatever is there")
	}
	if c := w.condition("n1"); c.Message != "8 addresses are assigned, the node can hold 18; 4 of its primary interface are another CNI's" {
		t.Errorf("condition %q", c.Message)
	}

	// It takes more while it runs.
	theirs = append(theirs, w.theirs(1, 2)...)
	w.nodes.Inventory.Doubt(instance(1))
	w.settle("n1")
	w.notHanded("n1", theirs)

	// weft install keeps it off every node: the room that is left is weft's, also across a restart.
	w.deleteAWSNode()
	w.awsNode(map[string]string{"io.cilium/aws-node-enabled": "true"})
	w.addPods("n1", 13)
	w.settle("n1")
	w.notHanded("n1", theirs)
	if own, foreign = w.handed("n1"); len(own) != 21 || len(foreign) != 6 {
		t.Errorf("%d own, %d foreign, want all that is left: 18 of two ENIs and 3", len(own), len(foreign))
	}
	w.restart()
	w.settle("n1")
	w.notHanded("n1", theirs)

	// It is deleted: what its last pod has stays that pod's.
	w.deleteAWSNode()
	w.settle("n1")
	own, foreign = w.handed("n1")
	if len(own) != 26 || !slices.Equal(foreign, theirs[:1]) {
		t.Errorf("%d own, foreign %v, want just %s", len(own), foreign, theirs[0])
	}
	if err := w.client.Delete(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	w.settle("n1")
	if own, foreign = w.handed("n1"); len(own) != 27 || len(foreign) != 0 {
		t.Errorf("%d own, foreign %v in the end", len(own), foreign)
	}
	w.check()
}

// Killed at each call beside a VPC CNI that was kept off the nodes: what weft assigned is found again though
// its answer was lost, what the other assigned is never handed out.
func TestKilledBesideAnotherCNI(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			what := fmt.Sprintf("killed at call %d, after %v", n, after)
			w := newWorld(t)
			w.cfg.IPAM.PreAllocate = 14
			w.restart()
			w.awsNode(map[string]string{"nowhere": "true"})
			w.addNode("n1", 1, "m5.large", "subnet-a")
			theirs := w.theirs(1, 3)
			w.kill(n, after)
			done := w.live("n1")
			w.sim.Hook(nil)
			w.restart()
			w.settle("n1")
			w.notHanded("n1", theirs)
			if own, foreign := w.handed("n1"); len(own) != 14 || len(foreign) != 3 {
				t.Fatalf("%s: %d own, %d foreign: %v", what, len(own), len(foreign), w.sim.Mutations())
			}
			w.check()
			if n > 100 {
				t.Fatal("the operator never comes to an end")
			}
			if done {
				break
			}
		}
	}
}

func TestNeighbourSelects(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64", "size": "7"}}}
	require := func(e ...corev1.NodeSelectorRequirement) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: e}
	}
	r := func(key string, op corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorRequirement {
		return corev1.NodeSelectorRequirement{Key: key, Operator: op, Values: values}
	}
	for _, c := range []struct {
		name     string
		selector map[string]string
		terms    []corev1.NodeSelectorTerm
		want     bool
	}{
		{name: "anywhere", want: true},
		{name: "its label", selector: map[string]string{"kubernetes.io/os": "linux"}, want: true},
		{name: "kept off", selector: map[string]string{"io.cilium/aws-node-enabled": "true"}},
		{name: "as EKS has it", want: true, terms: []corev1.NodeSelectorTerm{require(r("kubernetes.io/os", "In", "linux"), r("kubernetes.io/arch", "In", "amd64", "arm64"), r("eks.amazonaws.com/compute-type", "NotIn", "fargate"))}},
		{name: "another architecture", terms: []corev1.NodeSelectorTerm{require(r("kubernetes.io/arch", "In", "amd64"))}},
		{name: "one of two terms", want: true, terms: []corev1.NodeSelectorTerm{require(r("kubernetes.io/arch", "In", "amd64")), require(r("size", "Gt", "6"))}},
		{name: "below", terms: []corev1.NodeSelectorTerm{require(r("size", "Lt", "7"))}},
		{name: "absent", terms: []corev1.NodeSelectorTerm{require(r("size", "DoesNotExist"))}},
		{name: "present", want: true, terms: []corev1.NodeSelectorTerm{require(r("size", "Exists"))}},
		{name: "not understood", want: true, terms: []corev1.NodeSelectorTerm{require(r("size", "Near", "7"))}},
	} {
		s := corev1.PodSpec{NodeSelector: c.selector}
		if c.terms != nil {
			s.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: c.terms}}}
		}
		if got := selects(s, node); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
