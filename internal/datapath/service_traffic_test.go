package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

func wildcard(family int) netip.Addr {
	return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}[family]
}

// Who uses a service that weft serves in packets reaches its backend, and hears the service.
func TestServicesByPackets(t *testing.T) {
	forEachTwoNodes(t, func(t *testing.T, w *twoNodes) {
		one, two := w.nodes[0], w.nodes[1]
		clusterIPs := [2]string{"10.100.0.20", "fd12::20"}
		set := uint32(1)
		for name, f := range w.families() {
			world := netip.MustParseAddr(worldAddrs[f])
			one.pods[0].serve(t, one.pods[0].addr(f), 8080)
			one.pods[1].serve(t, one.pods[1].addr(f), 8080)
			two.pods[0].serve(t, two.pods[0].addr(f), 8080)
			two.serve(t, two.addrs[f], 8080)
			one.serve(t, one.addrs[f], 8080)
			w.router.serve(t, world, 8080)
			serveServices(t, one.d, lbHost|lbNorthSouth)
			for i, c := range []struct {
				name    string
				from    space
				nodeIP  bool
				backend netip.Addr
			}{
				{"world to a node port of a pod here", w.router, true, one.pods[0].addr(f)},
				{"world to a node port of the node itself", w.router, true, one.addrs[f]},
				{"world to a node port of a remote pod", w.router, true, two.pods[0].addr(f)},
				{"world to a node port of a remote node", w.router, true, two.addrs[f]},
				{"remote pod to a node port of a pod here", two.pods[1].space, true, one.pods[0].addr(f)},
				{"remote pod to a node port of itself", two.pods[0].space, true, two.pods[0].addr(f)},
				{"remote node to a node port of a pod here", two.space, true, one.pods[0].addr(f)},
				{"pod to a node port of another pod", one.pods[0].space, true, one.pods[1].addr(f)},
				{"pod to a node port of a remote pod", one.pods[0].space, true, two.pods[0].addr(f)},
				{"pod to the cluster IP of another pod", one.pods[0].space, false, one.pods[1].addr(f)},
				{"pod to the cluster IP of a remote pod", one.pods[0].space, false, two.pods[0].addr(f)},
				{"pod to the cluster IP of a remote node", one.pods[0].space, false, two.addrs[f]},
				{"pod to the cluster IP of the node itself", one.pods[0].space, false, one.addrs[f]},
				{"pod to the cluster IP of itself", one.pods[0].space, false, one.pods[0].addr(f)},
				{"pod to the cluster IP of who is in the world", one.pods[0].space, false, world},
			} {
				port := uint16(30100 + i)
				front, flags, to := netip.MustParseAddr(clusterIPs[f]), uint32(0), netip.MustParseAddr(clusterIPs[f])
				if c.nodeIP {
					front, flags, to = wildcard(f), lbOutside, one.addrs[f]
				}
				for _, protocol := range []uint8{syscall.IPPROTO_TCP, syscall.IPPROTO_UDP} {
					setServices(t, one.d, set, testService{front: netip.AddrPortFrom(front, port), protocol: protocol, flags: flags,
						backends: []netip.AddrPort{netip.AddrPortFrom(c.backend, 8080)}})
					set++
				}
				for _, network := range []string{"tcp", "udp"} {
					conn := c.from.connect(t, network, to, port)
					for range 5 {
						if err := exchange(conn, c.name+" by "+network, patience); err != nil {
							t.Fatalf("%s, %s by %s: %v", name, c.name, network, err)
						}
					}
					conn.Close()
				}
			}
		}
	})
}

