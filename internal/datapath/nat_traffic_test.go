package datapath

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A natNode is a node whose pods on the second ENI reach the world by the first ENI's address. The world is
// behind a router and a link with a smaller MTU; it knows no pod.
type natNode struct {
	*node
	world space
}

const (
	worldHost = "203.0.113.80"
	worldMTU  = 1300
)

func newNATNode(t testing.TB, v variant, ports [2]uint16) *natNode {
	t.Helper()
	n := &natNode{node: newNodeOf(t, v), world: newSpace(t)}
	n.router.do(t, func() error {
		return errors.Join(
			addVeth("down", 0, nil, "up", nil), moveTo("up", n.world, "up"), linkUp("down"),
			setMTU("down", worldMTU), addAddress("down", "198.51.100.1/30"),
			addRoute(netlink.Route{LinkIndex: index("down"), Dst: host32(worldHost), Gw: net.ParseIP("198.51.100.2")}),
		)
	})
	n.world.do(t, func() error {
		return errors.Join(
			linkUp("up"), setMTU("up", worldMTU), addAddress("up", "198.51.100.2/30"), addAddress("lo", worldHost+"/32"),
			// Its peers learn of the small link from the router alone.
			addRoute(netlink.Route{LinkIndex: index("up"), Dst: everywhere(), Gw: net.ParseIP("198.51.100.1"), AdvMSS: 1460}),
		)
	})
	s := n.d.Settings()
	s.Masquerade, s.MasqueradePorts = true, ports
	n.cfg.Settings = s
	must(t, n.d.Configure(s))
	n.translate(t, nodeAddr, 1)
	return n
}

func index(name string) int {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return 0
	}
	return l.Attrs().Index
}

func setMTU(name string, mtu int) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetMTU(l, mtu)
}

// translate says what pods on the second ENI get as their source, and which ENI owns it.
func (n *natNode) translate(t testing.TB, to string, eni uint32) {
	t.Helper()
	for i := range n.enis {
		n.enis[i].Masquerade, n.enis[i].MasqueradeENI = netip.MustParseAddr(to), eni
		must(t, n.d.SetENI(n.enis[i]))
	}
}

func forEachNATVariant(t *testing.T, ports [2]uint16, test func(t *testing.T, n *natNode)) {
	for _, v := range variants(t) {
		t.Run(v.String(), func(t *testing.T) { test(t, newNATNode(t, v, ports)) })
	}
}

// witness answers each datagram, or each line of a connection, with the address that it came from.
func (s space) witness(t testing.TB, network, addr string) {
	t.Helper()
	if strings.HasPrefix(network, "tcp") {
		var l net.Listener
		s.do(t, func() (err error) {
			l, err = net.Listen(network, addr)
			return err
		})
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					b := make([]byte, 64)
					for {
						if _, err := c.Read(b); err != nil {
							return
						}
						if _, err := io.WriteString(c, c.RemoteAddr().String()); err != nil {
							return
						}
					}
				}()
			}
		}()
		t.Cleanup(func() { l.Close() })
		return
	}
	var c net.PacketConn
	s.do(t, func() (err error) {
		c, err = net.ListenPacket(network, addr)
		return err
	})
	go func() {
		b := make([]byte, 2048)
		for {
			_, from, err := c.ReadFrom(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = c.WriteTo([]byte(from.String()), from)
			}
		}
	}()
	t.Cleanup(func() { c.Close() })
}

// seen asks a witness as whom it sees this end.
func seen(c net.Conn) (netip.AddrPort, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return netip.AddrPort{}, err
	}
	if _, err := c.Write([]byte("?")); err != nil {
		return netip.AddrPort{}, err
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.ParseAddrPort(string(b[:n]))
}

// tryBriefly asks whoever is there, who isn't expected to answer.
func tryBriefly(network string, from net.Addr, to string) error {
	d := net.Dialer{Timeout: 300 * time.Millisecond, LocalAddr: from}
	c, err := d.Dial(network, to)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("?")); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 64))
	return err
}

