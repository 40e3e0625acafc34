package flow

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Filter chooses records: those that match every field that isn't empty; within a field any value will do.
type Filter struct {
	Types     []Type
	Any       []Peer // at either end
	From, To  []Peer
	Ports     []uint16 // at either end
	Protocols []string
	Reasons   []string
	Since     time.Time
}

// Peer is a pod, all pods of a namespace, or addresses.
type Peer struct {
	Pod    string // namespace/name; namespace/ for all of it
	Prefix netip.Prefix
}

var podName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?/([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$`)

// ParsePeer takes namespace/pod, namespace/, an address or a prefix.
func ParsePeer(s string) (Peer, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return Peer{Prefix: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return Peer{Prefix: p.Masked()}, nil
	}
	if podName.MatchString(s) {
		return Peer{Pod: s}, nil
	}
	return Peer{}, fmt.Errorf("found %q, expected NAMESPACE/POD, NAMESPACE/, an address or a CIDR", s)
}

func (p Peer) String() string {
	if p.Pod != "" {
		return p.Pod
	}
	if p.Prefix.IsSingleIP() {
		return p.Prefix.Addr().String()
	}
	return p.Prefix.String()
}

// Match tells whether the side is one of the peer's.
func (p Peer) Match(s Side) bool {
	if p.Pod == "" {
		return s.Addr.IsValid() && p.Prefix.Contains(s.Addr)
	}
	if strings.HasSuffix(p.Pod, "/") {
		return strings.HasPrefix(s.Pod, p.Pod)
	}
	return s.Pod == p.Pod
}

func matches(peers []Peer, sides ...Side) bool {
	if len(peers) == 0 {
		return true
	}
	for _, p := range peers {
		if slices.ContainsFunc(sides, p.Match) {
			return true
		}
	}
	return false
}

// Match tells whether the record is chosen. What tells of lost records always is.
func (f Filter) Match(r Record) bool {
	switch {
	case r.Type == Lost:
		return true
	case len(f.Types) > 0 && !slices.Contains(f.Types, r.Type),
		len(f.Reasons) > 0 && !slices.Contains(f.Reasons, r.Reason),
		len(f.Protocols) > 0 && !slices.Contains(f.Protocols, r.Protocol),
		len(f.Ports) > 0 && !(HasPorts(r.Protocol) && (slices.Contains(f.Ports, r.From.Port) || slices.Contains(f.Ports, r.To.Port))),
		!f.Since.IsZero() && r.Time.Before(f.Since):
		return false
	}
	return matches(f.Any, r.From, r.To) && matches(f.From, r.From) && matches(f.To, r.To)
}

// Values writes the filter as a query of the agent's API.
func (f Filter) Values() url.Values {
	v := url.Values{}
	for _, t := range f.Types {
		v.Add("type", string(t))
	}
	for name, peers := range map[string][]Peer{"peer": f.Any, "from": f.From, "to": f.To} {
		for _, p := range peers {
			v.Add(name, p.String())
		}
	}
	for _, p := range f.Ports {
		v.Add("port", strconv.Itoa(int(p)))
	}
	for _, p := range f.Protocols {
		v.Add("protocol", p)
	}
	for _, r := range f.Reasons {
		v.Add("reason", r)
	}
	if !f.Since.IsZero() {
		v.Set("since", f.Since.UTC().Format(time.RFC3339Nano))
	}
	return v
}

// ParseFilter reads what Values wrote, or a person typed: each value may also be a list with commas.
func ParseFilter(v url.Values) (Filter, error) {
	var f Filter
	all := func(name string, take func(string) error) error {
		for _, list := range v[name] {
			for _, s := range strings.Split(list, ",") {
				if s = strings.TrimSpace(s); s == "" {
					continue
				}
				if err := take(s); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		}
		return nil
	}
	peers := func(to *[]Peer) func(string) error {
		return func(s string) error {
			p, err := ParsePeer(s)
			*to = append(*to, p)
			return err
		}
	}
	steps := []struct {
		name string
		take func(string) error
	}{
		{"type", func(s string) error {
			if !slices.Contains(Types(), Type(s)) {
				return fmt.Errorf("found %q, expected drop, new, close, trace or verdict", s)
			}
			f.Types = append(f.Types, Type(s))
			return nil
		}},
		{"peer", peers(&f.Any)}, {"from", peers(&f.From)}, {"to", peers(&f.To)},
		{"port", func(s string) error {
			n, err := strconv.ParseUint(s, 10, 16)
			if err != nil || n == 0 {
				return fmt.Errorf("found %q, expected a port from 1 to 65535", s)
			}
			f.Ports = append(f.Ports, uint16(n))
			return nil
		}},
		{"protocol", func(s string) error {
			name, err := ParseProtocol(s)
			f.Protocols = append(f.Protocols, name)
			return err
		}},
		{"reason", func(s string) error {
			f.Reasons = append(f.Reasons, s)
			return nil
		}},
		{"since", func(s string) error {
			t, err := time.Parse(time.RFC3339Nano, s)
			if err != nil {
				return fmt.Errorf("found %q, expected a time such as 2006-01-02T15:04:05Z", s)
			}
			f.Since = t
			return nil
		}},
	}
	for _, s := range steps {
		if err := all(s.name, s.take); err != nil {
			return Filter{}, err
		}
	}
	return f, nil
}
