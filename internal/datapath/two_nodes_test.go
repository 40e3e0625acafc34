package datapath

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func forEachTwoNodes(t *testing.T, test func(t *testing.T, w *twoNodes)) {
	for _, v := range variants(t) {
		t.Run(v.String(), func(t *testing.T) {
			w := newTwoNodes(t, v)
			test(t, w)
			// Nothing that was asked for here is refused.
			for i, n := range w.nodes {
				for c, packets := range n.counters(t) {
					if c.Reason.Drop() && packets > 0 {
						t.Errorf("node %d: %s dropped %d packets: %s", i, c.Hook, packets, c.Reason)
					}
				}
			}
		})
	}
}

// letPast is how many packets a hook let go this way.
func letPast(before, after map[Counter]uint64, h Hook, d Direction, r Reason) uint64 {
	c := Counter{Hook: h, Direction: d, Reason: r}
	return after[c] - before[c]
}

func TestTwoNodes(t *testing.T) {
	forEachTwoNodes(t, func(t *testing.T, w *twoNodes) {
		one, two := w.nodes[0], w.nodes[1]
		for name, f := range w.families() {
			one.pods[0].serve(t, one.pods[0].addr(f), 7)
			one.pods[1].serve(t, one.pods[1].addr(f), 7)
			two.pods[0].serve(t, two.pods[0].addr(f), 7)
			one.serve(t, one.addrs[f], 7)
			two.serve(t, two.addrs[f], 7)
			w.router.serve(t, netip.MustParseAddr(worldAddrs[f]), 7)
			for _, c := range []struct {
				name string
				from space
				to   netip.Addr
				fast bool // past the stacks of both nodes
			}{
				{"pod to pod", one.pods[0].space, one.pods[1].addr(f), true},
				{"pod to a pod of the other node", one.pods[0].space, two.pods[0].addr(f), true},
				{"pod of the other node to pod", two.pods[0].space, one.pods[0].addr(f), true},
				{"pod to the world", one.pods[0].space, netip.MustParseAddr(worldAddrs[f]), true},
				{"world to pod", w.router, one.pods[0].addr(f), true},
				{"pod to node", one.pods[0].space, one.addrs[f], false},
				{"pod to the other node", one.pods[0].space, two.addrs[f], true},
				{"node to pod", one.space, one.pods[0].addr(f), false},
				{"node to a pod of the other node", one.space, two.pods[0].addr(f), true},
				{"node to node", one.space, two.addrs[f], true},
				{"node to the world", one.space, netip.MustParseAddr(worldAddrs[f]), true},
			} {
				before := [2]map[Counter]uint64{one.counters(t), two.counters(t)}
				for _, network := range []string{"tcp", "udp"} {
					conn := c.from.connect(t, network, c.to, 7)
					for range 5 {
						if err := exchange(conn, c.name+" by "+network, patience); err != nil {
							t.Fatalf("%s, %s by %s: %v", name, c.name, network, err)
						}
					}
					conn.Close()
				}
				for i, n := range w.nodes {
					after := n.counters(t)
					stack := letPast(before[i], after, FromPod, Egress, ReasonToStack) + letPast(before[i], after, FromNetdev, Ingress, ReasonToStack)
					// The end of an earlier connection may still be under way.
					if few := 6; c.fast && stack > uint64(few) || !c.fast && i == 0 && stack <= uint64(few) {
						t.Errorf("%s, %s: %d packets of pods went by the stack of node %d, expected more than %d: %v", name, c.name, stack, i, few, !c.fast)
					}
				}
			}
		}
	})
}

