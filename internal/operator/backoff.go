package operator

import (
	"errors"
	"sync"
	"time"

	"github.com/weft-cni/weft/internal/ec2"
)

// unauthorizedRetry bounds the wait after a refused permission: it waits for a person, who then wants to see
// it work. weft status promises no more than 30 s; what is left is for the calls themselves.
const unauthorizedRetry = 20 * time.Second

// backoff holds a node back after EC2 refused: the node alone, and for as long as the kind of refusal
// deserves.
type backoff struct {
	mu    sync.Mutex
	nodes map[string]failure
}

type failure struct {
	count int
	until time.Time
}

// failed notes a failure and returns how long to wait.
func (b *backoff) failed(node string, now time.Time, err error) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.nodes == nil {
		b.nodes = map[string]failure{}
	}
	f := b.nodes[node]
	first, most := time.Second, time.Minute
	switch {
	case errors.Is(err, ec2.ErrUnauthorized):
		first, most = 5*time.Second, unauthorizedRetry
	case errors.Is(err, ec2.ErrNotFound), errors.Is(err, ec2.ErrConflict):
		most = 10 * time.Second
	}
	delay := min(first<<min(f.count, 10), most)
	b.nodes[node] = failure{count: f.count + 1, until: now.Add(delay)}
	return delay
}

func (b *backoff) succeeded(node string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.nodes, node)
}

func (b *backoff) remaining(node string, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(b.nodes[node].until.Sub(now), 0)
}
