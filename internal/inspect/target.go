package inspect

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A Target is a service's frontend as people write it.
type Target struct {
	// Address is valid for one by address.
	Address netip.AddrPort
	// Namespace and Name are a service's; Namespace may be empty: whichever has one of that name.
	Namespace, Name string
	// Port is the number or the name of a service's port, empty for any.
	Port string
	// Protocol is TCP, UDP, SCTP, or empty for any.
	Protocol string
}

// ParseTarget reads ADDRESS:PORT[/PROTOCOL], [NAMESPACE/]NAME[:PORT[/PROTOCOL]] and NAME.NAMESPACE[.svc…][:PORT[/PROTOCOL]].
func ParseTarget(text string) (Target, error) {
	bad := func() (Target, error) {
		return Target{}, fmt.Errorf("found %q, expected a frontend such as 172.20.0.10:80/tcp, shop/web:http, shop/web:53/udp or web.shop.svc:80", text)
	}
	var t Target
	rest := text
	// The last slash is a protocol's only after a port.
	if i := strings.LastIndexByte(rest, '/'); i > strings.LastIndexByte(rest, ':') && strings.Contains(rest, ":") {
		var protocol string
		rest, protocol = rest[:i], rest[i+1:]
		switch t.Protocol = strings.ToUpper(protocol); t.Protocol {
		case "TCP", "UDP", "SCTP":
		default:
			return Target{}, fmt.Errorf("found protocol %q in %q, expected tcp, udp or sctp", protocol, text)
		}
	}
	if a, err := netip.ParseAddrPort(rest); err == nil {
		if a.Port() == 0 || a.Addr().Zone() != "" {
			return bad()
		}
		t.Address = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		return t, nil
	}
	if _, err := netip.ParseAddr(strings.Trim(rest, "[]")); err == nil {
		return Target{}, fmt.Errorf("found address %q without a port, expected for example %s", text, netip.AddrPortFrom(netip.MustParseAddr(strings.Trim(rest, "[]")), 80))
	}
	name, port, hasPort := strings.Cut(rest, ":")
	if hasPort && (port == "" || strings.ContainsAny(port, ":/")) {
		return bad()
	}
	if n, err := strconv.Atoi(port); err == nil && (n < 1 || n > 65535) {
		return Target{}, fmt.Errorf("found port %d in %q, expected 1 to 65535", n, text)
	}
	t.Port = port
	if namespace, own, ok := strings.Cut(name, "/"); ok {
		t.Namespace, t.Name = namespace, own
		if namespace == "" {
			return bad()
		}
	} else {
		parts := strings.Split(name, ".")
		t.Name = parts[0]
		if len(parts) > 1 {
			t.Namespace = parts[1]
		}
		if len(parts) > 2 && parts[2] != "svc" || len(parts) > 1 && parts[1] == "" {
			return bad()
		}
	}
	if t.Name == "" || strings.ContainsAny(t.Name, "/ ") || strings.ContainsAny(t.Namespace, "/ .") {
		return bad()
	}
	return t, nil
}

func (t Target) String() string {
	s := t.Address.String()
	if !t.Address.IsValid() {
		s = t.Name
		if t.Namespace != "" {
			s = t.Namespace + "/" + s
		}
		if t.Port != "" {
			s += ":" + t.Port
		}
	}
	if t.Protocol != "" {
		s += "/" + strings.ToLower(t.Protocol)
	}
	return s
}

// Named tells whether a service and its port are meant. number is the port's own.
func (t Target) Named(namespace, name, port string, number uint16, protocol string) bool {
	if t.Address.IsValid() || t.Name != name || t.Namespace != "" && t.Namespace != namespace {
		return false
	}
	if t.Protocol != "" && t.Protocol != protocol {
		return false
	}
	return t.Port == "" || t.Port == port || t.Port == strconv.Itoa(int(number))
}
