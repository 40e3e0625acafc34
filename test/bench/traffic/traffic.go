// Package traffic keeps both ends of a connection busy, each a process of its own, on one CPU: so a rate is
// one over the CPU time that an operation costs at both ends and on the way.
package traffic

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-cni/weft/test/bench/ratio"
	"github.com/weft-cni/weft/test/rig"
)

// Path is the way from a client in one namespace to an address in another. A client may know the server by
// another address, a service's.
type Path struct {
	Client, Server rig.Space
	Address        netip.Addr
	Service        netip.Addr
	// Group is the control group that the client is in; nil: this process's.
	Group *rig.ControlGroup
}

// dial is the address that the client uses.
func (p Path) dial() netip.Addr {
	if p.Service.IsValid() {
		return p.Service
	}
	return p.Address
}

// Kind of traffic.
type Kind string

// RR is one byte there and back on an open connection, CRR a connection for each, UDP small datagrams one
// way, Stream bytes one way. The server answers the last datagram of a row and the last byte of a chunk, so
// that the client can't be ahead of it.
const (
	RR     Kind = "rr"
	CRR    Kind = "crr"
	UDP    Kind = "udp"
	Stream Kind = "stream"
)

// Port is the server's.
const Port = 7070

const (
	datagrams = 32 // in flight
	chunk     = 256 << 10
	patience  = 30 * time.Second

	turnTime   = 10 * time.Millisecond
	warmUp     = 2 // batches
	minBatches = 3
	minTurns   = 3
)

// batch bounds how many operations are timed together. What else runs on the machine interrupts few of many
// short batches, and the median leaves those out.
func (k Kind) batch() int {
	switch k {
	case RR:
		return 64
	case CRR:
		return 8
	case UDP:
		return 8
	}
	return 2
}

// work is what an operation does: datagrams of UDP, bytes of Stream.
func (k Kind) work() int {
	switch k {
	case UDP:
		return datagrams
	case Stream:
		return chunk
	}
	return 1
}

// Compare measures two paths in turns and returns how many operations a second each does; of Stream, bytes.
// Both are set up before the first turn, and turns are short: what else the machine does meets both alike.
func Compare(weft, peer Path, k Kind, cpu int, during time.Duration) (ratio.Pair, error) {
	rates, err := measure([]Path{weft, peer}, k, cpu, during)
	if err != nil {
		return ratio.Pair{}, err
	}
	return ratio.Pair{Weft: rates[0], Peer: rates[1]}, nil
}

// Rate measures one path alone.
func Rate(p Path, k Kind, cpu int, during time.Duration) (float64, error) {
	rates, err := measure([]Path{p}, k, cpu, during)
	if err != nil {
		return 0, err
	}
	return rates[0], nil
}

func measure(paths []Path, k Kind, cpu int, during time.Duration) (_ []float64, err error) {
	var pairs []*pair
	defer func() {
		for _, p := range pairs {
			err = errors.Join(err, p.close())
		}
	}()
	for _, path := range paths {
		p, err := start(path, k, cpu)
		if err != nil {
			return nil, fmt.Errorf("%s to %s: %w", k, path.dial(), err)
		}
		pairs = append(pairs, p)
	}
	rates := make([][]float64, len(pairs))
	for end, turns := time.Now().Add(time.Duration(len(paths))*during), 0; turns < minTurns || time.Now().Before(end); turns++ {
		for i, p := range pairs {
			got, err := p.turn()
			if err != nil {
				return nil, fmt.Errorf("%s to %s: %w", k, paths[i].dial(), err)
			}
			rates[i] = append(rates[i], got...)
		}
	}
	var out []float64
	for _, r := range rates {
		out = append(out, ratio.Median(r))
	}
	return out, nil
}
