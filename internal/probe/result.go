// Package probe is the two ends of every connectivity action: a server that tells what it saw, and clients
// that tell what they got. Both speak JSON, so that a test never reads prose.
package probe

import (
	"encoding/json"
	"io"
	"time"
)

// Reply is what the server answers on every HTTP path that isn't special.
type Reply struct {
	Pod    string `json:"pod"`    // POD_NAME of the server
	Node   string `json:"node"`   // NODE_NAME of the server
	Client string `json:"client"` // address:port that the server saw
	Path   string `json:"path"`
}

// Kind says in which way an attempt failed, so that nobody matches texts.
type Kind string

// The kinds of failure.
const (
	OK          Kind = ""
	Timeout     Kind = "timeout"     // no answer at all
	Refused     Kind = "refused"     // a reset or an ICMP port unreachable
	Unreachable Kind = "unreachable" // an ICMP host or network unreachable, or no route here
	NameError   Kind = "name"        // the name did not resolve
	BadStatus   Kind = "status"      // an HTTP answer of another status
	Other       Kind = "other"
)

// Result is what a client prints, once, as its last line.
type Result struct {
	Kind     Kind          `json:"kind"`
	Error    string        `json:"error,omitempty"`
	Status   int           `json:"status,omitempty"`
	Body     string        `json:"body,omitempty"`
	Local    string        `json:"local,omitempty"`  // our address, as the socket tells it
	Remote   string        `json:"remote,omitempty"` // the peer's
	Names    []string      `json:"names,omitempty"`  // addresses of a look-up
	Sent     int           `json:"sent,omitempty"`   // echo requests
	Received int           `json:"received,omitempty"`
	Took     time.Duration `json:"took"` // nanoseconds
}

// Write prints the result as one line.
func (r Result) Write(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// ReplyOf parses the body as a Reply; false if it is none.
func (r Result) ReplyOf() (Reply, bool) {
	var out Reply
	if json.Unmarshal([]byte(r.Body), &out) != nil || out.Client == "" {
		return Reply{}, false
	}
	return out, true
}
