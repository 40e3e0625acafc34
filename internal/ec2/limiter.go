package ec2

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// bucket is a token bucket of AWS's: its size and its refill per second.
type bucket struct {
	size   int
	refill float64
}

// published are AWS's buckets of each account and region, where they differ from that of their kind.
var published = map[string]bucket{
	ActionAssignAddresses:   {100, 5},
	ActionUnassignAddresses: {100, 5},
	ActionCreateInterface:   {100, 5},
	ActionDeleteInterface:   {100, 5},
	ActionModifyInterface:   {100, 5},
}

func bucketOf(action string) bucket {
	if b, ok := published[action]; ok {
		return b
	}
	if len(action) > 8 && action[:8] == "Describe" {
		return bucket{100, 20}
	}
	return bucket{50, 5}
}

// Limiter holds back calls so that weft takes at most a share of what the account may do: autoscalers and
// other clusters draw from the same buckets.
type Limiter struct {
	share float64
	// waited is told what a call had to wait.
	waited func(action string, d time.Duration)

	mu sync.Mutex
	by map[string]*rate.Limiter
}

// NewLimiter takes share (0 to 1) of AWS's published rates.
func NewLimiter(share float64, waited func(action string, d time.Duration)) *Limiter {
	return &Limiter{share: share, waited: waited, by: map[string]*rate.Limiter{}}
}

func (l *Limiter) of(action string) (*rate.Limiter, rate.Limit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := bucketOf(action)
	full := rate.Limit(b.refill * l.share)
	r := l.by[action]
	if r == nil {
		r = rate.NewLimiter(full, max(int(float64(b.size)*l.share), 1))
		l.by[action] = r
	}
	return r, full
}

// Wait until the action may be called.
func (l *Limiter) Wait(ctx context.Context, action string) error {
	r, _ := l.of(action)
	start := time.Now()
	err := r.Wait(ctx)
	if d := time.Since(start); l.waited != nil && d > time.Millisecond {
		l.waited(action, d)
	}
	return err
}

// Done tells how a call ended: a throttled one halves the action's rate, each other restores a tenth.
func (l *Limiter) Done(action string, throttled bool) {
	r, full := l.of(action)
	l.mu.Lock()
	defer l.mu.Unlock()
	if throttled {
		r.SetLimit(max(r.Limit()/2, full/16))
		return
	}
	if r.Limit() < full {
		r.SetLimit(min(r.Limit()+full/10, full))
	}
}
