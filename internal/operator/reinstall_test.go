package operator

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// An install after an uninstall, on the same nodes: EC2 remembers the client tokens of the first, and would
// answer with ENIs that are gone; an operator waits for those until it stops believing in them.
func TestReinstall(t *testing.T) {
	w := newWorld(t)
	w.cfg.ENI.FirstInterfaceIndex = 1
	node := w.addNode("n1", 1, "m5.large", "subnet-a")
	w.addPods("n1", 12)
	for _, uid := range []types.UID{"first", "second"} {
		nn := newNodeNetwork(node)
		nn.UID = uid
		if err := w.client.Create(t.Context(), nn); err != nil {
			t.Fatal(err)
		}
		w.restart()
		began := w.clock
		w.settle("n1")
		// An ENI that was never there is believed in for a while: EC2 may lag.
		if took := w.clock.Sub(began); took > 20*time.Second {
			t.Errorf("the %s install took %s", uid, took)
		}
		if got := w.network("n1").UID; got != uid {
			t.Fatalf("the NodeNetwork is %s, want %s", got, uid)
		}
		if len(w.ours()) == 0 || w.addresses("n1") < 12 {
			t.Fatalf("%s install: %d ENIs and %d addresses for 12 pods: %+v", uid, len(w.ours()), w.addresses("n1"), w.condition("n1"))
		}
		w.check()
		for _, e := range w.ours() {
			if err := w.sim.DetachInterface(t.Context(), e.Attachment.ID, true); err != nil {
				t.Fatal(err)
			}
			w.clock = w.clock.Add(5 * time.Second)
			if err := w.sim.DeleteInterface(t.Context(), e.ID); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.client.Delete(t.Context(), w.network("n1")); err != nil {
			t.Fatal(err)
		}
	}
}
