// Package flow is what happened to packets and connections, in people's terms: the record, what chooses
// among records, the ring that keeps the last of them, and how they look on a screen and in a capture.
package flow

import (
	"net/netip"
	"time"
)

// Type is what a record tells of.
type Type string

// Types.
const (
	Drop    Type = "drop"    // a packet that went no further
	Trace   Type = "trace"   // a packet that passed
	Verdict Type = "verdict" // what policy said
	New     Type = "new"     // the first packet of a connection
	Close   Type = "close"   // the end of a connection
	Lost    Type = "lost"    // records that the reader was too slow for, or that were never made
)

// Types lists those that a person may ask for.
func Types() []Type { return []Type{Drop, Trace, Verdict, New, Close} }

// Record is one event. Its JSON is what programs read: fields are added, never renamed.
type Record struct {
	// Seq numbers a node's records without gaps, from 1 at each start of its agent.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	Node string    `json:"node"`
	Type Type      `json:"type"`

	Hook      string `json:"hook,omitempty"`
	Direction string `json:"direction,omitempty"` // as the endpoint or the host sees it
	// Reason is a name that stays, Text says it in words, Advice what to do; Where is the file and line
	// that decided, Object what it decided about or for whom.
	Reason string `json:"reason,omitempty"`
	Text   string `json:"text,omitempty"`
	Advice string `json:"advice,omitempty"`
	Where  string `json:"where,omitempty"`
	Object string `json:"object,omitempty"`

	Family   string `json:"family,omitempty"`   // ipv4, ipv6, arp, or a number
	Protocol string `json:"protocol,omitempty"` // tcp, udp, or a number
	ICMP     string `json:"icmp,omitempty"`     // type/code
	From     Side   `json:"from"`
	To       Side   `json:"to"`
	Length   int    `json:"length,omitempty"` // of the packet, with its Ethernet header
	// Connection says how the connection is treated: stack, nat, midstream.
	Connection []string `json:"connection,omitempty"`
	// NAT is the address and port that stand for From's outside.
	NAT string `json:"nat,omitempty"`
	// Seconds is how long the connection lived.
	Seconds float64 `json:"seconds,omitempty"`
	// Suppressed says how many more of this type this CPU had that were only counted, Count how many
	// records a lost one stands for.
	Suppressed uint32 `json:"suppressed,omitempty"`
	Count      uint64 `json:"count,omitempty"`
	// Data is the packet's beginning, if it was asked for.
	Data []byte `json:"data,omitempty"`
}

// Side is one end.
type Side struct {
	Addr netip.Addr `json:"addr,omitzero"`
	Port uint16     `json:"port,omitempty"`
	// Pod is namespace/name of the pod that had the address then.
	Pod string `json:"pod,omitempty"`
	// Gone says that the pod that the connection was made for has left.
	Gone    bool   `json:"gone,omitempty"`
	Packets uint64 `json:"packets,omitempty"`
	Bytes   uint64 `json:"bytes,omitempty"`
	TCP     string `json:"tcp,omitempty"` // flags that it sent
}

// tcpFlags by their bits, as tcpdump names them at length.
func tcpFlags() []string { return []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"} }

// TCPFlags are the flags' names.
func TCPFlags(bits uint8) string {
	out := ""
	for i, name := range tcpFlags() {
		if bits&(1<<i) == 0 {
			continue
		}
		if out != "" {
			out += ","
		}
		out += name
	}
	return out
}
