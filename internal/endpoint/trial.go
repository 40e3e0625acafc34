package endpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// Trial makes a whole endpoint in a namespace that nobody uses, compares it with the kernel and removes it:
// address, journal, device, programs, routes. It is for a node that has no pods yet. The address doesn't rest,
// as nothing was ever sent from it.
func (m *Manager) Trial(ctx context.Context, k Key, netns *os.File) error {
	unlock, err := m.keys.lock(ctx, k)
	if err != nil {
		return fmt.Errorf("trial: %w", err)
	}
	defer unlock()
	m.mu.Lock()
	old, left := m.endpoints[k]
	m.mu.Unlock()
	if left {
		if err := m.remove(ctx, old); err != nil {
			return fmt.Errorf("trial: what an earlier one left: %w", err)
		}
	}
	e, err := m.allocate(ctx, k, Pod{})
	if err != nil {
		return fmt.Errorf("trial: %w", err)
	}
	if err := m.journal.Put(e); err != nil {
		m.forget(e, false)
		return fmt.Errorf("trial: %w: %w", ErrJournal, err)
	}
	m.mu.Lock()
	m.endpoints[k] = e
	m.mu.Unlock()
	err = m.build(ctx, e, netns)
	if err == nil {
		err = m.devices.Check(ctx, e, netns)
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if uerr := errors.Join(m.devices.Remove(undo, e), m.programs.Detach(e), m.journal.Remove(k)); uerr != nil {
		// It stays an endpoint, and the comparison with the runtime tries again.
		return fmt.Errorf("trial: %w", errors.Join(err, uerr))
	}
	m.forget(e, false)
	if err != nil {
		return fmt.Errorf("trial with address %s: %w", e.Address, err)
	}
	return nil
}
