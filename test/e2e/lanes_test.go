package e2e

import "sync"

// lanes lets so many go at once, in the order of their numbers, which begin at 0. All of them have to come.
type lanes struct {
	mu   sync.Mutex
	free int
	next int
	wake chan struct{} // closed when something changed
}

func newLanes(n int) *lanes { return &lanes{free: max(1, n), wake: make(chan struct{})} }

func (l *lanes) changed() {
	close(l.wake)
	l.wake = make(chan struct{})
}

// enter waits for the turn of number.
func (l *lanes) enter(number int) {
	for {
		l.mu.Lock()
		if l.next == number && l.free > 0 {
			l.next++
			l.free--
			l.changed()
			l.mu.Unlock()
			return
		}
		wake := l.wake
		l.mu.Unlock()
		<-wake
	}
}

func (l *lanes) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free++
	l.changed()
}
