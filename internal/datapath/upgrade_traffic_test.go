package datapath

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// takeOver is what an agent does when it starts.
func (n *node) takeOver(t testing.TB, object *Object) {
	t.Helper()
	must(t, n.d.Close())
	cfg := n.cfg
	cfg.Object = object
	n.d = openDatapath(t, cfg)
	n.attachAll(t)
}

func (n *node) attachAll(t testing.TB) {
	t.Helper()
	addrs := n.addresses()
	var endpoints []Endpoint
	for _, p := range n.pods {
		addrs[p.Addr] = p.ENI
		endpoints = append(endpoints, p.Endpoint)
	}
	must(t, n.d.Prepare(endpoints, n.enis, addrs))
	for _, e := range n.enis {
		must(t, n.d.SetENI(e))
	}
	for _, e := range endpoints {
		must(t, n.d.AddEndpoint(e))
	}
	must(t, n.d.Prune(endpoints, n.enis, addrs))
}

// echoTCP answers on an address until the test ends.
func (s space) echoTCP(t testing.TB, addr string) {
	t.Helper()
	var l net.Listener
	s.do(t, func() (err error) {
		l, err = net.Listen("tcp4", addr)
		return err
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
}

func (s space) dialTCP(t testing.TB, to string) net.Conn {
	t.Helper()
	var c net.Conn
	s.do(t, func() (err error) {
		c, err = (&net.Dialer{Timeout: patience}).Dial("tcp4", to)
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// talk sends and reads back on a connection until stop; nothing may be lost or cut.
func talk(c net.Conn, stop <-chan struct{}) error {
	b := make([]byte, 64)
	for i := 0; ; i++ {
		select {
		case <-stop:
			if i < enoughTalk {
				return fmt.Errorf("only %d exchanges under load, expected %d or more", i, enoughTalk)
			}
			return nil
		default:
		}
		text := fmt.Sprintf("%064d", i)
		err := c.SetDeadline(time.Now().Add(patience))
		if err == nil {
			_, err = c.Write([]byte(text))
		}
		if err == nil {
			_, err = io.ReadFull(c, b)
		}
		if err == nil && string(b) != text {
			err = fmt.Errorf("got %q back, expected %q", b, text)
		}
		if err != nil {
			return fmt.Errorf("exchange %d to %s: %w", i, c.RemoteAddr(), err)
		}
	}
}

// Connections of every kind go on, and every datagram comes back, while the node is brought to a version
// with other layouts and back again.
func TestVersionsAreSwappedUnderLoad(t *testing.T) {
	forEachVariant(t, func(t *testing.T, n *node) {
		n.enis[1].Masquerade, n.enis[1].MasqueradeENI = netip.MustParseAddr(nodeAddr), 1
		s := DefaultSettings()
		s.Masquerade, s.NodeAddr = true, netip.MustParseAddr(nodeAddr)
		n.cfg.Settings = s
		a, b := n.addPod(t, 1, podAddr), n.addPod(t, 2, otherAddr)
		n.takeOver(t, nil)
		must(t, n.d.SetPrefixes(prefixes(map[string]PrefixInfo{"192.168.0.0/16": {Native: true}})))
		const world = "203.0.113.80" // sees the node's address
		n.router.do(t, func() error { return addAddress("lo", world+"/32") })
		n.router.echo(t, world+":7")
		n.router.echoTCP(t, world+":80")
		n.router.echo(t, farAddr+":7")
		n.router.echoTCP(t, farAddr+":80")
		b.echo(t, otherAddr+":7")
		b.echoTCP(t, otherAddr+":80")
		n.host.echoTCP(t, nodeAddr+":80")
		// Services that packets are translated for: of a pod here, of another node, and what a connected socket of a pod asks.
		const service = "10.100.0.9"
		any := netip.IPv4Unspecified()
		front := func(a netip.Addr, port uint16, protocol uint8, backend string) testService {
			return testService{front: netip.AddrPortFrom(a, port), protocol: protocol, flags: lbOutside, backends: []netip.AddrPort{netip.MustParseAddrPort(backend)}}
		}
		setServices(t, n.d, 1, front(any, 30000, protoUDP, otherAddr+":7"), front(any, 30000, protoTCP, otherAddr+":80"),
			front(any, 30001, protoUDP, farAddr+":7"), front(any, 30001, protoTCP, farAddr+":80"),
			front(netip.MustParseAddr(service), 53, protoUDP, farAddr+":7"), front(netip.MustParseAddr(service), 54, protoUDP, otherAddr+":7"))
		serveServices(t, n.d, lbHost|lbNorthSouth)
		stop, results := make(chan struct{}), make(chan error)
		flows := 0
		begin := func(do func(net.Conn, <-chan struct{}) error, c net.Conn) {
			flows++
			go func() { results <- do(c, stop) }()
		}
		for _, to := range []string{farAddr, otherAddr, nodeAddr, world} {
			begin(talk, a.dialTCP(t, to+":80"))
		}
		begin(load, a.dial(t, "", world+":7"))
		begin(load, a.dial(t, "", farAddr+":7"))
		begin(load, a.dial(t, "", otherAddr+":7"))
		for _, port := range []string{":30000", ":30001"} {
			begin(load, n.router.dial(t, "", nodeAddr+port))
			begin(talk, n.router.dialTCP(t, nodeAddr+port))
		}
		begin(load, a.dial(t, "", service+":53"))
		begin(load, a.dial(t, "", service+":54"))
		quiet := a.dialTCP(t, world+":80")
		for i := range 6 {
			object := ThisVersion()
			if i%2 == 0 {
				object = nextVersion()
			}
			n.takeOver(t, object)
			begin(talk, a.dialTCP(t, farAddr+":80"))
			begin(talk, a.dialTCP(t, otherAddr+":80"))
			begin(talk, a.dialTCP(t, world+":80"))
		}
		translated, served := 0, 0
		must(t, n.d.Connections(func(c Connection) bool {
			if c.Service.IsValid() {
				served++
			}
			if c.Translated.Addr() == netip.MustParseAddr(nodeAddr) {
				translated++
			}
			return true
		}))
		if translated == 0 {
			t.Error("no connection is translated")
		}
		if served < 6 {
			t.Errorf("%d connections are services', expected 6", served)
		}
		counters := readCounters(t, n.d)
		if c := counters[Counter{Hook: FromPod, Direction: Egress, Reason: ReasonSent}]; c == 0 {
			t.Errorf("nothing went by the fast path: %v", counters)
		}
		eventually(t, "the last flows have spoken", 20*time.Second, func() bool {
			select {
			case err := <-results:
				flows--
				t.Fatalf("a flow ended: %v", err)
			default:
			}
			return exchangesDone(quiet)
		})
		time.AfterFunc(3*time.Second, func() { close(stop) })
		for range flows {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

// exchangesDone tells whether a flow that was silent through all of it still works.
func exchangesDone(c net.Conn) bool {
	if _, err := c.Write([]byte("x")); err != nil {
		return false
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return false
	}
	var b [1]byte
	_, err := io.ReadFull(c, b[:])
	return !errors.Is(err, io.EOF) && err == nil
}
