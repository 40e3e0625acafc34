package datapath

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// streamEnds are those of a connection between two namespaces. dialled is where it is opened to, which may lead to addr by
// translation.
type streamEnds struct{ out, in *net.TCPConn }

func openStream(from, to space, dialled, addr netip.Addr, port uint16) (s streamEnds, err error) {
	var l *net.TCPListener
	err = to.try(func() (err error) {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, port)))
		return err
	})
	if err != nil {
		return s, err
	}
	defer l.Close()
	err = from.try(func() error {
		d := net.Dialer{Timeout: 20 * time.Second}
		c, err := d.Dial("tcp", netip.AddrPortFrom(dialled, port).String())
		if err == nil {
			s.out = c.(*net.TCPConn)
		}
		return err
	})
	if err != nil {
		return s, err
	}
	if s.in, err = l.AcceptTCP(); err != nil {
		s.out.Close()
	}
	return s, err
}

func (s streamEnds) close() { s.out.Close(); s.in.Close() }

// A stream is what one connection got through in a while.
type stream struct {
	rate         float64 // bytes a second that arrived, once it had begun
	sent, resent uint32  // segments
}

// steady writes as much as the connection takes, and reads for some seconds.
func (s streamEnds) steady() (r stream, err error) {
	const warm, measured = 2 * time.Second, 6 * time.Second
	// What TCP would otherwise have under way before it knows how slow the way is, is more of so low a rate
	// than the horizon's 2 s.
	if err := s.out.SetWriteBuffer(4 << 10); err != nil {
		return r, err
	}
	var g errgroup.Group
	g.Go(func() error {
		b := make([]byte, 4<<10)
		for {
			if _, err := s.out.Write(b); err != nil {
				return nil // the reader has seen enough
			}
		}
	})
	defer func() { s.close(); err = errors.Join(err, g.Wait()) }()
	begin, got := time.Now(), 0
	b := make([]byte, 64<<10)
	if err := s.in.SetReadDeadline(begin.Add(warm + measured)); err != nil {
		return r, err
	}
	for err == nil {
		var n int
		n, err = s.in.Read(b)
		if time.Since(begin) > warm {
			got += n
		}
	}
	r.rate = float64(got) / (time.Since(begin) - warm).Seconds()
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return r, err
	}
	raw, err := s.out.SyscallConn()
	if err != nil {
		return r, err
	}
	var infoErr error
	err = raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); infoErr == nil {
			r.sent, r.resent = info.Segs_out, info.Total_retrans
		}
	})
	return r, errors.Join(err, infoErr)
}

// whole sends so many bytes and returns how many there were a second.
func (s streamEnds) whole(size int) (rate float64, err error) {
	defer s.close()
	if err := errors.Join(s.out.SetDeadline(time.Now().Add(time.Minute)), s.in.SetDeadline(time.Now().Add(time.Minute))); err != nil {
		return 0, err
	}
	begin := time.Now()
	var g errgroup.Group
	g.Go(func() error { _, err := s.out.Write(make([]byte, size)); return err })
	_, err = io.ReadFull(s.in, make([]byte, size))
	rate = float64(size) / time.Since(begin).Seconds()
	return rate, errors.Join(err, g.Wait())
}

// putFQ gives a device the queue that keeps to departure times.
func putFQ(device string) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	return netlink.QdiscReplace(netlink.NewFq(rootOf(l)))
}

func rootOf(l netlink.Link) netlink.QdiscAttrs {
	return netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
}

// putTBF gives a device the queue that a limited pod's has.
func putTBF(device string, rate uint64) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	return netlink.QdiscReplace(&netlink.Tbf{QdiscAttrs: rootOf(l), Rate: rate, Buffer: netlink.Xmittime(rate, 20<<10), Limit: 120 << 10})
}

// waitLong keeps TCP from taking it for a loss that at so low a rate the first window alone takes longer than
// its least time-out, 200 ms.
func waitLong() error {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	errs := []error{err}
	for _, r := range routes {
		if r.Gw != nil {
			r.RtoMin = 3000 // ms
			errs = append(errs, netlink.RouteReplace(&r))
		}
	}
	return errors.Join(errs...)
}

