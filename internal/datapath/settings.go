package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-cni/weft/internal/contract"
)

// Settings are what the programs are told beside what they forward; they may change while packets flow.
type Settings struct {
	IPv4, IPv6 bool // enabled families; what is of another one is refused
	// Masquerade says that the programs translate what leaves for the world, where its ENI names a source.
	Masquerade bool
	// MasqueradePorts are the first and the last source port of translated flows.
	MasqueradePorts [2]uint16
	// MetadataClosed keeps pods from the instance's metadata altogether.
	MetadataClosed bool
	Lifetimes      Lifetimes
	// EventsPerSecond bounds each kind of event on each CPU; what is above is only counted.
	EventsPerSecond uint32
	// NodeAddr and NodeAddr6 are where most packets to the host go.
	NodeAddr, NodeAddr6 netip.Addr
}

// Lifetimes say how long a flow is remembered after its last packet.
type Lifetimes struct {
	TCP   time.Duration // established
	SYN   time.Duration // beginning
	FIN   time.Duration // closed or reset
	Any   time.Duration // other protocols
	Stack time.Duration // other protocols by the kernel's stack: not shorter than the kernel's own
}

// DefaultSettings are those of a node that was told nothing.
func DefaultSettings() Settings {
	return Settings{
		IPv4:            true,
		MasqueradePorts: [2]uint16{1024, 29999},
		Lifetimes:       Lifetimes{TCP: 8000 * time.Second, SYN: time.Minute, FIN: 10 * time.Second, Any: time.Minute, Stack: 3 * time.Minute},
		EventsPerSecond: 1000,
	}
}

// Validate returns everything that the programs can't take.
func (s Settings) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if !s.IPv4 && !s.IPv6 {
		bad("no address family is enabled, expected IPv4, IPv6 or both")
	}
	if low, high := s.MasqueradePorts[0], s.MasqueradePorts[1]; low < 1 || high < low {
		bad("masquerading ports are %d to %d, expected a range of at least one port", low, high)
	}
	for _, l := range s.Lifetimes.list() {
		if l.value < time.Second || l.value > maxLifetime {
			bad("lifetime of %s is %s, expected 1s to %s", l.name, l.value, maxLifetime)
		}
	}
	if s.NodeAddr.IsValid() && !s.NodeAddr.Unmap().Is4() {
		bad("the node's address is %q, expected an IPv4 address or none", s.NodeAddr)
	}
	if s.NodeAddr6.IsValid() && !isIPv6(s.NodeAddr6) {
		bad("the node's second address is %q, expected an IPv6 address or none", s.NodeAddr6)
	}
	return errors.Join(errs...)
}

// maxLifetime keeps times in 32 bits of jiffies comparable: less than half of their range at 1000 a second.
const maxLifetime = 14 * 24 * time.Hour

type namedLifetime struct {
	name  string
	index int
	value time.Duration
}

func (l Lifetimes) list() []namedLifetime {
	return []namedLifetime{
		{"established TCP", lifetimeTCP, l.TCP}, {"beginning TCP", lifetimeSYN, l.SYN}, {"closed TCP", lifetimeFIN, l.FIN},
		{"other protocols", lifetimeAny, l.Any}, {"other protocols by the stack", lifetimeStack, l.Stack},
	}
}

// newConfigValue is what the programs read; hz is the kernel's jiffies per second.
func newConfigValue(s Settings, hz uint32, w Watch) configValue {
	c := configValue{
		Layout:            layoutVersion,
		Gateway:           toWire(contract.Gateway),
		Gateway6:          toWire(contract.Gateway6),
		MasqueradePortMin: s.MasqueradePorts[0],
		MasqueradePortMax: s.MasqueradePorts[1],
		JiffiesPerSecond:  hz,
		EventsPerSecond:   s.EventsPerSecond,
		EventTypes:        toldTypes(w),
		EventCapture:      uint32(w.Capture),
		NodeAddr:          toWire(s.NodeAddr),
		NodeAddr6:         toWire(s.NodeAddr6),
	}
	for flag, on := range map[uint32]bool{familyIPv4: s.IPv4, familyIPv6: s.IPv6} {
		if on {
			c.Families |= flag
		}
	}
	for flag, on := range map[uint32]bool{configMasquerade: s.Masquerade, configMetadataClosed: s.MetadataClosed, configTrace: w.Trace} {
		if on {
			c.Flags |= flag
		}
	}
	for _, l := range s.Lifetimes.list() {
		c.Lifetime[l.index] = uint32(l.value * time.Duration(hz) / time.Second)
	}
	for i, port := range tunnelPorts() {
		binary.BigEndian.PutUint16(c.TunnelPorts[i][:], port)
	}
	return c
}

