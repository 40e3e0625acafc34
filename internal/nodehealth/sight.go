package nodehealth

import (
	"fmt"
	"time"
)

// Outcome of a probe.
type Outcome string

// The outcomes.
const (
	NotProbed Outcome = "not probed"
	OK        Outcome = "ok"
	TimedOut  Outcome = "timed out"
	Refused   Outcome = "refused"
	NoRoute   Outcome = "no route"
	Foreign   Outcome = "answered by something else"
	Failed    Outcome = "failed"
)

// Sight is what one kind of probe says of a peer.
type Sight struct {
	Outcome Outcome `json:"outcome"`
	// Latency of the last probe that was answered.
	Latency time.Duration `json:"latency"`
	// Since is when the outcome became good or bad, Last when the peer was last probed.
	Since    time.Time `json:"since,omitzero"`
	Last     time.Time `json:"last,omitzero"`
	Failures int       `json:"failures,omitempty"` // in a row

	first time.Time // of these failures
}

// See takes the result of a probe. It takes several failures in a row until a peer counts as not reached,
// and one answer until it does again.
func (s Sight) See(o Outcome, latency time.Duration, at time.Time, failures int) Sight {
	s.Last = at
	if o == OK {
		if s.Outcome != OK {
			s.Since = at
		}
		s.Outcome, s.Latency, s.Failures, s.first = OK, latency, 0, time.Time{}
		return s
	}
	if s.Failures++; s.Failures == 1 {
		s.first = at
	}
	if s.Failures < failures {
		return s
	}
	if !s.bad() {
		s.Since = s.first
	}
	s.Outcome = o
	return s
}

func (s Sight) bad() bool { return s.Outcome != OK && s.Outcome != NotProbed && s.Outcome != "" }

// PeerReport is what is known of a peer.
type PeerReport struct {
	Node    string `json:"node"`
	Address string `json:"address"`
	ICMP    Sight  `json:"icmp"`
	TCP     Sight  `json:"tcp"`
}

// Reached says whether nothing speaks against it.
func (p PeerReport) Reached() bool { return !p.ICMP.bad() && !p.TCP.bad() }

// suspect is worth another look in the next round.
func (p PeerReport) suspect() bool { return p.ICMP.Failures > 0 || p.TCP.Failures > 0 }

// Since is when the peer ceased to be reached.
func (p PeerReport) Since() time.Time {
	switch {
	case p.ICMP.bad() && p.TCP.bad() && p.TCP.Since.Before(p.ICMP.Since):
		return p.TCP.Since
	case p.ICMP.bad():
		return p.ICMP.Since
	case p.TCP.bad():
		return p.TCP.Since
	}
	return time.Time{}
}

// Seen says what was seen of a peer that isn't reached, for a person.
func Seen(icmp, tcp Outcome, port int) string {
	return fmt.Sprintf("ICMP: %s, TCP %d: %s", icmp, port, tcp)
}

// Advice says what the cause is likely to be, and what to do.
func Advice(icmp, tcp Outcome, port int) string {
	silent := func(o Outcome) bool { return o == TimedOut || o == NoRoute }
	switch {
	case tcp == Foreign:
		return fmt.Sprintf("something other than weft answers on TCP port %d of that node: stop it, or use another port", port)
	case tcp == Refused:
		return "the node answers, its agent doesn't: see its pod and its log"
	case silent(icmp) && tcp == OK:
		return "the nodes' security groups must allow ICMP (all types) between nodes: path MTU discovery needs it too"
	case silent(tcp) && icmp == OK:
		return fmt.Sprintf("the nodes' security groups must allow TCP port %d between nodes", port)
	case silent(tcp) && icmp == NotProbed:
		return fmt.Sprintf("is the node down? Otherwise the nodes' security groups must allow TCP port %d between nodes", port)
	case silent(tcp) && silent(icmp):
		return fmt.Sprintf("is the node down? Otherwise the nodes' security groups or network ACLs must allow ICMP and TCP port %d between nodes", port)
	}
	return "see the agent's log of both nodes"
}
