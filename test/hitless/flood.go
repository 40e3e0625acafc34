package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/agent"
	"github.com/weft-cni/weft/internal/datapath"
)

const (
	// tableSize is small, so that ten times as much is sent in a short time.
	tableSize   = 4096
	established = 1000
	times       = 10               // the tables' size
	nowhere     = "10.20.240.0/20" // addresses in the VPC that nobody has
)

// flooded is what a flood did.
type flooded struct {
	sent, lost                int
	arrived                   uint64 // packets at the VPC, others' among them
	took                      time.Duration
	quiet, during             []time.Duration // round trips of another pod, sorted
	memoryBefore, memoryAfter int64           // of the agent, bytes
	logGrew                   int64
	storms                    []storm
	// What the programs counted of the packets of the node's pods meanwhile, by reason, and of their events.
	counted map[string]uint64
	events  agent.EventStat
}

// flood lets one pod send SYNs and datagrams to addresses and ports that are all different, and looks at
// connections that were there before, at another pod's round trips, and at the agent.
func (n *network) flood(ctx context.Context) (*flooded, error) {
	a, b := n.nodes[0], n.nodes[1]
	attacker, err := a.pod(ctx, "attacker", &n.wrong)
	if err != nil {
		return nil, err
	}
	if err := n.vpc.Do(func() error { return blackhole(nowhere) }); err != nil {
		return nil, err
	}
	var kept []net.Conn
	defer func() {
		for _, c := range kept {
			c.Close()
		}
	}()
	for i := range established {
		to := a.client.asks([]*server{b.server.server, a.server.server}[i%2])
		c, err := to.dial()
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		kept = append(kept, c)
		if err := ask(c, to.name, 1, nil); err != nil {
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
	}
	out := &flooded{}
	watched := a.client.asks(b.server.server)
	if out.quiet, err = watched.trips(ctx, 3*time.Second); err != nil {
		return nil, err
	}
	if out.memoryBefore, err = resident(a.agent.Process()); err != nil {
		return nil, err
	}
	logBefore, err := os.Stat(a.spec.LogFile())
	if err != nil {
		return nil, err
	}
	arrived, err := n.received("n0e0", "n0e1")
	if err != nil {
		return nil, err
	}
	began := time.Now()
	during, end := context.WithCancel(ctx)
	defer end()
	var g errgroup.Group
	g.Go(func() (err error) {
		// As long as the packets last.
		out.during, err = watched.trips(during, time.Hour)
		return err
	})
	out.sent = times * 2 * tableSize
	err = attacker.spray(out.sent)
	end()
	if err := errors.Join(err, g.Wait()); err != nil {
		return nil, err
	}
	out.took = time.Since(began)
	after, err := n.received("n0e0", "n0e1")
	if err != nil {
		return nil, err
	}
	out.arrived = after - arrived
	for i, c := range kept {
		name := []string{b.server.name, a.server.name}[i%2]
		if ask(c, name, 2, nil) != nil {
			out.lost++
		}
	}
	if err := n.weather(ctx, attacker, out); err != nil {
		return nil, err
	}
	if out.memoryAfter, err = resident(a.agent.Process()); err != nil {
		return nil, err
	}
	logAfter, err := os.Stat(a.spec.LogFile())
	if err != nil {
		return nil, err
	}
	out.logGrew = logAfter.Size() - logBefore.Size()
	return out, attacker.remove(ctx)
}

// weather has the attacker send all that is bad, and looks at what the agent makes of it.
func (n *network) weather(ctx context.Context, attacker *pod, out *flooded) error {
	a := n.nodes[0]
	before, err := a.counted(ctx)
	if err != nil {
		return err
	}
	events, err := a.events(ctx)
	if err != nil {
		return err
	}
	if out.storms, err = n.storms(ctx, attacker); err != nil {
		return err
	}
	if err := n.told(ctx); err != nil {
		return err
	}
	if out.counted, err = a.counted(ctx); err != nil {
		return err
	}
	for r := range out.counted {
		out.counted[r] -= before[r]
	}
	if out.events, err = a.events(ctx); err != nil {
		return err
	}
	out.events.Sent -= events.Sent
	out.events.Suppressed -= events.Suppressed
	out.events.Lost -= events.Lost
	return nil
}

// received counts the packets that came to the VPC by these devices.
func (n *network) received(devices ...string) (sum uint64, err error) {
	err = n.vpc.Do(func() error {
		for _, d := range devices {
			l, err := netlink.LinkByName(d)
			if err != nil {
				return fmt.Errorf("device %s: %w", d, err)
			}
			sum += l.Attrs().Statistics.RxPackets
		}
		return nil
	})
	return sum, err
}

func blackhole(prefix string) error {
	p := netip.MustParsePrefix(prefix)
	return netlink.RouteReplace(&netlink.Route{Type: unix.RTN_BLACKHOLE, Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}})
}

