package operator

import (
	"errors"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weft-cni/weft/internal/ec2"
)

// However often a permission was refused, the wait stays below 30 s, and a success ends it.
func TestBackoffIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		most time.Duration
	}{
		"permission": {ec2.NewError(ec2.ActionCreateInterface, "UnauthorizedOperation", ""), 30 * time.Second},
		"conflict":   {ec2.NewError(ec2.ActionAttachInterface, "IncorrectState", ""), 10 * time.Second},
		"throttled":  {ec2.NewError(ec2.ActionAttachInterface, "RequestLimitExceeded", ""), time.Minute},
		"no answer":  {errors.New("nothing came"), time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			var b backoff
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			last := time.Duration(0)
			for n := range 100 {
				d := b.failed("n1", now, c.err)
				if d < last || d <= 0 || d > c.most {
					t.Fatalf("after %d failures: %s, before %s, at most %s", n+1, d, last, c.most)
				}
				if got := b.remaining("n1", now); got != d {
					t.Fatalf("remaining %s of %s", got, d)
				}
				last, now = d, now.Add(d)
			}
			// Many other failures before don't make the wait for a permission longer.
			if d := b.failed("n1", now, ec2.NewError(ec2.ActionAssignAddresses, "UnauthorizedOperation", "")); d > 30*time.Second {
				t.Errorf("a permission after other failures: %s", d)
			}
			b.succeeded("n1")
			if b.remaining("n1", now) != 0 || b.remaining("n2", now) != 0 {
				t.Error("a success doesn't end it")
			}
			if d := b.failed("n1", now, c.err); d > 5*time.Second {
				t.Errorf("first failure after a success: %s", d)
			}
		})
	}
}

// A permission that comes back shows within 30 s, without anything else happening to the node.
func TestMendedPermissionShows(t *testing.T) {
	w := newWorld(t)
	w.cfg.ENI.FirstInterfaceIndex = 1
	w.restart()
	w.sim.Deny(ec2.ActionCreateInterface)
	w.addNode("n1", 1, "m5.large", "subnet-a")
	for range 30 {
		wait, err := w.once("n1")
		if err != nil {
			t.Fatal(err)
		}
		if wait <= 0 || wait > 30*time.Second {
			t.Fatalf("looked at again after %s", wait)
		}
		w.clock = w.clock.Add(wait)
	}
	if c := w.condition("n1"); c.Reason != "UnauthorizedOperation" {
		t.Fatalf("condition %+v", c)
	}
	w.sim.Allow(ec2.ActionCreateInterface)
	mended := w.clock
	for w.condition("n1").Reason == "UnauthorizedOperation" {
		wait, err := w.once("n1")
		if err != nil {
			t.Fatal(err)
		}
		w.clock = w.clock.Add(wait)
		if w.clock.Sub(mended) > 30*time.Second {
			t.Fatalf("%s after the policy was mended: %+v", w.clock.Sub(mended), w.condition("n1"))
		}
	}
	if w.nodes.backoff.remaining("n1", w.clock) != 0 {
		t.Error("the node is still held back")
	}
	w.settle("n1")
	if c := w.condition("n1"); c.Status != metav1.ConditionTrue {
		t.Errorf("in the end: %+v", c)
	}
}

// The cache may show a condition that is older than the last one written.
func TestReportedSurvivesAStaleCache(t *testing.T) {
	var r reported
	good := metav1.Condition{Status: metav1.ConditionTrue, Reason: reasonAssigned}
	bad := metav1.Condition{Status: metav1.ConditionFalse, Reason: "UnauthorizedOperation"}
	uid := types.UID("a")
	if !r.is("n1", uid, good) {
		t.Error("nothing was written, so what the cache shows is what is")
	}
	r.note("n1", uid, bad)
	if r.is("n1", uid, good) || !r.is("n1", uid, bad) || !r.is("n1", "b", good) || !r.is("n2", uid, good) {
		t.Error("another condition than the last written one")
	}
	r.forget("n1")
	if !r.is("n1", uid, good) {
		t.Error("not forgotten")
	}
}
