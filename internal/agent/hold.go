package agent

import (
	"fmt"
	"time"

	"github.com/weft-cni/weft/internal/endpoint"
)

// holdFor is for how long a NodeNetwork that suddenly says much less must go on saying it.
const holdFor = 30 * time.Second

// hold delays what would take much away: an empty or odd object, written by a mistake or restored from a
// backup, isn't truth until it lasts.
type hold struct{ since time.Time }

// look returns for how much longer the old view stands; why is what would be taken away.
func (h *hold) look(now time.Time, why string) time.Duration {
	if why == "" {
		h.since = time.Time{}
		return 0
	}
	if h.since.IsZero() || now.Before(h.since) {
		h.since = now
	}
	return max(holdFor-now.Sub(h.since), 0)
}

// shrunk says what the next view takes away, if it is suspicious: an address that an endpoint has, which the
// operator never takes, or more than half of all.
func shrunk(last, next view, eps []endpoint.Endpoint) string {
	lost := 0
	for _, e := range eps {
		_, had := last.owners[e.Address]
		if _, has := next.owners[e.Address]; had && !has {
			lost++
		}
	}
	if lost > 0 {
		return fmt.Sprintf("it no longer has the addresses of %d endpoints", lost)
	}
	const few = 4
	if n, m := len(last.assigned), len(next.assigned); n >= few && 2*m < n {
		return fmt.Sprintf("it has %d addresses, it had %d", m, n)
	}
	return ""
}
