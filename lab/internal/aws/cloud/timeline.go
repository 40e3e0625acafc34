package cloud

import (
	"container/heap"
	"time"
)

// transition is something that AWS does later. act says whether it changed the model; it looks at the model
// again, because much may have happened since it was planned.
type transition struct {
	at  time.Time
	act func(c *Cloud) bool
}

// timeline is what is due, the earliest first.
type timeline struct{ h transitionHeap }

func (t *timeline) add(at time.Time, act func(c *Cloud) bool) {
	heap.Push(&t.h, transition{at: at, act: act})
}

func (t *timeline) next() (time.Time, bool) {
	if len(t.h) == 0 {
		return time.Time{}, false
	}
	return t.h[0].at, true
}

func (t *timeline) pop(now time.Time) (transition, bool) {
	if len(t.h) == 0 || t.h[0].at.After(now) {
		return transition{}, false
	}
	return heap.Pop(&t.h).(transition), true
}

type transitionHeap []transition

func (h transitionHeap) Len() int           { return len(h) }
func (h transitionHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h transitionHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *transitionHeap) Push(x any)        { *h = append(*h, x.(transition)) }
func (h *transitionHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = transition{}
	*h = old[:len(old)-1]
	return last
}
