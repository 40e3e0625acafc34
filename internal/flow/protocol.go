package flow

import (
	"fmt"
	"strconv"
)

// ProtocolName is IANA's keyword in small letters where people use it, otherwise the number.
func ProtocolName(n uint8) string {
	switch n {
	case 1:
		return "icmp"
	case 2:
		return "igmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 47:
		return "gre"
	case 50:
		return "esp"
	case 51:
		return "ah"
	case 58:
		return "icmpv6"
	case 132:
		return "sctp"
	}
	return strconv.Itoa(int(n))
}

// ParseProtocol takes a name or a number and returns the name.
func ParseProtocol(s string) (string, error) {
	if n, err := strconv.ParseUint(s, 10, 8); err == nil {
		return ProtocolName(uint8(n)), nil
	}
	for n := range 256 {
		if ProtocolName(uint8(n)) == s {
			return s, nil
		}
	}
	return "", fmt.Errorf("found protocol %q, expected tcp, udp, icmp, icmpv6, sctp or a number up to 255", s)
}

// HasPorts tells whether ports mean something.
func HasPorts(protocol string) bool {
	return protocol == "tcp" || protocol == "udp" || protocol == "sctp"
}
