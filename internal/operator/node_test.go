package operator

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/ec2"
	"github.com/weft-cni/weft/internal/ec2/ec2sim"
)

func TestFreshNode(t *testing.T) {
	w := newWorld(t)
	node := w.addNode("n1", 1, "m5.large", "subnet-a")
	w.settle("n1")
	nn := w.network("n1")
	if len(nn.OwnerReferences) != 1 || nn.OwnerReferences[0].UID != node.UID {
		t.Errorf("owner references %+v", nn.OwnerReferences)
	}
	if nn.Spec.InstanceID != instance(1) || nn.Spec.InstanceType != "m5.large" || nn.Spec.VPCID != "vpc-1" || nn.Spec.AvailabilityZone != "us-west-2a" || nn.Spec.MaxInterfaces != 3 || nn.Spec.MaxAddressesPerInterface != 10 {
		t.Errorf("spec %+v", nn.Spec)
	}
	if len(nn.Spec.Interfaces) != 1 {
		t.Fatalf("interfaces %+v", nn.Spec.Interfaces)
	}
	i := nn.Spec.Interfaces[0]
	if i.DeviceIndex != 0 || !i.Managed || i.SubnetID != "subnet-a" || i.SubnetCIDR != "192.168.0.0/24" || i.MAC == "" || !slices.Equal(i.SecurityGroups, []string{"sg-cluster", "sg-extra"}) {
		t.Errorf("interface %+v", i)
	}
	if len(i.Addresses) != 8 || nn.Spec.Generation != 8 {
		t.Fatalf("%d addresses, generation %d, want 8 and 8", len(i.Addresses), nn.Spec.Generation)
	}
	seen := map[int64]bool{}
	for _, a := range i.Addresses {
		if a.Address == i.PrimaryAddress || a.Generation < 1 || seen[a.Generation] {
			t.Errorf("address %+v", a)
		}
		seen[a.Generation] = true
	}
	if c := w.condition("n1"); c.Status != metav1.ConditionTrue {
		t.Errorf("condition %+v", c)
	}
	if diff := cmp.Diff([]string{ec2.ActionAssignAddresses}, w.sim.Mutations()); diff != "" {
		t.Errorf("mutations (-want +got):\n%s", diff)
	}
	w.check()
	calls := len(w.sim.Calls())
	w.settle("n1")
	if n := len(w.sim.Calls()); n != calls {
		t.Errorf("a node that lacks nothing cost %d calls", n-calls)
	}
}

// Many pods at once: few calls, one ENI each with all its addresses and tags.
func TestManyPods(t *testing.T) {
	w := newWorld(t)
	w.cfg.ENI.Tags = map[string]string{"team": "net"}
	w.restart()
	w.addNode("n1", 1, "m5.xlarge", "subnet-a")
	w.addPods("n1", 110)
	w.settle("n1")
	if n := w.addresses("n1"); n != 56 {
		t.Fatalf("%d addresses, want all 56 of an m5.xlarge", n)
	}
	if n := len(w.sim.Mutations()); n != 1+3*3 {
		t.Errorf("%d mutating calls, want 1 for the primary and 3 for each ENI: %v", n, w.sim.Mutations())
	}
	ours := w.ours()
	if len(ours) != 3 {
		t.Fatalf("%d ENIs", len(ours))
	}
	for _, e := range ours {
		want := map[string]string{"weft.dev/managed": "true", "weft.dev/cluster": "demo", "weft.dev/node": "n1", "weft.dev/instance": instance(1), "team": "net",
			"node.k8s.amazonaws.com/no_manage": "true"}
		if diff := cmp.Diff(want, e.Tags); diff != "" {
			t.Errorf("tags (-want +got):\n%s", diff)
		}
		if e.Description != "weft "+instance(1) || !e.Attachment.DeleteOnTermination || e.SubnetID != "subnet-a" || !slices.Equal(e.Groups, []string{"sg-cluster", "sg-extra"}) {
			t.Errorf("ENI %+v", e)
		}
	}
	c := w.condition("n1")
	if c.Status != metav1.ConditionFalse || c.Reason != "InstanceLimit" || !strings.Contains(c.Message, "110 pods wait") {
		t.Errorf("condition %+v", c)
	}
	w.check()
}

