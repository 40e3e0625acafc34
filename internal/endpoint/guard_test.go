package endpoint

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestGuard: programs come back where the device is there, and nowhere else.
func TestGuard(t *testing.T) {
	sim, c, ctx := newSim(), &clock{now: time.Unix(1_700_000_000, 0)}, context.Background()
	m := newTestManager(t, t.TempDir(), sim, c, 3)
	for _, id := range []string{"a", "b", "c"} {
		if _, err := m.Add(ctx, k(id), Pod{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	eps := m.Endpoints()
	delete(sim.attached, eps[0].Slot)
	delete(sim.attached, eps[1].Slot)
	delete(sim.devices, eps[1].Device()) // its namespace went
	if err := m.Del(ctx, eps[2].Key); err != nil {
		t.Fatal(err)
	}
	if err := m.Guard(ctx); err != nil {
		t.Fatal(err)
	}
	if len(sim.attached) != 1 || sim.attached[eps[0].Slot].Key != eps[0].Key {
		t.Errorf("attached are %v, expected those of %s", sim.attached, eps[0].Key)
	}
	if err := m.guard(ctx, eps[2]); err != nil || len(sim.attached) != 1 {
		t.Errorf("an endpoint that was deleted meanwhile: %v, %v", err, sim.attached)
	}
	sim.fail["attach"] = errors.New("refused")
	if err := m.Guard(ctx); err == nil {
		t.Error("a refused attachment isn't told")
	}
}
