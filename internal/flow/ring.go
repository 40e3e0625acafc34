package flow

import "sync"

// Ring keeps the last records. Writers never wait: a reader that is slow loses the oldest and is told how
// many.
type Ring struct {
	mu      sync.Mutex
	records []Record
	size    int
	next    uint64 // Seq of the next record
	changed chan struct{}
}

// NewRing keeps the last size records.
func NewRing(size int) *Ring {
	return &Ring{size: max(size, 1), next: 1, changed: make(chan struct{})}
}

// Add numbers the records and keeps them.
func (r *Ring) Add(records ...Record) {
	if len(records) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range records {
		rec.Seq = r.next
		r.next++
		if len(r.records) < r.size {
			r.records = append(r.records, rec)
			continue
		}
		r.records[(rec.Seq-1)%uint64(r.size)] = rec
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// Cursor is where a reader is.
type Cursor struct{ next uint64 }

// Before tells whether c has more to read than d.
func (c Cursor) Before(d Cursor) bool { return c.next < d.next }

// Tail is a cursor before the last n records; fewer if there aren't as many.
func (r *Ring) Tail(n int) Cursor {
	r.mu.Lock()
	defer r.mu.Unlock()
	n = min(max(n, 0), len(r.records))
	return Cursor{next: r.next - uint64(n)}
}

// All is a cursor before everything that is kept.
func (r *Ring) All() Cursor { return r.Tail(r.size) }

// Read copies up to len(into) records from the cursor on and moves it behind them. lost is how many were
// overwritten before they were read; changed is closed when there are more.
func (r *Ring) Read(c *Cursor, into []Record) (n int, lost uint64, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if oldest := r.next - uint64(len(r.records)); c.next < oldest {
		lost = oldest - c.next
		c.next = oldest
	}
	for n < len(into) && c.next < r.next {
		into[n] = r.records[(c.next-1)%uint64(r.size)]
		n++
		c.next++
	}
	return n, lost, r.changed
}