// A node at its limit whose pods all have addresses is healthy.
func TestFullButSatisfied(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "t3.nano", "subnet-a")
	w.settle("n1")
	if c := w.condition("n1"); c.Status != metav1.ConditionTrue || c.Reason != "InstanceLimit" {
		t.Errorf("condition %+v", c)
	}
	if n := w.addresses("n1"); n != 2 {
		t.Errorf("%d addresses, want 2", n)
	}
}

// What exists keeps its generation, what is new gets a higher one, also after a restart.
func TestGenerations(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	w.settle("n1")
	before := map[string]int64{}
	for _, a := range w.network("n1").Spec.Interfaces[0].Addresses {
		before[a.Address] = a.Generation
	}
	w.agent("n1", func(s *v1alpha1.NodeNetworkStatus) { s.InstanceID, s.Used, s.Waiting = instance(1), 8, 3 })
	w.restart()
	w.settle("n1")
	highest := int64(0)
	for _, i := range w.network("n1").Spec.Interfaces {
		for _, a := range i.Addresses {
			if g, ok := before[a.Address]; ok && g != a.Generation {
				t.Errorf("%s was generation %d, is %d", a.Address, g, a.Generation)
			} else if !ok && a.Generation <= 8 {
				t.Errorf("new %s has the old generation %d", a.Address, a.Generation)
			}
			highest = max(highest, a.Generation)
		}
	}
	if got := w.network("n1").Spec.Generation; got != highest || got != 19 {
		t.Errorf("generation %d, highest %d, want 19: 8 used, 3 waiting, a reserve of 8", got, highest)
	}
}

func TestUnauthorized(t *testing.T) {
	for _, action := range []string{
		ec2.ActionDescribeInstances, ec2.ActionDescribeInstanceTypes, ec2.ActionDescribeInterfaces, ec2.ActionDescribeSubnets, ec2.ActionDescribeVPCs,
		ec2.ActionCreateInterface, ec2.ActionAttachInterface, ec2.ActionModifyInterface, ec2.ActionAssignAddresses,
	} {
		t.Run(action, func(t *testing.T) {
			w := newWorld(t)
			w.addNode("n1", 1, "m5.large", "subnet-a")
			w.addPods("n1", 12)
			w.sim.Deny(action)
			for range 30 {
				wait, err := w.once("n1")
				if err != nil {
					t.Fatal(err)
				}
				w.clock = w.clock.Add(wait)
				if wait > 2*time.Second {
					break
				}
			}
			c := w.condition("n1")
			if c.Status != metav1.ConditionFalse || c.Reason != "UnauthorizedOperation" || !strings.Contains(c.Message, "ec2:"+action+":") || !strings.Contains(c.Message, "add the action to the operator's IAM policy") {
				t.Errorf("condition %+v", c)
			}
			select {
			case e := <-w.events.Events:
				if !strings.Contains(e, "UnauthorizedOperation") || !strings.Contains(e, action) {
					t.Errorf("event %q", e)
				}
			default:
				t.Error("no event on the node")
			}
			w.sim.Allow(action)
			w.clock = w.clock.Add(20 * time.Second) // the longest backoff
			w.settle("n1")
			if c := w.condition("n1"); c.Status != metav1.ConditionTrue {
				t.Errorf("after the grant: %+v", c)
			}
			if n := w.addresses("n1"); n < 20 {
				t.Errorf("after the grant %d addresses, want 20", n)
			}
			for _, e := range w.ours() {
				if e.Attachment == nil || !e.Attachment.DeleteOnTermination {
					t.Errorf("%s would be left behind: %+v", e.ID, e.Attachment)
				}
			}
			w.check()
		})
	}
}

