package operator

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// reported remembers the condition that was last written of each node: the cache, which may not show that
// write yet, must not make a new one look needless.
type reported struct {
	mu   sync.Mutex
	last map[string]written // by node
}

type written struct {
	network types.UID
	metav1.Condition
}

// is: c is what was last written of the node's network, or nothing is known of that.
func (r *reported) is(node string, network types.UID, c metav1.Condition) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.last[node]
	return !ok || last.network != network || says(last.Condition, c)
}

func (r *reported) note(node string, network types.UID, c metav1.Condition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[string]written{}
	}
	r.last[node] = written{network, c}
}

func (r *reported) forget(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.last, node)
}

// says: two conditions say the same.
func says(a, b metav1.Condition) bool {
	return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
}