// trips are round trips on one connection, sorted.
func (f flow) trips(ctx context.Context, during time.Duration) ([]time.Duration, error) {
	c, err := f.dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var out []time.Duration
	end := time.Now().Add(during)
	for seq := uint64(1); ctx.Err() == nil && time.Now().Before(end); seq++ {
		began := time.Now()
		if err := ask(c, f.name, seq, nil); err != nil {
			return nil, fmt.Errorf("round trip %d: %w", seq, err)
		}
		out = append(out, time.Since(began))
		wait(ctx, time.Millisecond)
	}
	if len(out) == 0 {
		return nil, errors.New("the flood was over before a round trip")
	}
	slices.Sort(out)
	return out, nil
}

// part is the value below which that share of the sorted values is.
func part(sorted []time.Duration, share float64) time.Duration {
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// spray sends so many packets, half of them SYNs, each of another flow, from the pod's own address: with
// another's none would leave the pod. Each goes twice, as from a sender that tries again: an LRU takes that
// for use.
func (p *pod) spray(packets int) error {
	return p.space.Do(func() (err error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unix.Close(fd)) }()
		for i := range packets {
			to := target(i)
			b := packet(p.addr.As4(), to, i)
			for range 2 {
				if err := unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: to}); err != nil && !errors.Is(err, unix.ENOBUFS) {
					return fmt.Errorf("packet %d: %w", i, err)
				}
			}
			if i%256 == 0 {
				runtime.Gosched() // the flood is the network's, not the scheduler's
			}
		}
		return nil
	})
}

// target is where a packet of the flood goes: 4,096 addresses in turn.
func target(i int) [4]byte {
	to := netip.MustParsePrefix(nowhere).Addr().As4()
	to[2] += byte(i >> 8 & 15)
	to[3] = byte(i)
	return to
}

