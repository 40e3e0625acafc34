// Package fault makes chosen calls to the emulator fail on demand: held, refused, late, or without an answer.
package fault

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault is what shall happen to calls of one action.
type Fault struct {
	ID      int    `json:"id"`
	Service string `json:"service"`
	Action  string `json:"action"`
	Kind    string `json:"kind"`
	// Params that a call must have; empty: any call.
	Params map[string]string `json:"params,omitempty"`
	// Skip calls are let through first, then Times calls are hit; 0: all.
	Skip  int `json:"skip,omitempty"`
	Times int `json:"times,omitempty"`
	// Code and Message of a refusal.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// Delay of a late answer.
	Delay time.Duration `json:"delay,omitempty"`
}

// Status is a fault and what it did.
type Status struct {
	Fault
	Hits int `json:"hits"`
	// Held calls wait to be released.
	Held int `json:"held"`
}

// Call is a call that may be hit.
type Call struct {
	Service, Action string
	Param           func(name string) string
}

// ErrNoAnswer: the caller's connection ends and it never learns what became of its call.
var ErrNoAnswer = errors.New("the answer is withheld")

// kind is what happens to a call that is hit. act carries the call out.
type kind struct {
	// check says what a fault of the kind lacks.
	check func(Fault) error
	run   func(a *armed, act func() (any, error)) (any, error)
}

// kinds is the list of all that there are.
func kinds() map[string]kind {
	return map[string]kind{
		HoldBefore: holdBefore(),
		HoldAfter:  holdAfter(),
		Refuse:     refuse(),
		Delay:      delay(),
		Lose:       lose(),
	}
}

// armed is a fault in its place.
type armed struct {
	Fault
	kind kind
	// seen and hits are guarded by the table's mutex.
	seen, hits int
	gate       *gate
	// sleep waits; false if the fault was cleared meanwhile.
	sleep func(time.Duration) bool
}

// Table has the faults of one emulator. Its zero value has none.
type Table struct {
	mu     sync.Mutex
	next   int
	faults []*armed
}

// Set arms a fault and returns its id.
func (t *Table) Set(f Fault) (int, error) {
	k, ok := kinds()[f.Kind]
	if !ok {
		return 0, fmt.Errorf("fault: kind %q: expected one of %s", f.Kind, strings.Join(slices.Sorted(maps.Keys(kinds())), ", "))
	}
	if f.Service == "" || f.Action == "" {
		return 0, errors.New("fault: expected a service and an action")
	}
	if f.Skip < 0 || f.Times < 0 {
		return 0, fmt.Errorf("fault: found %d calls to skip and %d to hit: expected 0 or more", f.Skip, f.Times)
	}
	if err := k.check(f); err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	f.ID, f.Params = t.next, maps.Clone(f.Params)
	a := &armed{Fault: f, kind: k, gate: newGate()}
	a.sleep = a.gate.sleep
	t.faults = append(t.faults, a)
	return f.ID, nil
}

// List is what there is, in the order in which it was set.
func (t *Table) List() []Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := []Status{}
	for _, a := range t.faults {
		s := Status{Fault: a.Fault, Hits: a.hits, Held: a.gate.waiting()}
		s.Params = maps.Clone(a.Params)
		out = append(out, s)
	}
	return out
}

// Release lets the calls that a fault holds go on; the fault stays. id 0: every fault's. It returns how many
// there were.
func (t *Table) Release(id int) (int, error) {
	n := 0
	err := t.each(id, func(a *armed) { n += a.gate.release() })
	return n, err
}

// Clear removes a fault, or all if id is 0. Calls that it holds end without an answer, those held before they
// were carried out never are.
func (t *Table) Clear(id int) (int, error) {
	n := 0
	err := t.each(id, func(a *armed) {
		n++
		a.gate.close()
		t.faults = slices.DeleteFunc(t.faults, func(b *armed) bool { return a == b })
	})
	return n, err
}

func (t *Table) each(id int, f func(*armed)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := id == 0
	for _, a := range slices.Clone(t.faults) {
		if id == 0 || a.ID == id {
			found = true
			f(a)
		}
	}
	if !found {
		return &UnknownError{ID: id}
	}
	return nil
}

// UnknownError says that there is no such fault.
type UnknownError struct{ ID int }

func (e *UnknownError) Error() string { return fmt.Sprintf("there is no fault %d", e.ID) }

// Around carries a call out by act, or does to it what the first fault that it meets says.
func (t *Table) Around(c Call, act func() (any, error)) (any, error) {
	if t == nil {
		return act()
	}
	a := t.meet(c)
	if a == nil {
		return act()
	}
	return a.kind.run(a, act)
}

func (t *Table) meet(c Call) *armed {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.faults {
		if !a.matches(c) {
			continue
		}
		a.seen++
		if a.seen <= a.Skip || a.Times > 0 && a.hits >= a.Times {
			continue
		}
		a.hits++
		return a
	}
	return nil
}

func (a *armed) matches(c Call) bool {
	if a.Service != c.Service || a.Action != c.Action {
		return false
	}
	for name, want := range a.Params {
		if c.Param(name) != want {
			return false
		}
	}
	return true
}
