// Package traffic keeps both ends of a connection busy from one thread on one CPU, so that a rate is one
// over the CPU time that an operation costs on the way.
package traffic

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/test/bench/ratio"
	"github.com/weft-cni/weft/test/rig"
)

// Path is the way from a client in one namespace to an address in another. A client may know the server by
// another address, a service's.
type Path struct {
	Client, Server rig.Space
	Address        netip.Addr
	Service        netip.Addr
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
// way, Stream bytes one way.
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
	patience  = 5 * time.Second

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

// Compare measures two paths in turns and returns how many operations a second each does; of Stream, bytes.
// Both are set up before the first turn, and turns are short: what else the machine does meets both alike.
func Compare(weft, peer Path, k Kind, cpu int, during time.Duration) (ratio.Pair, error) {
	rates, err := run([]Path{weft, peer}, k, cpu, during)
	if err != nil {
		return ratio.Pair{}, err
	}
	return ratio.Pair{Weft: rates[0], Peer: rates[1]}, nil
}

// Rate measures one path alone.
func Rate(p Path, k Kind, cpu int, during time.Duration) (float64, error) {
	rates, err := run([]Path{p}, k, cpu, during)
	if err != nil {
		return 0, err
	}
	return rates[0], nil
}

func run(paths []Path, k Kind, cpu int, during time.Duration) ([]float64, error) {
	type outcome struct {
		rates []float64
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread's namespace, CPU and priority are spoilt for others
		rates, err := measure(paths, k, cpu, during)
		done <- outcome{rates, err}
	}()
	o := <-done
	return o.rates, o.err
}

// prepare pins the thread and puts it before others, who would otherwise spoil a batch each time that they
// come in between.
func prepare(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to CPU %d: %w", cpu, err)
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, -20); err != nil {
		return fmt.Errorf("highest priority: %w", err)
	}
	return nil
}

func measure(paths []Path, k Kind, cpu int, during time.Duration) (_ []float64, err error) {
	if err := prepare(cpu); err != nil {
		return nil, err
	}
	var sessions []*session
	defer func() {
		for _, s := range sessions {
			err = errors.Join(err, s.close())
		}
	}()
	for _, p := range paths {
		s := &session{path: p, listener: -1, client: -1, server: -1, buf: make([]byte, chunk)}
		sessions = append(sessions, s)
		if err := s.prepare(k); err != nil {
			return nil, fmt.Errorf("%s to %s: %w", k, p.dial(), err)
		}
	}
	rates := make([][]float64, len(sessions))
	for end, turns := time.Now().Add(time.Duration(len(paths))*during), 0; turns < minTurns || time.Now().Before(end); turns++ {
		for i, s := range sessions {
			got, err := s.turn(k)
			if err != nil {
				return nil, fmt.Errorf("%s to %s: %w", k, s.path.dial(), err)
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

// turn repeats batches for a while. The first ones bring back what the other path's turn has driven out of the
// caches, and don't count.
func (s *session) turn(k Kind) ([]float64, error) {
	if err := s.path.Client.Enter(); err != nil {
		return nil, err
	}
	var rates []float64
	for end, n := time.Now().Add(turnTime), 0; n < warmUp+minBatches || time.Now().Before(end); n++ {
		began, work := time.Now(), 0
		for range k.batch() {
			did, err := s.op()
			if err != nil {
				return nil, err
			}
			work += did
		}
		if n >= warmUp {
			rates = append(rates, float64(work)/time.Since(began).Seconds())
		}
	}
	return rates, nil
}
