package socklb

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/weft-cni/weft/internal/loadbalancer"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// openAt opens the programs with p as the node.
func openAt(t *testing.T, p *pod, cfg Config) *Balancer {
	t.Helper()
	var b *Balancer
	if err := p.Do(func() (err error) { b, err = Open(cfg); return err }); err != nil {
		t.Fatalf("open: %+v", err)
	}
	t.Cleanup(func() { b.Close() })
	if err := b.Freshen(time.Hour); err != nil {
		t.Fatal(err)
	}
	return b
}

func wildcardAt(family int, port uint16, p corev1.Protocol) loadbalancer.Address {
	return loadbalancer.Address{AddrPort: netip.AddrPortFrom([]netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}[family], port), Protocol: p}
}

// A node port is reached at the node's own addresses; its loopback and no address at all are the node's for the node
// alone.
func TestNodePort(t *testing.T) {
	cfg := testConfig(t)
	cfg.HostToo, cfg.NorthSouth = true, true
	node, other := newPod(t), newPod(t)
	b := openAt(t, node, cfg)
	each(t, node, func(t *testing.T, family int) {
		own := []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd00:9::1")}[family]
		if err := b.SetOwn([]netip.Addr{own, netip.MustParseAddr("10.9.0.2")}); err != nil {
			t.Fatal(err)
		}
		apply(t, b, loadbalancer.Frontend{Address: wildcardAt(family, 30080, corev1.ProtocolTCP), Kind: loadbalancer.NodePort, Backends: node.backends[family], Outside: true})
		loopback := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}[family]
		nowhere := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}[family]
		foreign := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00:2::1")}[family]
		for _, test := range []struct {
			from *pod
			name string
			to   netip.Addr
			is   bool
		}{
			{node, "the node's address", own, true}, {node, "the node's loopback", loopback, true}, {node, "no address", nowhere, true},
			{node, "another address", foreign, false},
			{other, "a pod to the node's address", own, true}, {other, "a pod to its own loopback", loopback, false}, {other, "a pod to no address", nowhere, false},
		} {
			if test.to.IsUnspecified() {
				// Go itself would ask the loopback instead.
				if err := test.from.connect(netip.AddrPortFrom(test.to, 30080)); (err == nil) != test.is {
					t.Errorf("%s: %v, expected that a backend is met: %v", test.name, err, test.is)
				}
				continue
			}
			who, peer, err := test.from.ask(netip.AddrPortFrom(test.to, 30080))
			if (err == nil) != test.is {
				t.Errorf("%s: met %v (%v), expected that a backend is met: %v", test.name, who, err, test.is)
			}
			if err == nil && peer != netip.AddrPortFrom(test.to, 30080) {
				t.Errorf("%s: the socket says that it is connected to %v", test.name, peer)
			}
		}
		if err := b.SetOwn(nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := node.ask(netip.AddrPortFrom(own, 30080)); err == nil {
			t.Error("a node port is served at an address that is the node's no more")
		}
	})
}

// connect by TCP, with the very address that is given.
func (p *pod) connect(to netip.AddrPort) error {
	return p.Do(func() error {
		family := syscall.AF_INET
		var at syscall.Sockaddr
		if to.Addr().Is4() {
			at = &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
		} else {
			family, at = syscall.AF_INET6, &syscall.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
		}
		fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		return syscall.Connect(fd, at)
	})
}

// Without weft in kube-proxy's place node ports are kube-proxy's.
func TestNodePortBesideKubeProxy(t *testing.T) {
	cfg, node := testConfig(t), newPod(t)
	cfg.HostToo = true
	b := openAt(t, node, cfg)
	if err := b.SetOwn([]netip.Addr{netip.MustParseAddr("10.9.0.1")}); err != nil {
		t.Fatal(err)
	}
	apply(t, b, loadbalancer.Frontend{Address: wildcardAt(0, 30080, corev1.ProtocolTCP), Backends: node.backends[0], Outside: true})
	for _, at := range []string{"10.9.0.1:30080", "127.0.0.1:30080", "0.0.0.0:30080"} {
		if who, _, err := node.ask(netip.MustParseAddrPort(at)); err == nil {
			t.Errorf("%s: met %v", at, who)
		}
	}
}

func (p *pod) listen(network, at string) error {
	return p.Do(func() error {
		if network[:3] == "udp" {
			c, err := net.ListenPacket(network, at)
			if err != nil {
				return err
			}
			return c.Close()
		}
		l, err := net.Listen(network, at)
		if err != nil {
			return err
		}
		return l.Close()
	})
}

