package endpoint

import (
	"context"
	"errors"
	"fmt"
)

// Guard attaches the programs of every endpoint again: what somebody detached comes back, what is attached
// stays as it is.
func (m *Manager) Guard(ctx context.Context) error {
	var errs []error
	for _, e := range m.Endpoints() {
		if err := m.guard(ctx, e); err != nil {
			errs = append(errs, fmt.Errorf("guard %s: %w", e.Key, err))
		}
	}
	return errors.Join(errs...)
}

// guard holds the key's lock: a DEL that came first must not be undone.
func (m *Manager) guard(ctx context.Context, e Endpoint) error {
	unlock, err := m.keys.lock(ctx, e.Key)
	if err != nil {
		return err
	}
	defer unlock()
	if !m.still(e) {
		return nil
	}
	there, err := m.devices.Exists(e)
	if err != nil || !there {
		return err
	}
	return m.programs.Attach(e)
}