// settings undoes newConfigValue.
func (c configValue) settings() Settings {
	s := Settings{
		IPv4: c.Families&familyIPv4 != 0, IPv6: c.Families&familyIPv6 != 0,
		Masquerade: c.Flags&configMasquerade != 0, MasqueradePorts: [2]uint16{c.MasqueradePortMin, c.MasqueradePortMax},
		MetadataClosed: c.Flags&configMetadataClosed != 0, EventsPerSecond: c.EventsPerSecond,
		NodeAddr: fromWire(c.NodeAddr), NodeAddr6: fromWire(c.NodeAddr6),
	}
	lifetime := func(index int) time.Duration {
		return time.Duration(c.Lifetime[index]) * time.Second / time.Duration(max(c.JiffiesPerSecond, 1))
	}
	s.Lifetimes = Lifetimes{TCP: lifetime(lifetimeTCP), SYN: lifetime(lifetimeSYN), FIN: lifetime(lifetimeFIN), Any: lifetime(lifetimeAny), Stack: lifetime(lifetimeStack)}
	return s
}

// firstSettings are those given, those that an earlier agent left, or the default: an agent that doesn't know
// yet what it wants changes nothing.
func (d *Datapath) firstSettings(given Settings) (Settings, error) {
	if given != (Settings{}) {
		if err := given.Validate(); err != nil {
			return Settings{}, fmt.Errorf("settings of the datapath: %w", err)
		}
		return given, nil
	}
	have, err := d.readConfig()
	if err != nil {
		return Settings{}, err
	}
	if s := have.settings(); have.Layout == layoutVersion && s.Validate() == nil {
		return s, nil
	}
	return DefaultSettings(), nil
}

// Configure makes the programs follow s from the next packet on.
func (d *Datapath) Configure(s Settings) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("settings of the datapath: %w", err)
	}
	end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	if err := d.writeConfig(s, d.watch); err != nil {
		return err
	}
	d.settings = s
	return nil
}

// Settings are those that the programs follow.
func (d *Datapath) Settings() Settings {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settings
}

// Watch is what the programs tell while somebody looks on, beside drops and the beginnings and ends of
// flows.
type Watch struct {
	Trace   bool // of every packet that passes
	Capture int  // with so many bytes of each packet
}

// toldTypes are the types of event that anybody is told of.
func toldTypes(w Watch) uint32 {
	told := uint32(1<<EventDrop | 1<<EventVerdict | 1<<EventNew | 1<<EventClose)
	if w.Trace {
		told |= 1 << EventTrace
	}
	return told
}

// SetWatch changes what the programs tell.
func (d *Datapath) SetWatch(w Watch) error {
	if w.Capture < 0 || w.Capture > MaxCapture {
		return fmt.Errorf("captured bytes are %d, expected 0 to %d", w.Capture, MaxCapture)
	}
	end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	if err := d.writeConfig(d.settings, w); err != nil {
		return err
	}
	d.watch = w
	return nil
}

// Watch is what the programs tell now.
func (d *Datapath) Watch() Watch {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.watch
}

// writeConfig refuses a layout that isn't ours, and otherwise writes what the programs read.
func (d *Datapath) writeConfig(s Settings, w Watch) error {
	have, err := d.readConfig()
	if err != nil {
		return err
	}
	if have.Layout != 0 && have.Layout != layoutVersion {
		return &LayoutError{Map: weftMapWeftConfig, Err: fmt.Errorf("layout is %d, expected %d", have.Layout, layoutVersion)}
	}
	want := newConfigValue(s, d.hz, w)
	want.Epoch = d.epoch
	if have == want {
		return nil
	}
	if err := d.maps[weftMapWeftConfig].Put(uint32(0), want); err != nil {
		return fmt.Errorf("write %s: %w", weftMapWeftConfig, err)
	}
	return nil
}