// kube-proxy's translation is the kernel's, and answers find their way back through it.
func TestServicesByTheStack(t *testing.T) {
	forEachTwoNodes(t, func(t *testing.T, w *twoNodes) {
		one, two := w.nodes[0], w.nodes[1]
		services := [2][2]string{{"10.100.0.10", "10.100.0.11"}, {"fd12::10", "fd12::11"}}
		for name, f := range w.families() {
			for i, backend := range []wiredPod{two.pods[0], one.pods[1]} {
				service := netip.MustParseAddr(services[f][i])
				one.dnat(t, service, backend.addr(f))
				backend.serve(t, backend.addr(f), 80)
				for _, network := range []string{"tcp", "udp"} {
					c := one.pods[0].connect(t, network, service, 80)
					for range 10 {
						if err := exchange(c, "served", patience); err != nil {
							t.Fatalf("%s: to %s by %s: %v", name, service, network, err)
						}
					}
				}
				// Without the service, the same pod: the fast path, at the same time.
				must(t, exchange(one.pods[0].connect(t, "tcp", backend.addr(f), 80), "direct", patience))
			}
		}
	})
}

// The tables are lost while connections are open: the stack takes them over.
func TestConnectionsOutliveTheirEntries(t *testing.T) {
	forEachTwoNodes(t, func(t *testing.T, w *twoNodes) {
		one, two := w.nodes[0], w.nodes[1]
		for name, f := range w.families() {
			var conns []net.Conn
			for _, to := range []wiredPod{two.pods[0], one.pods[1]} {
				to.serve(t, to.addr(f), 7)
				for _, network := range []string{"tcp", "udp"} {
					c := one.pods[0].connect(t, network, to.addr(f), 7)
					must(t, exchange(c, "before", patience))
					conns = append(conns, c)
				}
			}
			for _, n := range w.nodes {
				for _, p := range n.pods {
					deleteConnections(t, n.d, p.addr(f))
				}
			}
			before := one.counters(t)
			for _, c := range conns {
				for range 3 {
					if err := exchange(c, "afterwards", patience); err != nil {
						t.Errorf("%s: to %s by %s: %v", name, c.RemoteAddr(), c.RemoteAddr().Network(), err)
					}
				}
			}
			if letPast(before, one.counters(t), FromPod, Egress, ReasonNoteMidstream) == 0 {
				t.Errorf("%s: nothing was noted as not seen to begin", name)
			}
		}
	})
}

// Who answers a packet with this many hops?
func TestTraceroute(t *testing.T) {
	forEachTwoNodes(t, func(t *testing.T, w *twoNodes) {
		one, two := w.nodes[0], w.nodes[1]
		for name, f := range w.families() {
			two.pods[0].echo(t, netip.AddrPortFrom(two.pods[0].addr(f), 7).String())
			one.pods[1].echo(t, netip.AddrPortFrom(one.pods[1].addr(f), 7).String())
			routers := [2]netip.Addr{netip.MustParseAddr(routerAddr)}
			for _, c := range []struct {
				to   netip.Addr
				path []netip.Addr // invalid: answers by an address of no interest
			}{
				{two.pods[0].addr(f), []netip.Addr{one.addrs[f], routers[f], two.addrs[f]}},
				{one.pods[1].addr(f), []netip.Addr{one.addrs[f]}},
			} {
				for hops := 1; hops <= len(c.path)+1; hops++ {
					got, reached := one.pods[0].probe(t, f, c.to, hops)
					if want := hops > len(c.path); reached != want {
						t.Errorf("%s: %d hops to %s: reached %v, expected %v", name, hops, c.to, reached, want)
					} else if !reached && c.path[hops-1].IsValid() && got != c.path[hops-1] {
						t.Errorf("%s: hop %d to %s is %s, expected %s", name, hops, c.to, got, c.path[hops-1])
					}
				}
			}
		}
	})
}

