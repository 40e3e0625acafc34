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
	changed chan struct{}
}

func (s *source) put(nn *v1alpha1.NodeNetwork, cn *v1alpha1.ClusterNetwork) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nn, s.cn = nn, cn
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
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