// Who uses a service without a backend is refused at once.
func TestServicesWithoutBackendsRefuse(t *testing.T) {
	forEachTwoNodes(t, func(t *testing.T, w *twoNodes) {
		one, two := w.nodes[0], w.nodes[1]
		serveServices(t, one.d, lbHost|lbNorthSouth)
		clusterIPs := [2]string{"10.100.0.21", "fd12::21"}
		set := uint32(1)
		for name, f := range w.families() {
			for i, c := range []struct {
				name   string
				from   space
				nodeIP bool
			}{
				{"world to a node port", w.router, true},
				{"remote pod to a node port", two.pods[0].space, true},
				{"pod to a node port", one.pods[0].space, true},
				{"pod to a cluster IP", one.pods[0].space, false},
			} {
				port := uint16(30200 + i)
				front, flags, to := netip.MustParseAddr(clusterIPs[f]), uint32(lbRefuse), netip.MustParseAddr(clusterIPs[f])
				if c.nodeIP {
					front, flags, to = wildcard(f), lbRefuse|lbOutside, one.addrs[f]
				}
				for _, protocol := range []uint8{syscall.IPPROTO_TCP, syscall.IPPROTO_UDP} {
					setServices(t, one.d, set, testService{front: netip.AddrPortFrom(front, port), protocol: protocol, flags: flags})
					set++
				}
				before := one.counters(t)
				err := c.from.try(func() error {
					conn, err := (&net.Dialer{Timeout: patience}).Dial("tcp", netip.AddrPortFrom(to, port).String())
					if err == nil {
						conn.Close()
					}
					return err
				})
				if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%s, %s by tcp: %v, expected it to be refused", name, c.name, err)
				}
				if err := exchange(c.from.connect(t, "udp", to, port), "refused", patience); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%s, %s by udp: %v, expected it to be refused", name, c.name, err)
				}
				hook, direction := FromNetdev, Ingress
				if c.from == one.pods[0].space {
					hook, direction = FromPod, Egress
				}
				if n := letPast(before, one.counters(t), hook, direction, ReasonNoteServiceRefused); n != 2 {
					t.Errorf("%s, %s: %d packets are noted as refused, expected 2", name, c.name, n)
				}
			}
		}
	})
}

// A datagram socket goes to another backend when its own is gone; a connection stays.
func TestDatagramsLeaveARemovedBackend(t *testing.T) {
	forEachTwoNodes(t, func(t *testing.T, w *twoNodes) {
		one, two := w.nodes[0], w.nodes[1]
		serveServices(t, one.d, lbHost|lbNorthSouth)
		set := uint32(1)
		for name, f := range w.families() {
			backends := []netip.AddrPort{netip.AddrPortFrom(one.pods[0].addr(f), 8080), netip.AddrPortFrom(two.pods[0].addr(f), 8080)}
			tell := func(s space, addr netip.Addr, who string) { s.tell(t, netip.AddrPortFrom(addr, 8080), who) }
			tell(one.pods[0].space, one.pods[0].addr(f), "here")
			tell(two.pods[0].space, two.pods[0].addr(f), "there")
			for _, client := range []struct {
				from space
				to   netip.Addr
				port uint16
			}{{w.router, one.addrs[f], 30300}, {one.pods[1].space, netip.MustParseAddr([]string{"10.100.0.22", "fd12::22"}[f]), 53}} {
				s := testService{front: netip.AddrPortFrom(client.to, client.port), protocol: syscall.IPPROTO_UDP, flags: lbOutside, backends: backends[:1]}
				if client.from == w.router {
					s.front = netip.AddrPortFrom(wildcard(f), client.port)
				}
				for range 2 {
					setServices(t, one.d, set, s)
					c := client.from.connect(t, "udp", client.to, client.port)
					if got := ask(t, c); got != "here" {
						t.Fatalf("%s: %s answered, expected the only backend", name, got)
					}
					moved := s
					moved.backends = backends[1:]
					replaceBackends(t, one.d, set, moved, backends[0])
					wait(t, fmt.Sprintf("%s: datagrams to %s go to the other backend", name, client.to), func() bool { return ask(t, c) == "there" })
					replaceBackends(t, one.d, set, s, backends[1])
					wait(t, fmt.Sprintf("%s: and back", name), func() bool { return ask(t, c) == "here" })
					c.Close()
				}
				set++
			}
		}
	})
}

// tell answers datagrams with a name.
func (s space) tell(t testing.TB, at netip.AddrPort, name string) {
	t.Helper()
	var c net.PacketConn
	s.do(t, func() (err error) {
		c, err = net.ListenPacket("udp", at.String())
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64)
		for {
			_, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			c.WriteTo([]byte(name), from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
}

// ask sends a datagram and returns the answer; nothing if there is none for a while.
func ask(t testing.TB, c net.Conn) string {
	t.Helper()
	must(t, c.SetDeadline(time.Now().Add(patience)))
	if _, err := c.Write([]byte("who")); err != nil {
		return err.Error()
	}
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	if err != nil {
		return err.Error()
	}
	return string(buf[:n])
}