// probe sends a datagram with a limited number of hops and says who refused it, or that it was answered.
func (p wiredPod) probe(t testing.TB, family int, to netip.Addr, hops int) (from netip.Addr, reached bool) {
	t.Helper()
	c := p.connect(t, "udp", to, 7).(*net.UDPConn)
	raw, err := c.SyscallConn()
	must(t, err)
	level, ttl, queue := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_RECVERR
	if family == 1 {
		level, ttl, queue = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_RECVERR
	}
	control(t, raw, func(fd int) error {
		return errors.Join(unix.SetsockoptInt(fd, level, ttl, hops), unix.SetsockoptInt(fd, level, queue, 1))
	})
	_, err = c.Write([]byte("hop"))
	must(t, err)
	must(t, c.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, 16)
	if _, err = c.Read(b); err == nil {
		return netip.Addr{}, true
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("nobody answered for %d hops to %s", hops, to)
	}
	oob := make([]byte, 512)
	control(t, raw, func(fd int) error {
		_, n, _, _, err := unix.Recvmsg(fd, b, oob, unix.MSG_ERRQUEUE)
		oob = oob[:max(n, 0)]
		return err
	})
	messages, err := unix.ParseSocketControlMessage(oob)
	must(t, err)
	for _, m := range messages {
		// struct sock_extended_err, and behind it the offender's address.
		if m.Header.Type == int32(queue) && family == 0 && len(m.Data) >= 16+8 {
			return netip.AddrFrom4([4]byte(m.Data[20:24])), false
		}
		if m.Header.Type == int32(queue) && family == 1 && len(m.Data) >= 16+28 {
			return netip.AddrFrom16([16]byte(m.Data[24:40])), false
		}
	}
	t.Fatalf("no address with the error for %d hops to %s", hops, to)
	return
}

func control(t testing.TB, raw syscall.RawConn, fn func(fd int) error) {
	t.Helper()
	var inner error
	must(t, raw.Control(func(fd uintptr) { inner = fn(int(fd)) }))
	must(t, inner)
}

// Pods with a larger MTU than their ENI are told, and what they send arrives.
func TestPathMTU(t *testing.T) {
	forEachTwoNodes(t, func(t *testing.T, w *twoNodes) {
		one, two := w.nodes[0], w.nodes[1]
		for i, p := range []wiredPod{one.pods[0], two.pods[0]} {
			w.nodes[i].do(t, func() error { return setMTU("pod0", 9001) })
			p.do(t, func() error { return setMTU("eth0", 9001) })
		}
		text := bytes.Repeat([]byte("larger than what the wire takes "), 1<<15)
		for name, f := range w.families() {
			world := netip.MustParseAddr(worldAddrs[f])
			two.pods[0].serve(t, two.pods[0].addr(f), 7)
			w.router.serve(t, world, 7)
			for _, to := range []netip.Addr{two.pods[0].addr(f), world} {
				c := one.pods[0].connect(t, "tcp", to, 7)
				must(t, c.SetDeadline(time.Now().Add(patience)))
				sent := make(chan error, 1)
				go func() {
					_, err := c.Write(text)
					sent <- err
				}()
				back := make([]byte, len(text))
				if _, err := io.ReadFull(c, back); err != nil {
					t.Fatalf("%s: from %s: %v", name, to, err)
				}
				must(t, <-sent)
				if !bytes.Equal(back, text) {
					t.Errorf("%s: %s returned something else", name, to)
				}
			}
			// A datagram that may not be cut is refused once the pod has been told.
			c := one.pods[0].connect(t, "udp", two.pods[0].addr(f), 7).(*net.UDPConn)
			raw, err := c.SyscallConn()
			must(t, err)
			control(t, raw, func(fd int) error {
				if f == 1 {
					return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
				}
				return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
			})
			wait(t, name+": the pod is told that 3000 bytes are too many", func() bool {
				_, err := c.Write(text[:3000])
				return errors.Is(err, syscall.EMSGSIZE)
			})
			must(t, exchange(c, string(text[:1400]), patience))
			// One that may is cut by the stack, and put together by the other pod.
			if f == 0 {
				control(t, raw, func(fd int) error {
					return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
				})
			} else {
				control(t, raw, func(fd int) error {
					return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_WANT)
				})
			}
			must(t, exchange(c, string(text[:2000]), patience))
		}
	})
}
