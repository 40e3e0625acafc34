package endpoint

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestTrial: whatever happens in it, the address is free afterwards, or the next trial makes it so.
func TestTrial(t *testing.T) {
	for _, step := range []string{"", "create", "attach", "connect", "check", "remove", "detach"} {
		t.Run("fails at "+step, func(t *testing.T) {
			sim, c, dir := newSim(), &clock{now: time.Unix(1_700_000_000, 0)}, t.TempDir()
			m := newTestManager(t, dir, sim, c, 1)
			if step != "" {
				sim.fail[step] = errors.New("refused")
				if err := m.Trial(context.Background(), k("trial"), nil); err == nil {
					t.Fatal("the trial didn't see it")
				}
				delete(sim.fail, step)
				c.advance(CoolDown)
			}
			// As after a kill, too: the journal is all that the next one knows.
			for _, next := range []*Manager{m, newTestManager(t, dir, sim, c, 1)} {
				if err := next.Trial(context.Background(), k("trial"), nil); err != nil && !errors.Is(err, ErrNoAddress) {
					t.Fatalf("the next trial: %v", err)
				}
				c.advance(CoolDown)
				if err := next.Trial(context.Background(), k("trial"), nil); err != nil {
					t.Fatalf("the trial after that: %v", err)
				}
				if u := next.Usage(); u.Free != 1 || len(sim.devices)+len(sim.attached) != 0 {
					t.Fatalf("left %v %v, usage %+v", sim.devices, sim.attached, u)
				}
			}
			if _, l, err := OpenJournal(dir, "i-1", "b"); err != nil || len(l.Endpoints) != 0 {
				t.Errorf("left in the journal: %+v, %v", l, err)
			}
		})
	}
}
