package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// throughput measures, in bits a second, what one connection gets through. The beginning doesn't count.
func throughput(from, to nstest.Space, addr netip.Addr, port int) (float64, error) {
	const warm, measured = 700 * time.Millisecond, 2500 * time.Millisecond
	var l net.Listener
	if err := to.Do(func() (err error) {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(addr, uint16(port)).String())
		return err
	}); err != nil {
		return 0, err
	}
	defer l.Close()
	out, err := from.Dial(addr, port)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	end := time.Now().Add(warm + measured)
	var g errgroup.Group
	g.Go(func() error {
		b := make([]byte, 64<<10)
		for {
			if _, err := out.Write(b); err != nil {
				return nil // the reader has seen enough
			}
		}
	})
	begin, got := time.Now(), 0
	b := make([]byte, 64<<10)
	if err := in.SetReadDeadline(end); err != nil {
		return 0, err
	}
	for err == nil {
		var n int
		n, err = in.Read(b)
		if time.Since(begin) > warm {
			got += n
		}
	}
	took := time.Since(begin) - warm
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, err
	}
	in.Close()
	out.Close()
	return float64(got) * 8 / took.Seconds(), g.Wait()
}

const (
	mbit          = 1_000_000
	ingressLimit  = 40 * mbit
	egressLimit   = 24 * mbit
	withoutALimit = 5 * ingressLimit
	// What a reader that was held up finds in its buffers is above the limit for a moment, and a busy machine
	// may get less than the limit: the rate itself is read from the queue.
	mostOfLimit, leastOfLimit = 1.1, 0.5
	bandwidthTries            = 5
)

// addLimited adds a pod as a runtime does whose pod has both annotations.
func (r *rig) addLimited(id string) *pod {
	r.t.Helper()
	p := &pod{Space: nstest.New(r.t), id: id, capabilities: map[string]any{"bandwidth": map[string]any{
		"ingressRate": ingressLimit, "ingressBurst": 4294967295, "egressRate": egressLimit, "egressBurst": 4294967295,
	}}}
	r.must(r.addTo(p))
	return p
}

func near(what string, got, want float64) error {
	if got < want*leastOfLimit || got > want*mostOfLimit {
		return fmt.Errorf("%s: %.1f Mbit/s, expected %.1f to %.1f", what, got/mbit, want*leastOfLimit/mbit, want*mostOfLimit/mbit)
	}
	return nil
}

// queue is the first queue with a rate in this thread's namespace.
func queue() (*netlink.Tbf, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		qs, err := netlink.QdiscList(l)
		if err != nil {
			return nil, err
		}
		for _, q := range qs {
			if t, ok := q.(*netlink.Tbf); ok {
				return t, nil
			}
		}
	}
	return nil, errors.New("no device has a queue")
}

func TestBandwidth(t *testing.T) {
	r := newRig(t)
	r.start()
	limited, free, other := r.addLimited("limited"), r.add("free"), r.add("other")
	r.must(limited.Do(func() error {
		q, err := queue()
		if err == nil && q.Rate != egressLimit/8 {
			err = fmt.Errorf("the pod's queue has a rate of %d bytes/s, expected %d", q.Rate, egressLimit/8)
		}
		return err
	}))
	port := 7000
	// both measures the limited pod and, at the same time, its neighbours. A busy machine may need another try.
	both := func(what string, want float64, from, to nstest.Space, addr netip.Addr) {
		t.Helper()
		var err error
		for range bandwidthTries {
			var got, beside float64
			var g errgroup.Group
			port += 2
			g.Go(func() (err error) { got, err = throughput(from, to, addr, port); return err })
			g.Go(func() (err error) { beside, err = throughput(free.Space, other.Space, other.addr, port+1); return err })
			if err = g.Wait(); err == nil {
				err = near(what, got, want)
			}
			if err == nil && beside < withoutALimit {
				err = fmt.Errorf("%s: its neighbours get %.1f Mbit/s", what, beside/mbit)
			}
			t.Logf("%s: %.1f Mbit/s, beside it %.1f", what, got/mbit, beside/mbit)
			if err == nil {
				return
			}
		}
		t.Error(err)
	}
	router := netip.MustParseAddr("10.20.0.1")
	r.must(r.router.Route(netip.PrefixFrom(limited.addr, 32), netip.Addr{}, "r0"))
	both("from the pod to the world", egressLimit, limited.Space, r.router, router)
	both("from the pod to its neighbour", egressLimit, limited.Space, free.Space, free.addr)
	both("from its neighbour to the pod", ingressLimit, free.Space, limited.Space, limited.addr)
	both("from the world to the pod", ingressLimit, r.router, limited.Space, limited.addr)

	r.stop()
	r.start()
	both("after a restart of the agent", egressLimit, limited.Space, r.router, router)

	// Who may administer the pod's network can take its queue away, and still has no more.
	r.must(limited.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.QdiscDel(&netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}})
	}))
	for try := 1; ; try++ {
		got, err := throughput(limited.Space, r.router, router, 6999)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("without its queue: %.1f Mbit/s", got/mbit)
		if got <= egressLimit*mostOfLimit && got >= egressLimit/10 {
			break
		}
		if try == bandwidthTries {
			t.Fatalf("without its queue: %.1f Mbit/s of %.1f", got/mbit, float64(egressLimit)/mbit)
		}
	}
	counters, err := r.datapath.Load().Counters()
	if err != nil {
		t.Fatal(err)
	}
	dropped := uint64(0)
	for _, c := range counters {
		if c.Reason == datapath.ReasonBandwidth {
			dropped += c.Packets
		}
	}
	if dropped == 0 {
		t.Error("nothing was dropped for its bandwidth")
	}
}

// TestBandwidthQueueComesBack is about the host's side, which is ours to keep.
func TestBandwidthQueueComesBack(t *testing.T) {
	r := newRig(t)
	r.start()
	r.addLimited("limited")
	q, err := queue()
	if err != nil || q.Rate != ingressLimit/8 {
		t.Fatalf("%+v, %v", q, err)
	}
	r.must(netlink.QdiscDel(q))
	nstest.Eventually(t, 90*time.Second, "the queue is put back", func() error { _, err := queue(); return err })
}
