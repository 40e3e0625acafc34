package operator

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
)

// An ENI that somebody detached comes back as soon as its node says that it is missing: no minute has to pass.
func TestLostInterfaceIsAttachedAgain(t *testing.T) {
	for _, c := range []struct {
		what string
		age  time.Duration // of the attachment
		back bool
	}{
		{"half a minute old", 30 * time.Second, true},
		// Its device may be yet to come, and a describe that shows no attachment may be older than it.
		{"new", 0, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			w := newWorld(t)
			w.addNode("n1", 1, "m5.large", "subnet-a")
			w.addPods("n1", 12)
			w.settle("n1")
			e := w.ours()[0]
			w.clock = w.clock.Add(c.age)
			if err := w.sim.DetachInterface(t.Context(), e.Attachment.ID, true); err != nil {
				t.Fatal(err)
			}
			w.clock = w.clock.Add(5 * time.Second) // it is off
			if w.ours()[0].Attachment != nil {
				t.Fatal("EC2 has it still attached")
			}
			w.nodes.Inventory.Lost(instance(1))
			w.settle("n1")
			back := w.ours()[0].Attachment != nil
			if back != c.back {
				t.Errorf("attached again: %v, want %v", back, c.back)
			}
			w.nodes.Inventory.Lost("i-unknown")
		})
	}
}

func TestLost(t *testing.T) {
	with := func(status metav1.ConditionStatus, reason, message string) *v1alpha1.NodeNetwork {
		nn := &v1alpha1.NodeNetwork{Spec: v1alpha1.NodeNetworkSpec{InstanceID: "i-1"}}
		if reason != "" {
			meta.SetStatusCondition(&nn.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionInterfacesReady, Status: status, Reason: reason, Message: message})
		}
		return nn
	}
	up, one := with(metav1.ConditionTrue, "SetUp", ""), with(metav1.ConditionFalse, v1alpha1.ReasonInterfaceMissing, "eni-1")
	two, none := with(metav1.ConditionFalse, v1alpha1.ReasonInterfaceMissing, "eni-1, eni-2"), with("", "", "")
	for _, c := range []struct {
		what          string
		before, after *v1alpha1.NodeNetwork
		want          string
	}{
		{"it goes", up, one, "i-1"},
		{"another goes", one, two, "i-1"},
		{"first report", none, one, "i-1"},
		{"said before", one, one, ""},
		{"it is back", one, up, ""},
		{"another fault", up, with(metav1.ConditionFalse, "SetUpFailed", "x"), ""},
		{"no report", up, none, ""},
	} {
		if got := lost(c.before, c.after); got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
}
