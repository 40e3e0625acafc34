package agent

import (
	"sync"

	"github.com/weft-cni/weft/api/v1alpha1"
)

// source holds the newest objects of the Kubernetes API.
type source struct {
	mu      sync.Mutex
	nn      *v1alpha1.NodeNetwork
	cn      *v1alpha1.ClusterNetwork
	waiting string
	changed chan struct{}
}

// waits says why there are no objects yet.
func (s *source) waits(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == reason {
		return
	}
	s.waiting = reason
	s.wake()
}

// why there are no objects yet; empty once the API server has been heard.
func (s *source) why() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// wake tells those who wait that something is newer. s.mu is held.
func (s *source) wake() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

func (s *source) put(nn *v1alpha1.NodeNetwork, cn *v1alpha1.ClusterNetwork) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nn, s.cn, s.waiting = nn, cn, ""
	s.wake()
}

// again has the objects looked at once more, because something that goes with them changed.
func (s *source) again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake()
}

// get returns the objects and what is closed when they are no longer the newest. They are read only.
func (s *source) get() (*v1alpha1.NodeNetwork, *v1alpha1.ClusterNetwork, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.nn, s.cn, s.changed
}
