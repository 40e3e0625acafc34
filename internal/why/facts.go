package why

import (
	"net/netip"
	"time"

	"github.com/weft-cni/weft/internal/flow"
	"github.com/weft-cni/weft/internal/why/vpc"
)

// Facts are all that is known about a flow. What couldn't be asked is in Unknown with the reason; it is
// never taken for an answer.
type Facts struct {
	Question Question
	From, To Party
	// Drops of this flow, in either direction, oldest first.
	Drops []flow.Record
	// Connections of this flow, as the nodes' tables have them.
	Connections []Connection
	Nodes       []Node
	// Service is set for a flow to a service's address.
	Service *Service
	// VPC is what EC2 says; nil: it wasn't asked, Unknown says why.
	VPC     *vpc.Network
	Unknown []string
}

// Party is what is known of an end beside its name.
type Party struct {
	// Kind says what has the address.
	Kind Kind
	Node string
	// Phase is the pod's, empty: there is no such pod. Terminating says that it is on its way out.
	Phase       string
	Terminating bool
	HostNetwork bool
	// LastPod is who the nodes say has the address, if it isn't the pod that the API server has.
	LastPod string
	// ENI owns the address as the node's NodeNetwork has it; empty: no ENI does.
	ENI string
	// Endpoint tells whether the node's agent has an endpoint with the address; nil: it wasn't asked.
	Endpoint *bool
	MTU      int // of the ENI's device; 0: unknown
}

// Kind of a party.
type Kind string

// Kinds.
const (
	KindPod     Kind = "pod"
	KindNode    Kind = "node"
	KindService Kind = "service"
	KindFree    Kind = "free"    // an address of a node's ENI that no pod has
	KindInside  Kind = "inside"  // of the VPC, nobody's that Kubernetes knows
	KindOutside Kind = "outside" // of the VPC
)

// Connection is an entry of a node's tables.
type Connection struct {
	Node       string         `json:"node"`
	From       netip.AddrPort `json:"from"`
	To         netip.AddrPort `json:"to"`
	Protocol   string         `json:"protocol"`
	State      string         `json:"state"`
	Sent       uint64         `json:"sent"`     // packets of From
	Received   uint64         `json:"received"` // packets to From
	SentBytes  uint64         `json:"sentBytes"`
	Translated netip.AddrPort `json:"translated,omitzero"`
	Refused    bool           `json:"refused,omitempty"` // the table of established ones was full
	Began      time.Time      `json:"began"`
}

// Node is what an agent says of itself.
type Node struct {
	Name string `json:"name"`
	// Table of established connections: entries, most, refused for want of room. Failed: no entry at all
	// could be made.
	Established    int    `json:"established"`
	EstablishedMax int    `json:"establishedMax"`
	Refused        uint64 `json:"refused"`
	Failed         uint64 `json:"failed"`
	// Missing are interfaces that the node should have.
	Missing []string `json:"missing,omitempty"`
}

// Answer explains.
type Answer struct {
	Cause  Cause  `json:"cause"`
	Flow   string `json:"flow"`
	Reason string `json:"reason"`
	Object string `json:"object,omitempty"` // that decided
	Advice string `json:"advice,omitempty"`
	// Seen is what the explanation rests on, Unchecked what it couldn't look at.
	Seen      []string `json:"seen,omitempty"`
	Unchecked []string `json:"unchecked,omitempty"`
}

// Cause of a flow's fate; names stay.
type Cause string

// Causes.
const (
	Dropped         Cause = "dropped"
	DeadPod         Cause = "dead-pod"
	AddressNotOnENI Cause = "address-not-on-eni"
	NoRoute         Cause = "no-route"
	SourceCheck     Cause = "source-check"
	SecurityGroup   Cause = "security-group"
	NetworkACL      Cause = "network-acl"
	TableFull       Cause = "table-full"
	MTU             Cause = "mtu"
	NoBackend       Cause = "no-backend"      // of the service, for anybody
	NoBackendHere   Cause = "no-backend-here" // for senders of this node
	SourceRange     Cause = "source-range"    // the service isn't for this sender
	NotAnswering    Cause = "not-answering"   // it arrived, and the receiver is silent
	Works           Cause = "works"
	Unanswered      Cause = "unanswered" // sent, no answer, and nothing that could be looked at explains it
	NotSeen         Cause = "not-seen"
	Unknown         Cause = "unknown" // too little could be asked
)

// Witness is what one agent says of a flow between two addresses: the answer of /v1/why.
type Witness struct {
	Node
	Connections []Connection `json:"connections"`
	// Endpoints are those of the addresses that the node has an endpoint for, with its pod.
	Endpoints map[netip.Addr]string `json:"endpoints"`
	// MTU of the ENI that owns each of the addresses.
	MTU map[netip.Addr]int `json:"mtu"`
}
