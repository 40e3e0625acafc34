package operator

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/ec2"
	"github.com/weft-cni/weft/internal/ec2/ec2sim"
)

// kill makes the n-th call from now on, and every later one, fail: before it reached EC2, or after it was
// carried out. It returns how many calls were let through.
func (w *world) kill(n int, after bool) {
	base := len(w.sim.Calls())
	w.sim.Hook(func(c ec2sim.Call) ec2sim.Fault {
		killed := &ec2.Error{Action: c.Action, Kind: ec2.ErrUncertain, Err: errKilled}
		switch {
		case c.N-base < n:
			return ec2sim.Fault{}
		case c.N-base == n && after:
			return ec2sim.Fault{After: killed}
		}
		return ec2sim.Fault{Before: killed}
	})
}

// live lets an operator work until it is killed; done: it got to its end.
func (w *world) live(name string) (done bool) {
	for range 60 {
		wait, err := w.once(name)
		calls := w.sim.Calls()
		if err != nil || len(calls) > 0 && errors.Is(calls[len(calls)-1].Err, errKilled) {
			return false
		}
		if wait == 0 || wait >= w.cfg.SyncInterval.Duration {
			return true
		}
		w.clock = w.clock.Add(wait)
	}
	w.t.Fatal("the operator doesn't settle")
	return false
}

// settledWell: everything that exists is used.
func (w *world) settledWell(what string) {
	w.t.Helper()
	w.check()
	told := map[string]bool{}
	for _, i := range w.network("n1").Spec.Interfaces {
		told[i.ID] = true
	}
	for _, e := range w.ours() {
		switch {
		case e.Attachment == nil:
			w.t.Errorf("%s: %s leaked", what, e.ID)
		case !e.Attachment.DeleteOnTermination:
			w.t.Errorf("%s: %s would leak when its instance ends", what, e.ID)
		case !told[e.ID]:
			w.t.Errorf("%s: the agent isn't told of %s", what, e.ID)
		}
	}
}

// Killed before or after each of its calls, an operator is followed by another: nothing is leaked, nothing
// made twice, and the node has what it needs.
func TestKilledAtEveryCall(t *testing.T) {
	for _, lag := range []time.Duration{0, 5 * time.Second} {
		for _, after := range []bool{false, true} {
			if lag > 0 && !after {
				continue // nothing changed in EC2 that could show late
			}
			for n := 1; ; n++ {
				what := fmt.Sprintf("killed at call %d, after %v, lag %s", n, after, lag)
				w := newWorld(t)
				w.cfg.IPAM.PreAllocate = 38
				w.restart()
				w.addNode("n1", 1, "m5.xlarge", "subnet-a")
				w.clock = w.clock.Add(time.Minute)
				w.sim.Lag = lag
				w.kill(n, after)
				done := w.live("n1")
				w.sim.Hook(nil)
				w.restart()
				w.pass(t.Context())
				w.settle("n1")
				w.clock = w.clock.Add(2 * time.Minute)
				w.pass(t.Context())
				w.nodes.Inventory.Doubt(instance(1))
				w.settle("n1")
				w.settledWell(what)
				if got := w.addresses("n1"); got < 38 || got > 56 {
					t.Errorf("%s: %d addresses, want 38", what, got)
				}
				if t.Failed() {
					t.Fatalf("%s: %v", what, w.sim.Mutations())
				}
				if n > 200 {
					t.Fatal("the operator never comes to an end")
				}
				if done {
					if n < 10 {
						t.Fatalf("only %d calls were tried", n)
					}
					break
				}
			}
		}
	}
}

// Killed at each call, and its instance terminated before another operator comes: one round of garbage
// collection leaves no ENI.
func TestKilledAndTerminated(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			w := newWorld(t)
			w.cfg.IPAM.PreAllocate = 38
			w.restart()
			node := w.addNode("n1", 1, "m5.xlarge", "subnet-a")
			theirs := w.sim.AddInterface("subnet-a", "aws-K8S-"+instance(9), "", 0, map[string]string{"node.k8s.amazonaws.com/instance_id": instance(9)})
			cilium := w.sim.AddInterface("subnet-a", "Cilium-CNI ("+instance(9)+")", "", 0, map[string]string{"io.cilium/cilium-managed": "true", "io.cilium/cluster-name": "demo"})
			neighbour := w.sim.AddInterface("subnet-a", "weft "+instance(8), "", 0, map[string]string{ec2.TagManaged: "true", ec2.TagCluster: "other", ec2.TagInstance: instance(8)})
			w.kill(n, after)
			done := w.live("n1")
			w.sim.Hook(nil)
			w.sim.Terminate(instance(1))
			if err := w.client.Delete(t.Context(), node); err != nil {
				t.Fatal(err)
			}
			w.restart()
			if _, err := w.once("n1"); err != nil {
				t.Fatal(err)
			}
			w.pass(t.Context())
			if n%2 == 0 {
				w.sim.Forget(instance(1))
			}
			w.clock = w.clock.Add(2 * time.Minute)
			w.pass(t.Context())
			if left := w.ours(); len(left) > 0 {
				t.Fatalf("killed at call %d, after %v: %d ENIs leaked", n, after, len(left))
			}
			kept := map[string]bool{}
			for _, e := range w.sim.Interfaces() {
				kept[e.ID] = true
			}
			if !kept[theirs] || !kept[cilium] || !kept[neighbour] {
				t.Fatalf("garbage collection deleted an ENI that isn't this cluster's")
			}
			w.check()
			if n > 200 {
				t.Fatal("the operator never comes to an end")
			}
			if done {
				break
			}
		}
	}
}

