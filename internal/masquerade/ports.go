package masquerade

import (
	"fmt"
	"strconv"
	"strings"
)

// Ports is a range of ports, both ends included.
type Ports struct{ First, Last uint16 }

func (p Ports) String() string { return fmt.Sprintf("%d-%d", p.First, p.Last) }

func (p Ports) size() int { return int(p.Last) - int(p.First) + 1 }

// NodePorts are the ports of services of type NodePort, unless the API server was told otherwise; EKS doesn't
// offer that.
func NodePorts() Ports { return Ports{30000, 32767} }

// fewest is below what a node can work with.
const fewest = 1024

// ParsePorts reads "1024-29999", or with a blank between as net.ipv4.ip_local_port_range has it.
func ParsePorts(s string) (Ports, error) {
	bad := fmt.Errorf("%q is no range of ports, expected for example 1024-29999", s)
	fields := strings.FieldsFunc(s, func(r rune) bool { return r == '-' || r == ' ' || r == '\t' || r == '\n' })
	if len(fields) != 2 {
		return Ports{}, bad
	}
	first, err := strconv.ParseUint(fields[0], 10, 16)
	if err != nil {
		return Ports{}, bad
	}
	last, err := strconv.ParseUint(fields[1], 10, 16)
	if err != nil || first < 1 || last < first {
		return Ports{}, bad
	}
	return Ports{uint16(first), uint16(last)}, nil
}

// ChoosePorts is the largest range above the privileged ports that the node takes no port from by itself:
// outside its ephemeral ports and the node ports. The lower one is taken of two that are equally large.
func ChoosePorts(ephemeral, nodePorts Ports) (Ports, error) {
	free := []Ports{{1024, 65535}}
	for _, taken := range []Ports{ephemeral, nodePorts} {
		var next []Ports
		for _, f := range free {
			if taken.Last < f.First || taken.First > f.Last {
				next = append(next, f)
				continue
			}
			if taken.First > f.First {
				next = append(next, Ports{f.First, taken.First - 1})
			}
			if taken.Last < f.Last {
				next = append(next, Ports{taken.Last + 1, f.Last})
			}
		}
		free = next
	}
	var best Ports
	for _, f := range free {
		if best == (Ports{}) || f.size() > best.size() {
			best = f
		}
	}
	if best == (Ports{}) || best.size() < fewest {
		return Ports{}, fmt.Errorf("net.ipv4.ip_local_port_range is %s, which leaves no %d ports for masquerading beside the node ports %s: narrow it, or set bpf.masqueradePorts", ephemeral, fewest, NodePorts())
	}
	return best, nil
}