// dialFrom makes a connection, or a connected socket, from a port.
func (s space) dialFrom(t testing.TB, network string, port int, to string) (c net.Conn, err error) {
	t.Helper()
	err = s.try(func() error {
		d := net.Dialer{Timeout: patience}
		if port != 0 && strings.HasPrefix(network, "tcp") {
			d.LocalAddr = &net.TCPAddr{Port: port}
		} else if port != 0 {
			d.LocalAddr = &net.UDPAddr{Port: port}
		}
		var err error
		c, err = d.Dial(network, to)
		return err
	})
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// Two pods with the same ports to one server: both are seen as the node, each gets its own answers.
func TestNATTraffic(t *testing.T) {
	forEachNATVariant(t, [2]uint16{2000, 2999}, func(t *testing.T, n *natNode) {
		a, b := n.addPod(t, 1, podAddr), n.addPod(t, 2, otherAddr)
		for _, network := range []string{"tcp4", "udp4"} {
			n.world.witness(t, network, worldHost+":53")
			for _, port := range []int{0, 2500, 40000} {
				ports := map[uint16]bool{}
				for _, p := range []*pod{a, b} {
					c, err := p.dialFrom(t, network, port, worldHost+":53")
					if err != nil {
						t.Fatalf("%s from port %d of %s: %v", network, port, p.name, err)
					}
					for range 3 {
						from, err := seen(c)
						if err != nil {
							t.Fatalf("%s from port %d of %s: %v", network, port, p.name, err)
						}
						if from.Addr().String() != nodeAddr || from.Port() < 2000 || from.Port() > 2999 {
							t.Fatalf("%s from port %d of %s is seen as %s, expected %s and a port of 2000-2999", network, port, p.name, from, nodeAddr)
						}
						ports[from.Port()] = true
					}
				}
				if len(ports) != 2 {
					t.Errorf("%s: two pods with port %d are seen with the ports %v", network, port, ports)
				}
			}
		}
		noDrops(t, n.node)
	})
}

// noDrops finds no drop counted but of IPv6, which the rig's kernels speak by themselves.
func noDrops(t *testing.T, n *node) {
	t.Helper()
	for c, packets := range readCounters(t, n.d) {
		if c.Reason.Drop() && c.Reason != ReasonFamilyOff && packets > 0 {
			t.Errorf("%s dropped %d packets: %s", c.Hook, packets, c.Reason)
		}
	}
}

// Behind a NAT gateway pods leave by their own ENI, behind an internet gateway by the first: the router, which
// checks sources by interface, lets only the right one pass.
func TestNATByTheRightENI(t *testing.T) {
	n := newNATNode(t, variant{}, [2]uint16{2000, 2999})
	a := n.addPod(t, 1, podAddr)
	n.world.witness(t, "udp4", worldHost+":53")
	first := a.dial(t, "", worldHost+":53")
	for _, c := range []struct {
		to  string
		eni uint32
	}{{nodeAddr, 1}, {node2Addr, 2}} {
		n.translate(t, c.to, c.eni)
		from, err := seen(a.dial(t, "", worldHost+":53"))
		must(t, err)
		if from.Addr().String() != c.to {
			t.Errorf("seen as %s, expected %s", from, c.to)
		}
		// A flow keeps what it was given.
		if from, err = seen(first); err != nil || from.Addr().String() != nodeAddr {
			t.Errorf("a flow from before is seen as %s, %v, expected %s", from, err, nodeAddr)
		}
	}
	noDrops(t, n.node)
}

// What isn't the world's keeps the pod's address.
func TestNATLeavesNativeAlone(t *testing.T) {
	n := newNATNode(t, variant{}, [2]uint16{2000, 2999})
	a := n.addPod(t, 1, podAddr)
	n.world.witness(t, "udp4", worldHost+":53")
	must(t, n.d.SetPrefixes(map[netip.Prefix]PrefixInfo{netip.MustParsePrefix("203.0.113.0/24"): {Native: true}}))
	from, err := seen(a.dial(t, "", worldHost+":53"))
	must(t, err)
	if from.Addr().String() != podAddr {
		t.Errorf("seen as %s, expected the pod's own address", from)
	}
}

// A range of four ports: four flows to one server, no fifth, and others to another server.
func TestNATPortsRunOut(t *testing.T) {
	n := newNATNode(t, variant{}, [2]uint16{2000, 2003})
	a := n.addPod(t, 1, podAddr)
	n.world.witness(t, "udp4", worldHost+":53")
	n.world.witness(t, "udp4", worldHost+":54")
	for range 4 {
		_, err := seen(a.dial(t, "", worldHost+":53"))
		must(t, err)
	}
	fifth := a.dial(t, "", worldHost+":53")
	key := Counter{Hook: FromPod, Direction: Egress, Reason: ReasonNatNoPort}
	before := readCounters(t, n.d)[key]
	if err := exchange(fifth, "?", 200*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a fifth flow: %v, expected a time-out", err)
	}
	wait(t, "it is counted as "+ReasonNatNoPort.String(), func() bool { return readCounters(t, n.d)[key] > before })
	_, err := seen(a.dial(t, "", worldHost+":54"))
	must(t, err)
}

// A socket of the host in the range keeps its port, connected or listening, TCP or UDP.
func TestNATSparesTheHostsSockets(t *testing.T) {
	n := newNATNode(t, variant{}, [2]uint16{2000, 2001})
	a := n.addPod(t, 1, podAddr)
	for _, network := range []string{"tcp4", "udp4"} {
		n.world.witness(t, network, worldHost+":53")
		own, err := n.host.dialFrom(t, network, 2000, worldHost+":53")
		must(t, err)
		for i := range 3 {
			if i > 0 {
				if a.try(func() error { return tryBriefly(network, nil, worldHost+":53") }) == nil {
					t.Fatalf("%s: flow %d found a port, of which only one is free", network, i+1)
				}
				break
			}
			c, err := a.dialFrom(t, network, 0, worldHost+":53")
			must(t, err)
			from, err := seen(c)
			must(t, err)
			if from.Port() != 2001 {
				t.Fatalf("%s: the pod has port %d, expected the one that the host doesn't use", network, from.Port())
			}
		}
		from, err := seen(own)
		if err != nil || from.String() != nodeAddr+":2000" {
			t.Errorf("%s: the host is seen as %s, %v, expected its own port", network, from, err)
		}
	}
}

// The host binds to a port that a pod's flow to the same server has: its packets would be taken for the pod's.
func TestNATHostTakesAPodsPort(t *testing.T) {
	n := newNATNode(t, variant{}, [2]uint16{2000, 2000})
	a := n.addPod(t, 1, podAddr)
	for _, network := range []string{"tcp4", "udp4"} {
		n.world.witness(t, network, worldHost+":53")
		c, err := a.dialFrom(t, network, 0, worldHost+":53")
		must(t, err)
		_, err = seen(c)
		must(t, err)
		key := Counter{Hook: ToNetdev, Direction: Egress, Reason: ReasonNatHostPort}
		before := readCounters(t, n.d)[key]
		done := make(chan error, 1)
		go func() {
			done <- n.host.try(func() error {
				if strings.HasPrefix(network, "tcp") {
					return tryBriefly(network, &net.TCPAddr{Port: 2000}, worldHost+":53")
				}
				return tryBriefly(network, &net.UDPAddr{Port: 2000}, worldHost+":53")
			})
		}()
		if err := <-done; err == nil {
			t.Errorf("%s: the host got an answer on the pod's port", network)
		}
		wait(t, network+": it is counted as "+ReasonNatHostPort.String(), func() bool { return readCounters(t, n.d)[key] > before })
		if _, err := seen(c); err != nil {
			t.Errorf("%s: the pod's flow after that: %v", network, err)
		}
		c.Close()
	}
	// To another server the port is the host's.
	n.world.witness(t, "udp4", worldHost+":54")
	own, err := n.host.dialFrom(t, "udp4", 2000, worldHost+":54")
	must(t, err)
	_, err = seen(own)
	must(t, err)
}

// A transfer that meets the small link: the router's word about it reaches the pod, or nothing would arrive.
func TestNATPathMTU(t *testing.T) {
	forEachNATVariant(t, [2]uint16{2000, 2999}, func(t *testing.T, n *natNode) {
		a := n.addPod(t, 1, podAddr)
		var l net.Listener
		n.world.do(t, func() (err error) {
			l, err = net.Listen("tcp4", worldHost+":80")
			return err
		})
		defer l.Close()
		sum := make(chan []byte, 1)
		go func() {
			defer close(sum)
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			h := sha256.New()
			if _, err := io.Copy(h, c); err == nil {
				sum <- h.Sum(nil)
			}
		}()
		c, err := a.dialFrom(t, "tcp4", 0, worldHost+":80")
		must(t, err)
		must(t, c.SetDeadline(time.Now().Add(patience)))
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		_, err = c.Write(data)
		must(t, err)
		must(t, c.(*net.TCPConn).CloseWrite())
		want := sha256.Sum256(data)
		if got := <-sum; !bytes.Equal(got, want[:]) {
			t.Error("the transfer didn't arrive, or not as it was sent")
		}
		mtu := 0
		a.do(t, func() error {
			routes, err := netlink.RouteGetWithOptions(net.ParseIP(worldHost), &netlink.RouteGetOptions{})
			for _, r := range routes {
				mtu = max(mtu, r.MTU)
			}
			return err
		})
		if mtu != worldMTU {
			t.Errorf("the pod knows a path MTU of %d, expected %d: the error didn't reach it", mtu, worldMTU)
		}
	})
}

// ping sends one echo request from the pod and returns who answers with which type; a TTL other than 0 is set.
func (p *pod) ping(t testing.TB, id uint16, ttl int) (from netip.Addr, kind byte, err error) {
	t.Helper()
	err = p.try(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if ttl > 0 {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl); err != nil {
				return err
			}
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
			return err
		}
		echo := natPacket{protocol: protoICMP, kind: 8, sport: id, data: []byte("echo")}.transport()
		if err := unix.Sendto(fd, echo, 0, &unix.SockaddrInet4{Addr: netip.MustParseAddr(worldHost).As4()}); err != nil {
			return err
		}
		b := make([]byte, 1500)
		n, err := unix.Read(fd, b)
		if err != nil {
			return err
		}
		got, err := readPacket(b[:n], false)
		if err != nil {
			return err
		}
		from, kind = got.src, got.kind
		if kind != 0 {
			about, err := readPacket(got.data, true)
			if err != nil {
				return fmt.Errorf("the packet inside of the error: %w", err)
			}
			if about.src != p.Addr || about.sport != id {
				return fmt.Errorf("the error is about a packet of %s with id %d, expected %s and %d", about.src, about.sport, p.Addr, id)
			}
		} else if got.sport != id {
			return fmt.Errorf("the answer has id %d, expected %d", got.sport, id)
		}
		return nil
	})
	return from, kind, err
}