// A process of the node doesn't get a port at which a node port is served; a pod does, and so does who asks for another
// protocol or port.
func TestGuard(t *testing.T) {
	cfg := testConfig(t)
	cfg.HostToo, cfg.NorthSouth, cfg.GuardNodePorts = true, true, true
	node, other := newPod(t), newPod(t)
	b := openAt(t, node, cfg)
	apply(t, b,
		loadbalancer.Frontend{Address: wildcardAt(0, 30080, corev1.ProtocolTCP), Backends: node.backends[0], Outside: true},
		loadbalancer.Frontend{Address: wildcardAt(0, 30081, corev1.ProtocolUDP), OutsideOwn: true})
	check := func(b *Balancer, from *pod, network, at string, refused bool) {
		t.Helper()
		err := from.listen(network, at)
		if refused != errors.Is(err, syscall.EADDRINUSE) || !refused && err != nil {
			t.Errorf("listen at %s %s: %v, expected that the address is in use: %v", network, at, err, refused)
		}
	}
	check(b, node, "tcp4", "0.0.0.0:30080", true)
	check(b, node, "tcp4", "127.0.0.1:30080", true)
	check(b, node, "udp4", "0.0.0.0:30081", true)
	check(b, node, "udp4", "0.0.0.0:30080", false)
	check(b, node, "tcp4", "0.0.0.0:30082", false)
	check(b, node, "tcp4", "0.0.0.0:0", false)
	check(b, other, "tcp4", "0.0.0.0:30080", false)
	if len(node.backends[1]) > 0 {
		check(b, node, "tcp", "[::]:30080", true)
		apply(t, b, loadbalancer.Frontend{Address: wildcardAt(1, 30080, corev1.ProtocolTCP), Outside: true})
		check(b, node, "tcp6", "[::1]:30080", true)
		check(b, node, "tcp4", "0.0.0.0:30080", false)
	}
	stats, err := b.Stats()
	if err != nil || stats.Outcomes["guarded"] < 3 {
		t.Errorf("statistics %+v, %v; expected 3 refusals at least", stats, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.GuardNodePorts = false
	b = openAt(t, node, cfg)
	apply(t, b, loadbalancer.Frontend{Address: wildcardAt(0, 30080, corev1.ProtocolTCP), Outside: true})
	check(b, node, "tcp4", "0.0.0.0:30080", false)
}

// What is for some sources alone is left to who sees the source; the node itself may if its address is one of them.
func TestRestricted(t *testing.T) {
	cfg := testConfig(t)
	cfg.HostToo, cfg.NorthSouth = true, true
	node, other := newPod(t), newPod(t)
	b := openAt(t, node, cfg)
	for _, allowed := range []bool{false, true} {
		apply(t, b, loadbalancer.Frontend{Address: tcp(at(0, 80)), Backends: node.backends[0], Restricted: true, HostAllowed: allowed, Outside: true})
		if who, _, err := node.ask(at(0, 80)); (err == nil) != allowed {
			t.Errorf("the node: met %v (%v), expected a backend: %v", who, err, allowed)
		}
		if who, _, err := other.ask(at(0, 80)); err == nil {
			t.Errorf("a pod: met %v", who)
		}
	}
}

func TestHostOnly(t *testing.T) {
	cfg := testConfig(t)
	cfg.HostToo, cfg.HostOnly = true, true
	node, other := newPod(t), newPod(t)
	b := openAt(t, node, cfg)
	apply(t, b, loadbalancer.Frontend{Address: tcp(at(0, 80)), Backends: node.backends[0]})
	if _, _, err := node.ask(at(0, 80)); err != nil {
		t.Error("the node:", err)
	}
	if who, _, err := other.ask(at(0, 80)); err == nil {
		t.Errorf("a pod: met %v", who)
	}
}

// The node's own sockets of datagrams are connected, too, and ended when their backend goes; a socket that somebody
// connected to the same address himself isn't.
func TestConnectedDatagramsOfTheNode(t *testing.T) {
	cfg := testConfig(t)
	cfg.HostToo = true
	node := newPod(t)
	b := openAt(t, node, cfg)
	each(t, node, func(t *testing.T, family int) {
		f := loadbalancer.Frontend{Address: udp(at(family, 53)), Backends: node.backends[family][:2]}
		apply(t, b, f)
		dial := func(to netip.AddrPort) *net.UDPConn {
			t.Helper()
			var c *net.UDPConn
			if err := node.Do(func() (err error) {
				c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
				return err
			}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		}
		exchange := func(c *net.UDPConn) (string, error) {
			if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return "", err
			}
			if _, err := c.Write([]byte("?")); err != nil {
				return "", err
			}
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			return string(buf[:n]), err
		}
		var one *net.UDPConn
		left := f.Backends[1]
		nstest.Eventually(t, time.Minute, "a socket is connected to the first backend", func() error {
			c := dial(at(family, 53))
			who, err := exchange(c)
			if err == nil && who != f.Backends[0].String() {
				err = fmt.Errorf("met %s", who)
			}
			one = c
			return err
		})
		if peer := unmap(one.RemoteAddr().(*net.UDPAddr).AddrPort()); peer != at(family, 53) {
			t.Errorf("the socket says that it is connected to %v", peer)
		}
		direct := dial(f.Backends[0])
		f.Backends = f.Backends[1:]
		apply(t, b, f)
		var ended int
		if err := node.Do(func() (err error) { ended, err = b.EndOrphans(); return err }); errors.Is(err, syscall.EOPNOTSUPP) {
			t.Skip("could not run: the kernel can't end sockets")
		} else if err != nil {
			t.Fatal(err)
		}
		if ended == 0 {
			t.Error("no socket was ended")
		}
		if _, err := exchange(one); !errors.Is(err, syscall.ECONNABORTED) && !errors.Is(err, syscall.EDESTADDRREQ) {
			t.Errorf("the socket whose backend is gone: %v, expected that it was ended", err)
		}
		if who, err := exchange(direct); err != nil || who != direct.RemoteAddr().String() {
			t.Errorf("a socket that was connected to the backend itself: met %s (%v)", who, err)
		}
		if who, err := exchange(dial(at(family, 53))); err != nil || who != left.String() {
			t.Errorf("a new socket: met %s (%v), expected %s", who, err, left)
		}
		if err := node.Do(func() (err error) { ended, err = b.EndOrphans(); return err }); err != nil || ended != 0 {
			t.Errorf("%d sockets were ended for nothing (%v)", ended, err)
		}
	})
}
