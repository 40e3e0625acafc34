package endpoint

import (
	"context"
	"sync"
)

// keyLocks lets one command at a time work on an endpoint, and commands on different ones side by side.
type keyLocks struct {
	mu   sync.Mutex
	held map[Key]*keyLock
}

type keyLock struct {
	token chan struct{}
	users int
}

// lock waits for the key until ctx ends.
func (l *keyLocks) lock(ctx context.Context, k Key) (unlock func(), err error) {
	l.mu.Lock()
	kl := l.held[k]
	if kl == nil {
		kl = &keyLock{token: make(chan struct{}, 1)}
		l.held[k] = kl
	}
	kl.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if kl.users--; kl.users == 0 {
			delete(l.held, k)
		}
	}
	select {
	case kl.token <- struct{}{}:
		return func() { <-kl.token; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
