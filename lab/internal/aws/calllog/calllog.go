// Package calllog remembers the calls that the emulator answered: who, what, with which outcome.
package calllog

import (
	"net/url"
	"sync"
	"time"
)

// Entry is one call.
type Entry struct {
	// Seq grows by one with each call.
	Seq       uint64        `json:"seq"`
	Time      time.Time     `json:"time"`
	Took      time.Duration `json:"took"`
	Service   string        `json:"service"`
	Action    string        `json:"action"`
	Principal string        `json:"principal"`
	Params    url.Values    `json:"params,omitempty"`
	// Code is AWS's error code, empty for success.
	Code      string `json:"code,omitempty"`
	Message   string `json:"message,omitempty"`
	RequestID string `json:"requestId"`
}

// Log keeps the last calls.
type Log struct {
	mu   sync.Mutex
	keep int
	next uint64
	ring []Entry
}

// New keeps the last n calls.
func New(n int) *Log { return &Log{keep: n, next: 1} }

// Add records a call and numbers it.
func (l *Log) Add(e Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Seq = l.next
	l.next++
	if len(l.ring) < l.keep {
		l.ring = append(l.ring, e)
		return
	}
	l.ring[(e.Seq-1)%uint64(l.keep)] = e
}

// Since are the kept calls with a number above seq, in order.
func (l *Log) Since(seq uint64) []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := uint64(1)
	if n := uint64(len(l.ring)); l.next-1 > n {
		first = l.next - n
	}
	var out []Entry
	for s := max(first, seq+1); s < l.next; s++ {
		out = append(out, l.ring[(s-1)%uint64(l.keep)])
	}
	return out
}

// Last is the number of the last call; 0 before any.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next - 1
}

// Count says how often an action was called since seq, whatever came of it.
func (l *Log) Count(seq uint64, service, action string) int {
	n := 0
	for _, e := range l.Since(seq) {
		if e.Service == service && e.Action == action {
			n++
		}
	}
	return n
}
