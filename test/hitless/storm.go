package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/test/rig"
)

// storm is one pod's round trips while something else happens on its node.
type storm struct {
	name   string
	weft   bool
	trips  []time.Duration // sorted
	took   time.Duration
	sent   uint64 // frames that a neighbour pod sent
	passed uint64 // of them through its device
	// Processor time, of the thread that sends or burns, of the agent, and of all softirqs of the machine.
	thread, agent, softirq time.Duration
}

// stormFor is how long each one lasts.
const stormFor = 5 * time.Second

// weather watches the flow while do, which ends with its context, does what it does on a thread of its own in
// the attacker's namespace.
func weather(ctx context.Context, name string, watched flow, attacker *pod, agent *rig.Agent, do func(context.Context) (uint64, error)) (storm, error) {
	out := storm{name: name, weft: agent != nil}
	soft, err := softirqs()
	if err != nil {
		return out, err
	}
	var used time.Duration
	if agent != nil {
		if used, err = processTime(agent.Process()); err != nil {
			return out, err
		}
	}
	passed, err := attacker.transmitted()
	if err != nil {
		return out, err
	}
	began := time.Now()
	during, end := context.WithTimeout(ctx, stormFor)
	defer end()
	var g errgroup.Group
	if do != nil {
		g.Go(func() error {
			return attacker.space.Do(func() (err error) {
				var before, after unix.Rusage
				err = unix.Getrusage(unix.RUSAGE_THREAD, &before)
				if err == nil {
					out.sent, err = do(during)
				}
				err = errors.Join(err, unix.Getrusage(unix.RUSAGE_THREAD, &after))
				out.thread = time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
				return err
			})
		})
	}
	out.trips, err = watched.trips(during, stormFor)
	end()
	if err := errors.Join(err, g.Wait(), ctx.Err()); err != nil {
		return out, fmt.Errorf("%s: %w", name, err)
	}
	out.took = time.Since(began)
	now, err := attacker.transmitted()
	if err != nil {
		return out, err
	}
	out.passed = now - passed
	if agent != nil {
		later, err := processTime(agent.Process())
		if err != nil {
			return out, fmt.Errorf("the agent is gone: %w", err)
		}
		out.agent = later - used
	}
	later, err := softirqs()
	out.softirq = later - soft
	return out, err
}

// blast sends the frames over and over from the namespace of the calling thread, as fast as it can.
func blast(ctx context.Context, list [][]byte) (sent uint64, err error) {
	l, err := netlink.LinkByName("eth0")
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return 0, err
	}
	to := &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index, Halen: 6}
	for ctx.Err() == nil {
		for _, b := range list {
			to.Protocol = uint16(b[13])<<8 | uint16(b[12]) // as it lies on the wire
			err := unix.Sendto(fd, b, 0, to)
			if err != nil && !errors.Is(err, unix.ENOBUFS) {
				return sent, fmt.Errorf("frame %x: %w", b[:min(len(b), 40)], err)
			}
			if err == nil {
				sent++
			}
		}
	}
	return sent, nil
}

// spin uses a processor for nothing.
func spin(ctx context.Context) (uint64, error) {
	for ctx.Err() == nil {
		for range 1 << 14 {
		}
	}
	return 0, nil
}

// sender learns what frames from the pod must say.
func (p *pod) sender(other netip.Addr) (sender, error) {
	out := sender{addr: p.addr, other: other, host: netip.MustParseAddr(p.node.spec.Assignment.Address)}
	// Speaking to somebody, the pod learns its gateway's MAC address.
	c, err := flow{client: p.space, to: netip.AddrPortFrom(other, port), udp: true}.dial()
	if err != nil {
		return out, err
	}
	defer c.Close()
	err = rig.Await(context.Background(), 30*time.Second, "the gateway of pod "+p.name, func() error {
		if _, err := c.Write([]byte("?")); err != nil {
			return err
		}
		return p.space.Do(func() error {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			out.mac = l.Attrs().HardwareAddr
			list, err := netlink.NeighList(l.Attrs().Index, netlink.FAMILY_V4)
			for _, n := range list {
				if len(n.HardwareAddr) == 6 && n.State&(unix.NUD_FAILED|unix.NUD_INCOMPLETE) == 0 {
					out.gateway = n.HardwareAddr
					return nil
				}
			}
			return errors.Join(err, errors.New("it has no neighbour"))
		})
	})
	return out, err
}

// transmitted counts the frames that the pod's device took.
func (p *pod) transmitted() (out uint64, err error) {
	err = p.space.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err == nil {
			out = l.Attrs().Statistics.TxPackets
		}
		return err
	})
	return out, err
}

// ticks is the kernel's unit of processor time towards programs.
const ticks = 100

func processTime(process int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("process %d is %q", process, b)
	}
	var sum time.Duration
	for _, f := range fields[11:13] {
		v, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", process, err)
		}
		sum += time.Duration(v) * time.Second / ticks
	}
	return sum, nil
}

func softirqs() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, fmt.Errorf("processor time is %q", line)
	}
	v, err := strconv.ParseInt(fields[7], 10, 64)
	return time.Duration(v) * time.Second / ticks, err
}

// storms measures one pod's round trips while another of its node sends what it shouldn't, while it burns CPU
// instead, and the same where no weft is.
func (n *network) storms(ctx context.Context, attacker *pod) (out []storm, err error) {
	a, b := n.nodes[0], n.nodes[1]
	var bare []*node
	for i := range 2 {
		one, err := n.plain(len(n.nodes) + i)
		if err != nil {
			return nil, err
		}
		bare = append(bare, one)
	}
	third, err := n.plainPod(bare[0], 2, "attacker", &n.wrong)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct {
		name     string
		watched  flow
		attacker *pod
		other    netip.Addr
		agent    *rig.Agent
	}{
		{"weft", a.client.asks(b.server.server), attacker, a.server.addr, a.agent},
		{"ptp", bare[0].client.asks(bare[1].server.server), third, bare[0].server.addr, nil},
	} {
		s, err := c.attacker.sender(c.other)
		if err != nil {
			return nil, err
		}
		list := frames(s, 200)
		for _, part := range []struct {
			name string
			do   func(context.Context) (uint64, error)
		}{
			{"quiet", nil},
			{"a pod of the node burns a CPU", spin},
			{"a pod of the node sends bad packets", func(ctx context.Context) (uint64, error) { return blast(ctx, list) }},
		} {
			got, err := weather(ctx, c.name+", "+part.name, c.watched, c.attacker, c.agent, part.do)
			if err != nil {
				return nil, err
			}
			out = append(out, got)
		}
	}
	return out, nil
}
