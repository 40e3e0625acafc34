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

// Path is the way from a client in one namespace to an address in another.
type Path struct {
	Client, Server rig.Space
	Address        netip.Addr
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

const (
	port      = 7070
	datagrams = 32 // in flight
	chunk     = 256 << 10
	patience  = 5 * time.Second
	warmUp    = 3 // batches
)

// batch bounds how many operations are timed together. What else runs on the machine interrupts few of many
// short batches, and the median leaves those out.
func (k Kind) batch() int {
	switch k {
	case RR:
		return 64
	case CRR:
		return 16
	case UDP:
		return 8
	}
	return 4
}

// Rate measures for about the time and returns operations per second; of Stream, bytes.
func Rate(p Path, k Kind, cpu int, during time.Duration) (float64, error) {
	type outcome struct {
		rate float64
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread's namespace and CPU are spoilt for others
		rate, err := measure(p, k, cpu, during)
		done <- outcome{rate, err}
	}()
	o := <-done
	if o.err != nil {
		return 0, fmt.Errorf("%s to %s: %w", k, p.Address, o.err)
	}
	return o.rate, nil
}

func measure(p Path, k Kind, cpu int, during time.Duration) (_ float64, err error) {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return 0, fmt.Errorf("pin to CPU %d: %w", cpu, err)
	}
	s := &session{path: p, listener: -1, client: -1, server: -1, buf: make([]byte, chunk)}
	defer func() { err = errors.Join(err, s.close()) }()
	op, err := s.prepare(k)
	if err != nil {
		return 0, err
	}
	var rates []float64
	for end := time.Now().Add(during); len(rates) < warmUp+5 || time.Now().Before(end); {
		began, work := time.Now(), 0
		for range k.batch() {
			did, err := op()
			if err != nil {
				return 0, err
			}
			work += did
		}
		rates = append(rates, float64(work)/time.Since(began).Seconds())
	}
	return ratio.Median(rates[warmUp:]), nil
}
