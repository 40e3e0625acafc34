package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/weft-cni/weft/test/rig"
)

// segments are counts of TCP's that stand for packets that came late or never.
type segments struct {
	again    uint64 // sent again
	probes   uint64 // of them because an answer was late by a few round trips, not known to be lost
	twice    uint64 // arrived though they had arrived before: sent again for nothing
	timeouts uint64 // retransmission timers that ran out
}

func (s segments) minus(o segments) segments {
	return segments{s.again - o.again, s.probes - o.probes, s.twice - o.twice, s.timeouts - o.timeouts}
}

// segments sums up over all who talk. Churning pods take their counts along.
func (n *network) segments() (sum segments, err error) {
	spaces := []rig.Space{n.vpc}
	for _, one := range n.nodes {
		spaces = append(spaces, one.client.space, one.server.space)
	}
	if n.second != nil {
		spaces = append(spaces, n.second.space)
	}
	for _, s := range spaces {
		err := s.Do(func() error {
			for _, c := range []struct {
				file, protocol, name string
				to                   *uint64
			}{
				{"snmp", "Tcp", "RetransSegs", &sum.again},
				{"netstat", "TcpExt", "TCPLossProbes", &sum.probes},
				{"netstat", "TcpExt", "TCPDSACKRecv", &sum.twice},
				{"netstat", "TcpExt", "TCPTimeouts", &sum.timeouts},
			} {
				b, err := os.ReadFile("/proc/thread-self/net/" + c.file)
				if err != nil {
					return err
				}
				v, err := snmp(string(b), c.protocol, c.name)
				if err != nil {
					return err
				}
				*c.to += v
			}
			return nil
		})
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// snmp finds a counter in the kernel's table of names and values.
func snmp(table, protocol, name string) (uint64, error) {
	var names []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != protocol+":" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, f := range names {
			if f == name && i < len(fields) {
				var v uint64
				_, err := fmt.Sscan(fields[i], &v)
				return v, err
			}
		}
	}
	return 0, fmt.Errorf("the kernel counts no %s %s", protocol, name)
}
