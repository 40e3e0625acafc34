package why

import (
	"fmt"
	"strings"
)

// A Service is what the sender's node makes of a service that the flow goes to.
type Service struct {
	Name string
	Node string
	// Absent says why the node has no frontend at the address and port; empty: it has one.
	Absent string
	// Backends are those that the sender may be connected to; without any, Nobody says why, and Refused that senders
	// are told so at once: there is none for anybody.
	Backends []string
	Nobody   string
	Refused  bool
}

func (s Service) object() string {
	if s.Name == "" {
		return "service"
	}
	return "service " + s.Name
}

// noBackend is what a service that nobody stands behind does with a flow.
func noBackend(f Facts, a *Answer) bool {
	s := f.Service
	switch {
	case s == nil:
		return false
	case s.Absent != "":
		a.Cause, a.Reason, a.Object = NoBackend, s.Absent, s.object()
		a.Advice = "look at the service's ports and protocol: kubectl get services -A"
		return true
	case len(s.Backends) > 0:
		return false
	case s.Refused:
		a.Cause, a.Reason, a.Object = NoBackend, "nobody stands behind the service, so senders are refused: "+s.Nobody, s.object()
		a.Advice = fmt.Sprintf("look why its pods aren't ready: weft service explain %s", s.Name)
		return true
	}
	a.Cause, a.Object = NoBackendHere, s.object()
	a.Reason = fmt.Sprintf("the service has endpoints, but none for a sender on node %s: %s", s.Node, s.Nobody)
	a.Advice = "run one on each node that sends, or set the traffic policy to Cluster"
	return true
}

// atBackend: whoever is connected to a backend by its socket sends no packet to the service's address.
func atBackend(f Facts, a *Answer) bool {
	s := f.Service
	if s == nil || len(s.Backends) == 0 || sent(f) {
		return false
	}
	const most = 3
	some := strings.Join(s.Backends[:min(len(s.Backends), most)], ", ")
	if n := len(s.Backends) - most; n > 0 {
		some += fmt.Sprintf(" and %d more", n)
	}
	a.Cause, a.Object = NotSeen, s.object()
	a.Reason = fmt.Sprintf("no packet was seen at the service's address: sockets are connected to one of its %d backends, %s", len(s.Backends), some)
	from := f.Question.From.Pod
	if from == "" {
		from = f.Question.From.Addr.String()
	}
	a.Advice = fmt.Sprintf("ask about a backend: weft why '%s -> %s/%s'; weft service trace says who chooses", from, s.Backends[0], f.Question.Protocol)
	return true
}
