// Package why explains what became of a flow: a pure decision over facts that were collected from the
// agents, the API server and, with a person's own credentials, EC2.
package why

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/weft-cni/weft/internal/flow"
)

// Question is a flow as a person names it.
type Question struct {
	From, To End
	Protocol string // tcp, udp, icmp, …
	Port     uint16 // of To; 0: none
}

// End is a pod or an address; once it was looked up, both.
type End struct {
	Pod  string     `json:"pod,omitempty"` // namespace/name
	Addr netip.Addr `json:"addr,omitzero"`
}

func (e End) String() string {
	switch {
	case e.Pod != "" && e.Addr.IsValid():
		return fmt.Sprintf("%s (%s)", e.Pod, e.Addr)
	case e.Pod != "":
		return e.Pod
	}
	return e.Addr.String()
}

func (q Question) String() string {
	s := fmt.Sprintf("%s -> %s", q.From, q.To)
	if q.Port != 0 {
		s += " port " + strconv.Itoa(int(q.Port))
	}
	return s + " " + q.Protocol
}

var exactPod = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)

// Parse reads "FROM -> TO[:PORT][/PROTOCOL]", where FROM and TO are NAMESPACE/POD or addresses; an IPv6
// address with a port stands in brackets. With a port the protocol is tcp unless it is said, without icmp.
func Parse(s string) (Question, error) {
	var q Question
	from, to, ok := strings.Cut(s, "->")
	if !ok {
		return q, fmt.Errorf("found %q, expected FROM -> TO:PORT/PROTOCOL, such as: shop/web-0 -> 10.1.2.3:80/tcp", s)
	}
	var err error
	if q.From, err = parseEnd(strings.TrimSpace(from)); err != nil {
		return q, fmt.Errorf("sender: %w", err)
	}
	rest := strings.TrimSpace(to)
	// A pod's name has a slash of its own, so the protocol is what stands behind the last one, if it is one.
	if i := strings.LastIndexByte(rest, '/'); i >= 0 {
		if name, err := flow.ParseProtocol(rest[i+1:]); err == nil && !exactPod.MatchString(rest) {
			q.Protocol, rest = name, rest[:i]
		}
	}
	rest, port, err := cutPort(rest)
	if err != nil {
		return q, err
	}
	q.Port = port
	if q.To, err = parseEnd(rest); err != nil {
		return q, fmt.Errorf("receiver: %w", err)
	}
	if q.Protocol == "" {
		q.Protocol = "icmp"
		if q.Port != 0 {
			q.Protocol = "tcp"
		}
	}
	if q.Port != 0 && !flow.HasPorts(q.Protocol) {
		return q, fmt.Errorf("found port %d with %s, which has no ports", q.Port, q.Protocol)
	}
	if q.Port == 0 && flow.HasPorts(q.Protocol) {
		return q, fmt.Errorf("found no port, expected one with %s, such as %s:80/%s", q.Protocol, q.To, q.Protocol)
	}
	return q, nil
}

func cutPort(s string) (rest string, port uint16, err error) {
	number := ""
	switch i := strings.LastIndexByte(s, ':'); {
	case strings.HasPrefix(s, "["):
		inside, behind, ok := strings.Cut(s[1:], "]")
		if !ok || behind != "" && behind[0] != ':' {
			return "", 0, fmt.Errorf("found %q, expected [ADDRESS]:PORT", s)
		}
		s, number = inside, strings.TrimPrefix(behind, ":")
	case i >= 0 && strings.Count(s, ":") == 1:
		s, number = s[:i], s[i+1:]
		if number == "" {
			return "", 0, errors.New("found a colon without a port behind it")
		}
	}
	if number == "" {
		return s, 0, nil
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("found port %q, expected 1 to 65535", number)
	}
	return s, uint16(n), nil
}

func parseEnd(s string) (End, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return End{Addr: a.Unmap().WithZone("")}, nil
	}
	if exactPod.MatchString(s) {
		return End{Pod: s}, nil
	}
	return End{}, fmt.Errorf("found %q, expected NAMESPACE/POD or an address", s)
}
