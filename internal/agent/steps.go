package agent

import (
	"encoding/json"
	"sync"
	"time"
)

// Steps of the agent's start, in order.
const (
	stepLock       = "lock"
	stepDatapath   = "datapath opened"
	stepInstance   = "instance known"
	stepSources    = "sources in sync"
	stepJournal    = "journal read"
	stepInterfaces = "interfaces set up"
	stepPrograms   = "programs attached"
	stepServing    = "cni served"
	stepInstalled  = "cni installed"
)

func startSteps() []string {
	return []string{stepLock, stepDatapath, stepInstance, stepSources, stepJournal, stepInterfaces, stepPrograms, stepServing, stepInstalled}
}

// Step is one step of the start as /status shows it.
type Step struct {
	Name  string    `json:"name"`
	State string    `json:"state"` // waiting, running, done
	Since time.Time `json:"since,omitzero"`
	// Reason says why a running step isn't done.
	Reason string `json:"reason,omitempty"`
}

// progress tells how far the start is.
type progress struct {
	mu    sync.Mutex
	steps []Step
}

func newProgress() *progress {
	p := &progress{}
	for _, n := range startSteps() {
		p.steps = append(p.steps, Step{Name: n, State: "waiting"})
	}
	return p
}

func (p *progress) set(name, state, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.steps {
		s := &p.steps[i]
		if s.Name != name {
			continue
		}
		if s.State != state {
			s.Since = time.Now().UTC()
		}
		s.State, s.Reason = state, reason
	}
}

func (p *progress) begin(name string)            { p.set(name, "running", "") }
func (p *progress) waits(name, reason string)    { p.set(name, "running", reason) }
func (p *progress) done(name string)             { p.set(name, "done", "") }
func (p *progress) MarshalJSON() ([]byte, error) { return json.Marshal(p.snapshot()) }
func (p *progress) current() (step, reason string) {
	for _, s := range p.snapshot() {
		if s.State != "done" {
			return s.Name, s.Reason
		}
	}
	return "", ""
}

func (p *progress) snapshot() []Step {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Step(nil), p.steps...)
}
