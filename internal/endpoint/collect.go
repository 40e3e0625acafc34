package endpoint

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Collect releases endpoints that present doesn't have, whose device is gone, and which are older than
// asked, the moment before present was listed.
func (m *Manager) Collect(ctx context.Context, asked time.Time, present func(Endpoint) bool) (int, error) {
	var errs []error
	n := 0
	for _, e := range m.Endpoints() {
		if present(e) || !e.Created.Before(asked) {
			continue
		}
		gone, err := m.collect(ctx, e)
		if err != nil {
			errs = append(errs, fmt.Errorf("collect %s: %w", e.Key, err))
			continue
		}
		if gone {
			n++
		}
	}
	return n, errors.Join(errs...)
}

// collect looks under the key's lock: an endpoint without a device may be one whose ADD is on its way.
func (m *Manager) collect(ctx context.Context, e Endpoint) (bool, error) {
	unlock, err := m.keys.lock(ctx, e.Key)
	if err != nil {
		return false, err
	}
	defer unlock()
	if !m.still(e) {
		return false, nil
	}
	exists, err := m.devices.Exists(e)
	if err != nil || exists {
		return false, err
	}
	m.log.Info("endpoint released, its pod is gone", "endpoint", e.Key, "pod", e.Pod, "address", e.Address)
	return true, m.remove(ctx, e)
}

// still says whether this very endpoint is there, and not a later one of the same name.
func (m *Manager) still(e Endpoint) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, live := m.endpoints[e.Key]
	return live && now.Epoch == e.Epoch
}