// CreateTags is judged with the create: the condition names what was called.
func TestCreateTagsDenied(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	w.addPods("n1", 12)
	w.sim.Deny("CreateTags")
	if _, err := w.once("n1"); err != nil {
		t.Fatal(err)
	}
	if c := w.condition("n1"); c.Reason != "UnauthorizedOperation" || !strings.Contains(c.Message, "ec2:CreateNetworkInterface") || !strings.Contains(c.Message, "ec2:CreateTags") {
		t.Errorf("condition %+v", c)
	}
}

func TestSubnetFull(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	w.addPods("n1", 8)
	w.sim.Reserve("subnet-a", 4)
	w.settle("n1")
	ours := w.ours()
	if len(ours) == 0 {
		t.Fatal("no ENI was made in the sibling subnet")
	}
	for _, e := range ours {
		if e.SubnetID != "subnet-a2" {
			t.Errorf("%s is in %s: only subnet-a2 has the zone and the kind of route", e.ID, e.SubnetID)
		}
	}
	w.sim.Reserve("subnet-a2", 0)
	w.sim.Reserve("subnet-a", 0)
	w.clock = w.clock.Add(10 * time.Minute)
	w.agent("n1", func(s *v1alpha1.NodeNetworkStatus) { s.InstanceID, s.Used, s.Waiting = instance(1), 16, 4 })
	w.settle("n1")
	c := w.condition("n1")
	if c.Status != metav1.ConditionFalse || c.Reason != "SubnetExhausted" || !strings.Contains(c.Message, "subnet-apub isn't used since its default route is InternetGateway") {
		t.Errorf("condition %+v", c)
	}
	w.check()
}

// The count that EC2 gives may be wrong: what it refuses counts.
func TestSubnetFullerThanItsCount(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	w.settle("n1")
	w.sim.Reserve("subnet-a", 0)
	w.addPods("n1", 9)
	w.settle("n1")
	if n := w.addresses("n1"); n < 17 {
		t.Errorf("%d addresses, want 17: %+v", n, w.condition("n1"))
	}
}

func TestForeignInterfaces(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	foreign := w.sim.AddInterface("subnet-a", "efs", instance(1), 1, map[string]string{"owner": "someone"})
	w.addPods("n1", 30)
	w.settle("n1")
	for _, i := range w.network("n1").Spec.Interfaces {
		if (i.ID == foreign) == i.Managed || i.ID == foreign && len(i.Addresses) > 0 {
			t.Errorf("interface %+v", i)
		}
	}
	if n := w.addresses("n1"); n != 18 {
		t.Errorf("%d addresses, want 18 on the two ENIs beside the foreign one", n)
	}
	// Another appears behind our back.
	w2 := newWorld(t)
	w2.addNode("n1", 1, "m5.large", "subnet-a")
	w2.settle("n1")
	w2.sim.AddInterface("subnet-a", "a", instance(1), 1, nil)
	w2.sim.AddInterface("subnet-a", "b", instance(1), 2, nil)
	w2.addPods("n1", 20)
	w2.settle("n1")
	if n := w2.addresses("n1"); n != 9 {
		t.Errorf("%d addresses, want the 9 of the primary", n)
	}
	if c := w2.condition("n1"); c.Reason != "InstanceLimit" {
		t.Errorf("condition %+v", c)
	}
}

// EC2 shows changes late: nothing is made twice, nothing taken away.
func TestEventualConsistency(t *testing.T) {
	for _, lag := range []time.Duration{time.Second, 10 * time.Second, 30 * time.Second} {
		w := newWorld(t)
		w.addNode("n1", 1, "m5.large", "subnet-a")
		w.clock = w.clock.Add(time.Minute)
		w.sim.Lag = lag
		w.addPods("n1", 12)
		w.settle("n1")
		had := map[string]bool{}
		for _, i := range w.network("n1").Spec.Interfaces {
			for _, a := range i.Addresses {
				had[a.Address] = true
			}
		}
		for range 60 {
			w.clock = w.clock.Add(time.Second)
			w.nodes.Inventory.Doubt(instance(1))
			w.settle("n1")
			now := map[string]bool{}
			for _, i := range w.network("n1").Spec.Interfaces {
				for _, a := range i.Addresses {
					now[a.Address] = true
				}
			}
			for a := range had {
				if !now[a] {
					t.Fatalf("lag %s: %s was taken from the agent", lag, a)
				}
			}
		}
		if n := w.addresses("n1"); n < 18 || n > 27 {
			t.Errorf("lag %s: %d addresses", lag, n)
		}
		w.check()
	}
}