// Ping and traceroute, with ids that two pods share.
func TestNATPing(t *testing.T) {
	forEachNATVariant(t, [2]uint16{2000, 2999}, func(t *testing.T, n *natNode) {
		for i, addr := range []string{podAddr, otherAddr} {
			p := n.addPod(t, uint32(i+1), addr)
			for _, id := range []uint16{2500, 40000} {
				from, kind, err := p.ping(t, id, 0)
				if err != nil || from.String() != worldHost || kind != 0 {
					t.Errorf("%s, id %d: answered by %s with type %d, %v", p.name, id, from, kind, err)
				}
			}
			// One hop is the node's, the next the router's.
			from, kind, err := p.ping(t, 40001, 2)
			if err != nil || kind != 11 || from == n.pods[i].Addr {
				t.Errorf("%s: the second hop is %s with type %d, %v, expected the router and type 11", p.name, from, kind, err)
			}
		}
	})
}

// A datagram in fragments, out and back.
func TestNATFragmentedTraffic(t *testing.T) {
	n := newNATNode(t, variant{}, [2]uint16{2000, 2999})
	a := n.addPod(t, 1, podAddr)
	n.world.echo(t, worldHost+":7")
	c := a.dial(t, "", worldHost+":7")
	big := make([]byte, 2000)
	for i := range big {
		big[i] = 'a' + byte(i%26)
	}
	must(t, exchange(c, string(big), patience))
	noDrops(t, n.node)
}