// droppedBy counts what the device's root queue refused.
func droppedBy(device string) (uint32, error) {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return 0, err
	}
	all, err := netlink.QdiscList(l)
	for _, q := range all {
		if a := q.Attrs(); a.Parent == netlink.HANDLE_ROOT && a.Statistics != nil && a.Statistics.Queue != nil {
			return a.Statistics.Queue.Drops, err
		}
	}
	return 0, errors.Join(err, fmt.Errorf("device %s has no root queue that counts", device))
}

// A limited pod sends at its limit and nothing is dropped, whichever way its packets take to the ENI; who is
// beside it isn't held back.
func TestPacing(t *testing.T) {
	needRoot(t)
	// So slow that what waits in fq lasts over the moments in which a busy machine runs nobody.
	const rate = 25_000
	w := newTwoNodes(t, variants(t)[0])
	n, far := w.nodes[0], w.nodes[1]
	err := n.try(func() error { return putFQ("eni") })
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EOPNOTSUPP) {
		t.Skipf("the kernel has no fq (CONFIG_NET_SCH_FQ): pacing is not tested: %v", err)
	}
	must(t, err)
	n.eni.Paced = true
	limited := n.pods[0]
	limited.EgressRate = rate
	n.do(t, func() error { return errors.Join(n.d.SetENI(n.eni), n.d.AddEndpoint(limited.Endpoint)) })
	limited.do(t, waitLong)
	port := uint16(7000)
	try := func(t *testing.T, f int, to netip.Addr, least float64) error {
		t.Helper()
		port += 2
		held, err := openStream(limited.space, far.pods[0].space, to, far.pods[0].addr(f), port)
		must(t, err)
		free, err := openStream(n.pods[1].space, far.pods[1].space, far.pods[1].addr(f), far.pods[1].addr(f), port+1)
		must(t, err)
		var got stream
		var beside float64
		var g errgroup.Group
		g.Go(func() (err error) { got, err = held.steady(); return err })
		g.Go(func() (err error) { beside, err = free.whole(1 << 20); return err })
		must(t, g.Wait())
		t.Logf("%.0f bytes/s of %d, %d segments, %d of them again; beside it %.0f bytes/s", got.rate, rate, got.sent, got.resent, beside)
		switch {
		case got.rate < least*rate || got.rate > 1.1*rate:
			return fmt.Errorf("%.0f bytes/s, expected the limit of %d", got.rate, rate)
		case got.resent*20 > got.sent:
			return fmt.Errorf("%d of %d segments were sent again", got.resent, got.sent)
		case beside < 3*rate:
			return fmt.Errorf("a pod without a limit gets %.0f bytes/s beside one with %d", beside, rate)
		}
		return nil
	}
	hold := func(t *testing.T, f int, to netip.Addr, least float64) {
		t.Helper()
		err := try(t, f, to, least)
		for range 4 { // what a busy machine needs
			if err != nil {
				err = try(t, f, to, least)
			}
		}
		if err != nil {
			t.Error(err)
		}
		if dropped := n.counters(t)[Counter{Hook: FromPod, Direction: Egress, Reason: ReasonBandwidth}]; dropped > 0 {
			t.Errorf("%d packets dropped for their bandwidth", dropped)
		}
		n.do(t, func() error {
			dropped, err := droppedBy("eni")
			if dropped > 0 {
				t.Errorf("fq dropped %d packets", dropped)
			}
			return err
		})
	}
	for name, f := range w.families() {
		t.Run(name+" past the stack", func(t *testing.T) { hold(t, f, far.pods[0].addr(f), 0.85) })
	}
	// The stack forgets whose packet it is, so fq holds no sender back: the pod's own queue does.
	limited.do(t, func() error { return putTBF("eth0", rate) })
	t.Run("by the stack", func(t *testing.T) {
		service := netip.MustParseAddr("10.100.0.10")
		n.dnat(t, service, far.pods[0].Addr)
		hold(t, 0, service, 0.75) // two queues in a row, either of which may be late
	})
}
