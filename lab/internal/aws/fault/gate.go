package fault

import (
	"sync"
	"time"
)

// gate is where calls wait until it is opened or closed.
type gate struct {
	mu     sync.Mutex
	held   int
	open   chan struct{} // closed to let those go that wait now
	closed chan struct{}
	once   sync.Once
}

func newGate() *gate { return &gate{open: make(chan struct{}), closed: make(chan struct{})} }

// pass waits; false if the gate was closed. It doesn't end with the caller: a request that AWS has got takes
// its course, whatever becomes of who sent it.
func (g *gate) pass() bool {
	g.mu.Lock()
	g.held++
	open := g.open
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.held--
	}()
	select {
	case <-open:
		return true
	case <-g.closed:
		return false
	}
}

// sleep waits for d; false if the gate was closed.
func (g *gate) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-g.closed:
		return false
	}
}

// release lets those go that wait, and returns how many.
func (g *gate) release() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
	g.open = make(chan struct{})
	return g.held
}

func (g *gate) close() { g.once.Do(func() { close(g.closed) }) }

func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held
}