// A closed port of the world: its error reaches the pod's socket. A closed port of the pod: its error reaches
// the world.
func TestNATUnreachable(t *testing.T) {
	n := newNATNode(t, variant{}, [2]uint16{2000, 2999})
	a := n.addPod(t, 1, podAddr)
	c := a.dial(t, "", worldHost+":9")
	if err := exchange(c, "?", patience); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a closed port of the world: %v, expected that it is refused", err)
	}

	// The world answers late, when the pod's socket is closed.
	var w net.PacketConn
	n.world.do(t, func() (err error) {
		w, err = net.ListenPacket("udp4", worldHost+":10")
		return err
	})
	defer w.Close()
	c = a.dial(t, "", worldHost+":10")
	_, err := c.Write([]byte("?"))
	must(t, err)
	b := make([]byte, 64)
	must(t, w.SetReadDeadline(time.Now().Add(patience)))
	_, from, err := w.ReadFrom(b)
	must(t, err)
	must(t, c.Close())
	// A connected socket hears of errors.
	must(t, w.Close())
	back, err := n.world.dialUDP(t, worldHost+":10", from.String())
	must(t, err)
	if err := exchange(back, "late", patience); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a closed port of the pod: %v, expected that it is refused", err)
	}
}

func (s space) dialUDP(t testing.TB, from, to string) (c net.Conn, err error) {
	t.Helper()
	local, err := net.ResolveUDPAddr("udp4", from)
	if err != nil {
		return nil, err
	}
	err = s.try(func() error {
		var err error
		c, err = (&net.Dialer{LocalAddr: local}).Dial("udp4", to)
		return err
	})
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// Translated flows don't notice that the agent goes, comes back, or brings other programs.
func TestNATSurvivesTheAgent(t *testing.T) {
	forEachNATVariant(t, [2]uint16{2000, 2999}, func(t *testing.T, n *natNode) {
		a := n.addPod(t, 1, podAddr)
		kept := map[string]net.Conn{}
		was := map[string]netip.AddrPort{}
		for _, network := range []string{"tcp4", "udp4"} {
			n.world.witness(t, network, worldHost+":53")
			c, err := a.dialFrom(t, network, 0, worldHost+":53")
			must(t, err)
			kept[network] = c
			was[network], err = seen(c)
			must(t, err)
		}
		check := func(when string) {
			t.Helper()
			for network, c := range kept {
				if from, err := seen(c); err != nil || from != was[network] {
					t.Errorf("%s: %s is seen as %s, %v, expected %s", when, network, from, err, was[network])
				}
			}
		}
		for i := range 3 {
			must(t, n.d.Close())
			check("without an agent")
			n.d = openDatapath(t, n.cfg)
			must(t, n.setAddresses())
			for _, e := range n.enis {
				must(t, n.d.SetENI(e))
			}
			must(t, n.d.SetAddress(a.Addr, a.ENI))
			must(t, n.d.AddEndpoint(a.Endpoint))
			must(t, n.d.Prune([]Endpoint{a.Endpoint}, n.enis, n.addresses()))
			check(fmt.Sprint("with agent ", i+2))
		}
		// Translation is off for new flows only.
		s := n.cfg.Settings
		s.Masquerade = false
		must(t, n.d.Configure(s))
		check("with translation off")
	})
}