// An ENI is garbage only when two passes, half a minute apart, see it unattached; one that a live node wants
// never is.
func TestGarbage(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	w.settle("n1")
	tags := map[string]string{ec2.TagManaged: "true", ec2.TagCluster: "demo", ec2.TagInstance: instance(1), ec2.TagNode: "n1"}
	w.sim.AddInterface("subnet-a", ec2.Description(instance(1)), "", 0, tags)
	for range 5 {
		w.pass(t.Context())
		w.clock = w.clock.Add(collectGrace / 6)
	}
	if len(w.ours()) != 1 {
		t.Fatal("deleted within the grace")
	}
	w.clock = w.clock.Add(collectGrace / 3)
	w.pass(t.Context())
	if len(w.ours()) != 0 {
		t.Fatal("not deleted after the grace")
	}

	// EC2 says that the instance has ended: two looks are enough. It says nothing: they are not.
	w.addNode("n2", 2, "m5.large", "subnet-a")
	w.sim.Terminate(instance(2))
	for _, n := range []int{2, 3} {
		w.sim.AddInterface("subnet-a", ec2.Description(instance(n)), "", 0, map[string]string{ec2.TagManaged: "true", ec2.TagCluster: "demo", ec2.TagInstance: instance(n)})
	}
	if w.pass(t.Context()); len(w.ours()) != 2 {
		t.Fatal("deleted at the first look")
	}
	w.clock = w.clock.Add(5 * time.Second)
	w.pass(t.Context())
	if left := w.ours(); len(left) != 1 || left[0].Tags[ec2.TagInstance] != instance(3) {
		t.Fatalf("after two looks: %+v, want that of the instance of which nothing is known", left)
	}
	w.clock = w.clock.Add(collectGrace)
	if w.pass(t.Context()); len(w.ours()) != 0 {
		t.Fatal("not deleted after the grace")
	}

	// The role may not attach: what the node wants stays, and there is but one.
	w.sim.Deny(ec2.ActionAttachInterface)
	w.addPods("n1", 10)
	for range 40 {
		if _, err := w.once("n1"); err != nil {
			t.Fatal(err)
		}
		w.clock = w.clock.Add(20 * time.Second)
		w.pass(t.Context())
	}
	if n := len(w.ours()); n != 1 {
		t.Errorf("%d ENIs, want the one that waits", n)
	}
	if n := len(w.sim.Calls(ec2.ActionCreateInterface)); n != 1 {
		t.Errorf("%d creates while nothing can be attached", n)
	}
	w.sim.Deny(ec2.ActionDeleteInterface)
	w.sim.AddInterface("subnet-a", "weft", "", 0, map[string]string{ec2.TagManaged: "true", ec2.TagCluster: "demo", ec2.TagInstance: instance(7)})
	w.pass(t.Context())
	w.clock = w.clock.Add(2 * time.Minute)
	if _, err := w.garbage.Pass(t.Context()); err == nil {
		t.Error("a refused delete isn't told")
	}
}

// While addresses are given back nothing is made anew; afterwards, or when that was killed, it goes on.
func TestPausedWhileReleasing(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	if _, err := w.around.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	cn := w.cluster()
	cn.Annotations = map[string]string{ReleaseUntil: w.clock.Add(5 * time.Minute).Format(time.RFC3339)}
	if err := w.client.Update(t.Context(), cn); err != nil {
		t.Fatal(err)
	}
	if _, err := w.once("n1"); err != nil {
		t.Fatal(err)
	}
	if m := w.sim.Mutations(); len(m) > 0 {
		t.Errorf("mutations %v", m)
	}
	w.clock = w.clock.Add(6 * time.Minute)
	w.settle("n1")
	if w.addresses("n1") != 8 {
		t.Error("the pause didn't end")
	}
}

func TestNodeGoneIsForgotten(t *testing.T) {
	w := newWorld(t)
	node := w.addNode("n1", 1, "m5.large", "subnet-a")
	w.settle("n1")
	if err := w.client.Delete(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	if _, err := w.once("n1"); err != nil {
		t.Fatal(err)
	}
	if n := len(w.nodes.Inventory.instances); n != 0 {
		t.Errorf("%d instances are remembered", n)
	}
	var nn v1alpha1.NodeNetwork
	_ = w.client.Get(t.Context(), client.ObjectKey{Name: "n1"}, &nn)
}