// Another operator's first describe lags behind what the agent was already told: nothing vanishes.
func TestRestartWhileEC2Lags(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	w.clock = w.clock.Add(time.Minute)
	w.settle("n1")
	w.addPods("n1", 12)
	w.sim.Lag = 0
	w.settle("n1")
	told := w.network("n1").Spec
	w.sim.Lag = 40 * time.Second
	w.restart()
	for range 90 {
		if _, err := w.once("n1"); err != nil {
			t.Fatal(err)
		}
		if got := w.network("n1").Spec; len(got.Interfaces) < len(told.Interfaces) || w.addresses("n1") < 20 {
			t.Fatalf("the agent was told of %d interfaces, now of %d with %d addresses", len(told.Interfaces), len(got.Interfaces), w.addresses("n1"))
		}
		w.clock = w.clock.Add(time.Second)
		w.nodes.Inventory.Doubt(instance(1))
	}
	if diff := cmp.Diff(told, w.network("n1").Spec); diff != "" {
		t.Errorf("the spec changed (-want +got):\n%s", diff)
	}
	w.check()
}

// An answer that is lost after the change costs nothing: not a second ENI, not more addresses than planned.
func TestLostAnswers(t *testing.T) {
	for n := 1; n <= 14; n++ {
		w := newWorld(t)
		w.addNode("n1", 1, "m5.large", "subnet-a")
		w.addPods("n1", 12)
		w.sim.Hook(func(c ec2sim.Call) ec2sim.Fault {
			if c.N == n {
				return ec2sim.Fault{After: &ec2.Error{Action: c.Action, Kind: ec2.ErrUncertain, Err: errKilled}}
			}
			return ec2sim.Fault{}
		})
		w.settle("n1")
		if got := w.addresses("n1"); got != 18 && got != 20 {
			t.Errorf("answer %d lost: %d addresses", n, got)
		}
		if got := len(w.ours()); got > 2 {
			t.Errorf("answer %d lost: %d ENIs", n, got)
		}
		w.check()
	}
}

func TestFencedAddressesAreReleased(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	w.settle("n1")
	spec := w.network("n1").Spec.Interfaces[0].Addresses
	w.agent("n1", func(s *v1alpha1.NodeNetworkStatus) {
		s.InstanceID, s.Held, s.Used = instance(1), 7, 1
		s.UsedAddresses = []v1alpha1.UsedAddress{{Address: spec[1].Address, Generation: spec[1].Generation}}
		s.Fenced = []v1alpha1.Address{spec[0], {Address: spec[2].Address, Generation: spec[2].Generation + 100}, spec[1]}
	})
	w.settle("n1")
	left := map[string]bool{}
	for _, a := range w.network("n1").Spec.Interfaces[0].Addresses {
		left[a.Address] = true
	}
	if left[spec[0].Address] {
		t.Error("a fenced address is still assigned")
	}
	if !left[spec[1].Address] || !left[spec[2].Address] {
		t.Error("an address in use, or one fenced under another generation, was taken")
	}
	w.check()
}

// The role may not unassign: nothing fails, the addresses stay fenced.
func TestUnassignDenied(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	w.settle("n1")
	spec := w.network("n1").Spec.Interfaces[0].Addresses
	w.sim.Deny(ec2.ActionUnassignAddresses)
	w.agent("n1", func(s *v1alpha1.NodeNetworkStatus) {
		s.InstanceID, s.Fenced = instance(1), []v1alpha1.Address{spec[0]}
	})
	w.settle("n1")
	if c := w.condition("n1"); c.Status != metav1.ConditionTrue {
		t.Errorf("condition %+v", c)
	}
}

