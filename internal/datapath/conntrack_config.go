package datapath

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ConntrackConfig is the size of the connection tables and how long their entries live. The zero value is
// the defaults.
type ConntrackConfig struct {
	AnyMax   int // entries of the table of new and datagram flows: bpf.ctAnyMax
	TCPMax   int // entries of the table of established flows: bpf.ctTcpMax
	Timeouts ConntrackTimeouts
}

// ConntrackTimeouts is how long an entry lives after its last packet. Zero is the default.
type ConntrackTimeouts struct {
	TCP   time.Duration // established: bpf-ct-timeout-regular-tcp
	SYN   time.Duration // not answered or not confirmed yet: bpf-ct-timeout-regular-tcp-syn
	FIN   time.Duration // closed or reset: bpf-ct-timeout-regular-tcp-fin
	Any   time.Duration // other protocols: bpf-ct-timeout-regular-any
	Stack time.Duration // other protocols through the kernel's stack, which must not forget earlier than we do
}

// Defaults of the connection tables.
const (
	DefaultCTAnyMax = 262144
	DefaultCTTCPMax = 524288

	minCTMax = 1024
	maxCTMax = 16 << 20

	maxCTTimeout = 21 * 24 * time.Hour // jiffies are compared in 32 bits
)

func defaultTimeouts() ConntrackTimeouts {
	return ConntrackTimeouts{
		TCP:   8000 * time.Second,
		SYN:   60 * time.Second,
		FIN:   10 * time.Second,
		Any:   60 * time.Second,
		Stack: 180 * time.Second,
	}
}

// withDefaults fills in what isn't set and refuses what the tables can't have.
func (c ConntrackConfig) withDefaults() (ConntrackConfig, error) {
	def := defaultTimeouts()
	var errs []error
	for _, t := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"bpf-ct-timeout-regular-tcp", &c.Timeouts.TCP, def.TCP},
		{"bpf-ct-timeout-regular-tcp-syn", &c.Timeouts.SYN, def.SYN},
		{"bpf-ct-timeout-regular-tcp-fin", &c.Timeouts.FIN, def.FIN},
		{"bpf-ct-timeout-regular-any", &c.Timeouts.Any, def.Any},
		{"time-out of flows through the stack", &c.Timeouts.Stack, max(def.Stack, c.Timeouts.Any)},
	} {
		if *t.value == 0 {
			*t.value = t.def
		}
		if *t.value < time.Second || *t.value > maxCTTimeout {
			errs = append(errs, fmt.Errorf("%s is %s, expected 1s to %s", t.name, *t.value, maxCTTimeout))
		}
	}
	for _, m := range []struct {
		name  string
		value *int
		def   int
	}{
		{"bpf.ctAnyMax", &c.AnyMax, DefaultCTAnyMax},
		{"bpf.ctTcpMax", &c.TCPMax, DefaultCTTCPMax},
	} {
		if *m.value == 0 {
			*m.value = m.def
		}
		if *m.value < minCTMax || *m.value > maxCTMax {
			errs = append(errs, fmt.Errorf("%s is %d, expected %d to %d", m.name, *m.value, minCTMax, maxCTMax))
		}
	}
	return c, errors.Join(errs...)
}

// write puts the lifetimes into the configuration that the programs read.
func (c ConntrackConfig) write(v *configValue) error {
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	hz, err := jiffiesPerSecond()
	if err != nil {
		return err
	}
	v.JiffiesPerSecond = hz
	for i, d := range []time.Duration{c.Timeouts.TCP, c.Timeouts.SYN, c.Timeouts.FIN, c.Timeouts.Any, c.Timeouts.Stack} {
		v.Lifetime[i] = uint32(d.Seconds() * float64(hz))
	}
	return nil
}

// jiffiesPerSecond reads the length of a jiffy as the resolution of the kernel's coarse clock.
func jiffiesPerSecond() (uint32, error) {
	var res unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &res); err != nil {
		return 0, fmt.Errorf("read the resolution of the coarse clock: %w", err)
	}
	if res.Sec != 0 || res.Nsec < int64(time.Microsecond) || res.Nsec > int64(100*time.Millisecond) {
		return 0, fmt.Errorf("the resolution of the coarse clock is %d s and %d ns, expected 1 to 10 ms", res.Sec, res.Nsec)
	}
	return uint32(math.Round(1e9 / float64(res.Nsec))), nil
}

// The rings hold a slot for each entry that must be found when it has expired, and for those that have
// gone since, until their turn comes.
func ringSizes(c ConntrackConfig) [ringMax]uint32 {
	return [ringMax]uint32{
		ringNew:    uint32(max(minCTMax, c.AnyMax/2)),
		ringEst:    uint32(c.TCPMax + c.TCPMax/2 + minCTMax),
		ringClosed: uint32(max(minCTMax, c.TCPMax/8)),
	}
}

// sizeConntrack gives the tables their sizes before they are made.
func sizeConntrack(spec *ebpf.CollectionSpec, c ConntrackConfig) error {
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	spec.Maps[weftMapWeftCtNew].MaxEntries = uint32(c.AnyMax)
	spec.Maps[weftMapWeftCtEst].MaxEntries = uint32(c.TCPMax)
	var slots uint32
	for _, n := range ringSizes(c) {
		slots += n
	}
	spec.Maps[weftMapWeftCtSlots].MaxEntries = slots
	return nil
}

// writeRings divides the slots among the rings, once: whoever finds them divided leaves them so.
func (d *Datapath) writeRings() error {
	rings := d.maps[weftMapWeftCtRings]
	sizes := ringSizes(ConntrackConfig{
		AnyMax: int(d.maps[weftMapWeftCtNew].MaxEntries()),
		TCPMax: int(d.maps[weftMapWeftCtEst].MaxEntries()),
	})
	base := uint32(0)
	for i, n := range sizes {
		var have ctRing
		if err := rings.Lookup(uint32(i), &have); err != nil {
			return fmt.Errorf("read %s: %w", weftMapWeftCtRings, err)
		}
		if have.Size == 0 {
			if err := rings.Put(uint32(i), ctRing{Size: n, Base: base}); err != nil {
				return fmt.Errorf("write %s: %w", weftMapWeftCtRings, err)
			}
		}
		base += n
	}
	return nil
}