// packet is a SYN or a datagram; the kernel fills in the header's checksum.
func packet(from, to [4]byte, i int) []byte {
	b := make([]byte, 40)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
	copy(b[12:], from[:])
	copy(b[16:], to[:])
	binary.BigEndian.PutUint16(b[20:], uint16(1024+i>>12))
	binary.BigEndian.PutUint16(b[22:], 9)
	binary.BigEndian.PutUint16(b[24:], 20)
	if i%2 == 0 {
		b[9] = unix.IPPROTO_TCP
		binary.BigEndian.PutUint32(b[24:], uint32(i))
		b[32], b[33] = 5<<4, 2
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

// resident is the memory that a process has.
func resident(process int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", process))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, fmt.Errorf("memory of process %d is %q", process, b)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// Bounds of what a flood may do to the agent.
const (
	memoryBound = 64 << 20
	logBound    = 64 << 10
)

func (f *flooded) err() error {
	var errs []error
	if f.arrived < uint64(f.sent) {
		errs = append(errs, fmt.Errorf("%d packets arrived, expected at least %d: the flood was none", f.arrived, f.sent))
	}
	if f.lost > 0 {
		errs = append(errs, fmt.Errorf("%d of %d established connections are lost, expected none", f.lost, established))
	}
	if f.passed() == 0 {
		errs = append(errs, errors.New("no bad packet was sent"))
	}
	for _, k := range kinds() {
		if k.reason != "" && f.counted[k.reason] == 0 {
			errs = append(errs, fmt.Errorf("of %q no packet was dropped as %s", k.name, k.reason))
		}
	}
	if all, _ := outcomes(f.counted); all < f.passed() {
		errs = append(errs, fmt.Errorf("a pod sent %d packets and %d were counted, expected all of them", f.passed(), all))
	}
	if grew := f.memoryAfter - f.memoryBefore; grew > memoryBound {
		errs = append(errs, fmt.Errorf("the agent's memory grew by %d bytes, expected at most %d", grew, memoryBound))
	}
	if f.logGrew > logBound {
		errs = append(errs, fmt.Errorf("the agent's log grew by %d bytes, expected at most %d", f.logGrew, logBound))
	}
	return errors.Join(errs...)
}

// passed is how many bad packets came to weft's programs.
func (f *flooded) passed() (sum uint64) {
	for _, s := range f.storms {
		if s.weft {
			sum += s.passed
		}
	}
	return sum
}

func micro(d time.Duration) string { return d.Round(time.Microsecond).String() }

func (f *flooded) verdict() string {
	if f.err() != nil {
		return "**Failed.**"
	}
	return "**Passed**: every connection is there, every packet is counted, the agent tells of new connections afterwards; its memory and its log are within their bounds."
}

func (f *flooded) draw(w io.Writer) error {
	fmt.Fprintln(w, f.verdict()+"\n")
	_, err := fmt.Fprintf(w, `| measure | found |
| --- | --- |
| entries of the two tables of connections | %d, %d |
| flows that one pod began, half by SYN and half by UDP, each packet twice | %d in %s |
| packets that arrived in the VPC | %d |
| connections established before that answer afterwards | %d of %d |
| round trips of another pod, quiet: median, 99 %%, longest | %s, %s, %s |
| round trips of another pod, during the flood | %s, %s, %s |
| median during the flood over median quiet | %.2f |
| memory of the agent before and after | %.1f MiB, %.1f MiB |
| growth of the agent's log | %d bytes |
`, tableSize, tableSize, f.sent, f.took.Round(time.Millisecond), f.arrived, established-f.lost, established,
		micro(part(f.quiet, 0.5)), micro(part(f.quiet, 0.99)), micro(part(f.quiet, 1)),
		micro(part(f.during, 0.5)), micro(part(f.during, 0.99)), micro(part(f.during, 1)),
		float64(part(f.during, 0.5))/float64(part(f.quiet, 0.5)),
		float64(f.memoryBefore)/(1<<20), float64(f.memoryAfter)/(1<<20), f.logGrew)
	if err != nil {
		return err
	}
	return f.drawStorms(w)
}

// drawStorms writes the second part: what a neighbour notices.
func (f *flooded) drawStorms(w io.Writer) error {
	var b strings.Builder
	all, drops := outcomes(f.counted)
	fmt.Fprintf(&b, `
## Bad packets of every kind

A pod sends packets of %d kinds (below) for %s, as fast as one CPU can, while another pod of its node asks one on another node. For comparison
it only burns its CPU; and all of it again between nodes without weft, whose kernel forwards as the plugin `+"`ptp`"+` leaves it. The machine
has %d CPUs for all of this: the sender keeps one, and what the packets cost is done in its time.

| where, and what happens | packets a second | round trips: median | 99 %% | longest | over the quiet 99 %% | CPU of the sender's thread | of the agent | all softirqs |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
`, len(kinds()), stormFor, runtime.NumCPU())
	var calm time.Duration
	for i, s := range f.storms {
		if i%3 == 0 {
			calm = part(s.trips, 0.99)
		}
		share := func(d time.Duration) string { return fmt.Sprintf("%.0f %%", 100*d.Seconds()/s.took.Seconds()) }
		fmt.Fprintf(&b, "| %s | %.0f | %s | %s | %s | %.1f | %s | %s | %s |\n", s.name, float64(s.passed)/s.took.Seconds(), micro(part(s.trips, 0.5)), micro(part(s.trips, 0.99)), micro(part(s.trips, 1)),
			float64(part(s.trips, 0.99))/float64(calm), share(s.thread), share(s.agent), share(s.softirq))
	}
	fmt.Fprintf(&b, `
The programs counted %d packets of the node's pods, of %d that the flooding pod's device took, and dropped %d. Of their events %d went to the agent,
%d were only counted, because a budget was spent, and %d found the ring full.

| dropped as | packets |
| --- | --- |
`, all, f.passed(), drops, f.events.Sent, f.events.Suppressed, f.events.Lost)
	for _, r := range datapath.Reasons() {
		if v := f.counted[r.String()]; r.Drop() && v > 0 {
			fmt.Fprintf(&b, "| %s | %d |\n", r, v)
		}
	}
	b.WriteString("\nThe kinds:")
	for i, k := range kinds() {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString(" " + k.name)
	}
	b.WriteString(".\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (f *flooded) write(path string) error {
	var b strings.Builder
	heading(&b, "A pod that floods", "make flood")
	if err := f.draw(&b); err != nil {
		return err
	}
	return keepReport(path, b.String())
}

// runFlood floods a network with small tables.
func runFlood(ctx context.Context, n *network, o options) error {
	got, err := n.flood(ctx)
	if err != nil {
		return err
	}
	if err := got.draw(os.Stdout); err != nil {
		return err
	}
	if o.report != "" {
		if err := got.write(o.report); err != nil {
			return err
		}
	}
	return got.err()
}