// Two describes without them, a minute apart: then addresses and ENIs that others removed are gone.
func TestRemovedByOthers(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	w.addPods("n1", 12)
	w.settle("n1")
	e, before := w.ours()[0], len(w.ours())
	if err := w.sim.DetachInterface(t.Context(), e.Attachment.ID, true); err != nil {
		t.Fatal(err)
	}
	w.clock = w.clock.Add(5 * time.Second)
	if err := w.sim.DeleteInterface(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	has := func() bool {
		return slices.ContainsFunc(w.network("n1").Spec.Interfaces, func(i v1alpha1.Interface) bool { return i.ID == e.ID })
	}
	w.nodes.Inventory.Doubt(instance(1))
	w.settle("n1")
	if !has() {
		t.Error("one describe without the ENI was believed")
	}
	w.clock = w.clock.Add(2 * time.Minute)
	w.nodes.Inventory.Doubt(instance(1))
	w.settle("n1")
	if has() {
		t.Error("the ENI is still told to the agent")
	}
	if n := len(w.ours()); n != before {
		t.Errorf("%d ENIs, want %d: a new one in its place", n, before)
	}
	w.check()
}

// A node that comes back under its name on another instance gets a NodeNetwork of its own.
func TestReplacedNode(t *testing.T) {
	w := newWorld(t)
	node := w.addNode("n1", 1, "m5.large", "subnet-a")
	w.settle("n1")
	if err := w.client.Delete(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	w.sim.Terminate(instance(1))
	if _, err := w.once("n1"); err != nil {
		t.Fatal(err)
	}
	w.addNode("n1", 2, "m5.large", "subnet-a")
	w.settle("n1")
	nn := w.network("n1")
	if nn.Spec.InstanceID != instance(2) || string(nn.OwnerReferences[0].UID) != "uid-n1-2" || w.addresses("n1") != 8 {
		t.Errorf("%+v %+v", nn.OwnerReferences, nn.Spec)
	}
	w.check()
}

// Two leaders for a second: no harm.
func TestTwoLeaders(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "m5.xlarge", "subnet-a")
	w.addPods("n1", 30)
	first := w.nodes
	w.restart()
	second := w.nodes
	for i := range 60 {
		w.nodes = []*Nodes{first, second}[i%2]
		wait, err := w.once("n1")
		if err != nil {
			t.Fatal(err)
		}
		w.clock = w.clock.Add(min(wait, time.Second))
	}
	w.check()
	w.nodes = second
	w.settle("n1")
	if n := w.addresses("n1"); n < 38 {
		t.Errorf("%d addresses", n)
	}
	seen := map[int64]bool{}
	for _, i := range w.network("n1").Spec.Interfaces {
		for _, a := range i.Addresses {
			if seen[a.Generation] {
				t.Errorf("generation %d was handed out twice", a.Generation)
			}
			seen[a.Generation] = true
		}
	}
}

// The operator's condition and the agent's don't disturb each other.
func TestConditionsOfTwoWriters(t *testing.T) {
	w := newWorld(t)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	w.settle("n1")
	u := applyTarget("NodeNetwork", "n1")
	u.Object["status"] = map[string]any{"instanceID": instance(1), "used": int64(8), "waiting": int64(1), "conditions": []any{map[string]any{
		"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
	}}}
	if err := w.client.Status().Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("weft-agent")); err != nil {
		t.Fatal(err)
	}
	w.sim.Deny(ec2.ActionAssignAddresses)
	if _, err := w.once("n1"); err != nil {
		t.Fatal(err)
	}
	nn := w.network("n1")
	if len(nn.Status.Conditions) != 2 || nn.Status.Used != 8 {
		t.Errorf("status %+v", nn.Status)
	}
}
