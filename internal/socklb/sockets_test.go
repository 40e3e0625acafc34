package socklb

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"github.com/weft-cni/weft/internal/loadbalancer"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// A pod is a network namespace with backends on its loopback that say at which address they were reached, by
// TCP and by UDP, in both families.
type pod struct {
	nstest.Space
	backends [2][]netip.AddrPort // IPv4, IPv6
}

var frontends = [2]netip.Addr{netip.MustParseAddr("172.20.0.10"), netip.MustParseAddr("fd00:1::10")}

func newPod(t *testing.T) *pod {
	t.Helper()
	p := &pod{Space: nstest.New(t)}
	families := 1
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		families = 2
	}
	for family := range families {
		for i := range 3 {
			text := []string{fmt.Sprintf("10.0.0.%d/32", i+1), fmt.Sprintf("fd00:2::%d/128", i+1)}[family]
			p.add(t, netip.MustParsePrefix(text), family)
		}
	}
	return p
}

func (p *pod) add(t *testing.T, prefix netip.Prefix, family int) {
	t.Helper()
	at := netip.AddrPortFrom(prefix.Addr(), 8080)
	err := p.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}}
		if family == 1 {
			addr.Flags = syscall.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(lo, addr); err != nil {
			return fmt.Errorf("%s: %w", prefix, err)
		}
		return p.serve(t, at)
	})
	if err != nil {
		t.Fatal(err)
	}
	// The kernel makes the route to an IPv6 address some time after the address.
	nstest.Eventually(t, 30*time.Second, "the backend is reached by its own address", func() error {
		_, _, err := p.ask(at)
		return err
	})
	p.backends[family] = append(p.backends[family], at)
}

func (p *pod) serve(t *testing.T, at netip.AddrPort) error {
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		return err
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, at)
			c.Close()
		}
	}()
	u, err := net.ListenPacket("udp", at.String())
	if err != nil {
		return err
	}
	t.Cleanup(func() { u.Close() })
	go func() {
		buf := make([]byte, 100)
		for {
			_, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			if _, err := u.WriteTo([]byte(at.String()), from); err != nil {
				return
			}
		}
	}()
	return nil
}

// ask connects by TCP and returns who answered, and whom the socket says it is connected to.
func (p *pod) ask(to netip.AddrPort) (who, peer netip.AddrPort, err error) {
	err = p.Do(func() error {
		c, err := net.DialTimeout("tcp", to.String(), 10*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		peer = unmap(c.RemoteAddr().(*net.TCPAddr).AddrPort())
		raw, err := io.ReadAll(c)
		if err != nil {
			return err
		}
		who, err = netip.ParseAddrPort(string(raw[:max(len(raw)-1, 0)]))
		return err
	})
	return who, peer, err
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func at(family int, port uint16) netip.AddrPort { return netip.AddrPortFrom(frontends[family], port) }

func tcp(a netip.AddrPort) loadbalancer.Address {
	return loadbalancer.Address{AddrPort: a, Protocol: corev1.ProtocolTCP}
}

func udp(a netip.AddrPort) loadbalancer.Address {
	return loadbalancer.Address{AddrPort: a, Protocol: corev1.ProtocolUDP}
}

func open(t *testing.T, cfg Config) *Balancer {
	t.Helper()
	b, err := Open(cfg)
	if err != nil {
		t.Fatalf("open: %+v", err)
	}
	t.Cleanup(func() { b.Close() })
	if err := b.Freshen(time.Hour); err != nil {
		t.Fatal(err)
	}
	return b
}

// apply has one service with these frontends.
func apply(t *testing.T, b *Balancer, fs ...loadbalancer.Frontend) {
	t.Helper()
	if failed := b.Apply([]loadbalancer.Change{{Service: serviceName(1), Frontends: fs}}); len(failed) > 0 {
		t.Fatal(failed)
	}
}

// each runs the test in both families, IPv6 also with IPv4 addresses in its sockets.
func each(t *testing.T, p *pod, fn func(t *testing.T, family int)) {
	for family, name := range []string{"IPv4", "IPv6"} {
		t.Run(name, func(t *testing.T) {
			if len(p.backends[family]) == 0 {
				t.Skip("could not run: the kernel has no IPv6")
			}
			fn(t, family)
		})
	}
}

func TestConnectionsAreSpread(t *testing.T) {
	b, p := open(t, testConfig(t)), newPod(t)
	each(t, p, func(t *testing.T, family int) {
		apply(t, b, loadbalancer.Frontend{Address: tcp(at(family, 80)), Backends: p.backends[family]})
		seen := map[netip.AddrPort]int{}
		for range 60 {
			who, peer, err := p.ask(at(family, 80))
			if err != nil {
				t.Fatal(err)
			}
			if peer != at(family, 80) {
				t.Fatalf("the socket says that it is connected to %s, expected the service at %s", peer, at(family, 80))
			}
			seen[who]++
		}
		// That one of three isn't met in 60 times happens once in ten billion runs.
		if len(seen) != 3 {
			t.Errorf("met %v, expected each of %v", seen, p.backends[family])
		}
		apply(t, b, loadbalancer.Frontend{Address: tcp(at(family, 80)), Backends: p.backends[family][1:2]})
		for range 10 {
			if who, _, err := p.ask(at(family, 80)); err != nil || who != p.backends[family][1] {
				t.Fatalf("met %v (%v), expected the only backend %v", who, err, p.backends[family][1])
			}
		}
		apply(t, b)
		if who, _, err := p.ask(at(family, 80)); err == nil {
			t.Errorf("met %v at a service that is gone", who)
		}
	})
}

// An IPv6 socket that is given an IPv4 address.
func TestMappedAddress(t *testing.T) {
	b, p := open(t, testConfig(t)), newPod(t)
	if len(p.backends[1]) == 0 {
		t.Skip("could not run: the kernel has no IPv6")
	}
	apply(t, b, loadbalancer.Frontend{Address: tcp(at(0, 80)), Backends: p.backends[0][:1]})
	err := p.Do(func() error {
		fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		to := &syscall.SockaddrInet6{Port: 80, Addr: netip.AddrFrom16(frontends[0].As16()).As16()}
		if err := syscall.Connect(fd, to); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		name, err := syscall.Getpeername(fd)
		if err != nil {
			return err
		}
		if got := name.(*syscall.SockaddrInet6); got.Port != 80 || netip.AddrFrom16(got.Addr).Unmap() != frontends[0] {
			return fmt.Errorf("its peer is %v port %d, expected %v port 80", netip.AddrFrom16(got.Addr), got.Port, frontends[0])
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDatagrams(t *testing.T) {
	b, p := open(t, testConfig(t)), newPod(t)
	each(t, p, func(t *testing.T, family int) {
		apply(t, b,
			loadbalancer.Frontend{Address: udp(at(family, 53)), Backends: p.backends[family]},
			loadbalancer.Frontend{Address: udp(at(family, 54)), Backends: p.backends[family][:1]})
		seen := map[netip.AddrPort]int{}
		for range 60 {
			who, err := p.exchange(at(family, 53), at(family, 54))
			if err != nil {
				t.Fatal(err)
			}
			seen[who]++
		}
		if len(seen) != 3 {
			t.Errorf("met %v, expected each of %v", seen, p.backends[family])
		}
	})
}

// A socket that is connected keeps the service's address, for the stack to translate: by the backend's it would
// stay with one that is gone.
func TestConnectedDatagrams(t *testing.T) {
	b, p := open(t, testConfig(t)), newPod(t)
	each(t, p, func(t *testing.T, family int) {
		apply(t, b, loadbalancer.Frontend{Address: udp(at(family, 53)), Backends: p.backends[family]})
		var peer net.Addr
		err := p.Do(func() error {
			// A route, so that connecting succeeds.
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			all := &net.IPNet{IP: frontends[family].AsSlice(), Mask: net.CIDRMask(frontends[family].BitLen(), frontends[family].BitLen())}
			if err := netlink.RouteReplace(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: all}); err != nil {
				return err
			}
			c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at(family, 53)))
			if err != nil {
				return err
			}
			peer = c.RemoteAddr()
			return c.Close()
		})
		if err != nil || unmap(peer.(*net.UDPAddr).AddrPort()) != at(family, 53) {
			t.Errorf("connected to %v (%v), expected the service at %v", peer, err, at(family, 53))
		}
		if s, err := b.Stats(); err != nil || s.Outcomes["translated"] > 0 {
			t.Errorf("statistics %+v, %v; expected nothing translated", s, err)
		}
	})
}

// exchange sends several datagrams from one socket, to another service in between, and expects every answer from
// the service's address and from the same backend.
func (p *pod) exchange(to, other netip.AddrPort) (who netip.AddrPort, err error) {
	err = p.Do(func() error {
		network := "udp4"
		if to.Addr().Is6() {
			network = "udp6"
		}
		c, err := net.ListenUDP(network, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		for i := range 3 {
			if _, err := askDatagram(c, other); err != nil {
				return err
			}
			got, err := askDatagram(c, to)
			if err != nil {
				return err
			}
			if i > 0 && got != who {
				return fmt.Errorf("datagram %d met %s, those before %s: a socket stays with its backend", i, got, who)
			}
			who = got
		}
		return nil
	})
	return who, err
}

func askDatagram(c *net.UDPConn, to netip.AddrPort) (netip.AddrPort, error) {
	if _, err := c.WriteToUDPAddrPort([]byte("?"), to); err != nil {
		return netip.AddrPort{}, err
	}
	buf := make([]byte, 100)
	n, from, err := c.ReadFromUDPAddrPort(buf)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if unmap(from) != to {
		return netip.AddrPort{}, fmt.Errorf("the answer is from %s, expected the service's address %s", from, to)
	}
	return netip.ParseAddrPort(string(buf[:n]))
}

// A backend that goes is left by the next datagram.
func TestDatagramsLeaveABackendThatIsGone(t *testing.T) {
	b, p := open(t, testConfig(t)), newPod(t)
	each(t, p, func(t *testing.T, family int) {
		f := loadbalancer.Frontend{Address: udp(at(family, 53)), Backends: p.backends[family][:1]}
		apply(t, b, f)
		err := p.Do(func() error {
			c, err := net.ListenUDP("udp", nil)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return err
			}
			for i := range 3 {
				f.Backends = p.backends[family][i : i+1]
				apply(t, b, f)
				if who, err := askDatagram(c, at(family, 53)); err != nil || who != f.Backends[0] {
					return fmt.Errorf("met %v (%w), expected %v", who, err, f.Backends[0])
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestNobodyThere(t *testing.T) {
	b, p := open(t, testConfig(t)), newPod(t)
	each(t, p, func(t *testing.T, family int) {
		apply(t, b, loadbalancer.Frontend{Address: tcp(at(family, 80)), Refuse: true})
		_, _, err := p.ask(at(family, 80))
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a service without backends: %v, expected that the connection is refused", err)
		}
		stats, err := b.Stats()
		if err != nil || stats.Outcomes["refused"] == 0 {
			t.Errorf("statistics %+v, %v; expected a refusal", stats, err)
		}
	})
}

func TestAffinity(t *testing.T) {
	b, p := open(t, testConfig(t)), newPod(t)
	each(t, p, func(t *testing.T, family int) {
		f := loadbalancer.Frontend{Address: tcp(at(family, 80)), Backends: p.backends[family], Affinity: time.Hour}
		apply(t, b, f)
		first, _, err := p.ask(at(family, 80))
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if who, _, err := p.ask(at(family, 80)); err != nil || who != first {
				t.Fatalf("met %v (%v), expected %v again", who, err, first)
			}
		}
		f.Backends = slices.DeleteFunc(slices.Clone(f.Backends), func(a netip.AddrPort) bool { return a == first })
		apply(t, b, f)
		second, _, err := p.ask(at(family, 80))
		if err != nil || second == first {
			t.Fatalf("met %v (%v) after it was taken away", second, err)
		}
		f.Backends = p.backends[family]
		apply(t, b, f)
		for range 20 {
			if who, _, err := p.ask(at(family, 80)); err != nil || who != second {
				t.Fatalf("met %v (%v), expected %v", who, err, second)
			}
		}
	})
}

// The node's own sockets are left alone, unless weft does kube-proxy's work.
func TestHost(t *testing.T) {
	cfg := testConfig(t)
	p := newPod(t)
	var b *Balancer
	err := p.Do(func() (err error) { b, err = Open(cfg); return err })
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Freshen(time.Hour); err != nil {
		t.Fatal(err)
	}
	apply(t, b, loadbalancer.Frontend{Address: tcp(at(0, 80)), Refuse: true})
	if _, _, err := p.ask(at(0, 80)); err == nil || errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a socket of the node: %v, expected that it is left to the stack, which has no route", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.HostToo = true
	if err := p.Do(func() (err error) { b, err = Open(cfg); return err }); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, _, err := p.ask(at(0, 80)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a socket of the node: %v, expected that the connection is refused", err)
	}
}

// Without an agent all goes on; the next one takes over what is there, and removes what no service has.
func TestRestart(t *testing.T) {
	cfg, p := testConfig(t), newPod(t)
	b := open(t, cfg)
	other := loadbalancer.Frontend{Address: udp(at(0, 53)), Backends: p.backends[0]}
	kept := loadbalancer.Frontend{Address: tcp(at(0, 80)), Backends: p.backends[0][:2]}
	apply(t, b, kept, other)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if who, _, err := p.ask(at(0, 80)); err != nil || !slices.Contains(kept.Backends, who) {
		t.Fatalf("without an agent: met %v (%v)", who, err)
	}
	b = open(t, cfg)
	if _, _, err := p.ask(at(0, 80)); err != nil {
		t.Fatal("before the new agent knows anything:", err)
	}
	kept.Backends = p.backends[0][1:]
	apply(t, b, kept)
	if err := b.Prune(); err != nil {
		t.Fatal(err)
	}
	seen := map[netip.AddrPort]bool{}
	for range 60 {
		who, _, err := p.ask(at(0, 80))
		if err != nil {
			t.Fatal(err)
		}
		seen[who] = true
	}
	if len(seen) != 2 || seen[p.backends[0][0]] {
		t.Errorf("met %v, expected %v", seen, kept.Backends)
	}
	stats, err := b.Stats()
	if err != nil || stats.Frontends != 1 || stats.Backends != 2 {
		t.Errorf("statistics %+v, %v; expected 1 frontend with 2 backends", stats, err)
	}
	if n := count(t, b); n != [3]int{1, 2, 0} {
		t.Errorf("frontends, slots and members in the maps are %v, expected 1, 2, 0", n)
	}
}

// Tables that nobody looks after any more are left for kube-proxy, which knows better; where weft does its work
// there is nobody else.
func TestStale(t *testing.T) {
	cfg, p := testConfig(t), newPod(t)
	for _, hostToo := range []bool{false, true} {
		cfg.HostToo = hostToo
		b := open(t, cfg)
		apply(t, b, loadbalancer.Frontend{Address: tcp(at(0, 80)), Backends: p.backends[0]})
		if _, _, err := p.ask(at(0, 80)); err != nil {
			t.Fatal(err)
		}
		if err := b.Freshen(-time.Second); err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.ask(at(0, 80)); (err == nil) != hostToo {
			t.Errorf("in kube-proxy's place: %v, with stale tables: %v", hostToo, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// count what is in the maps themselves.
func count(t *testing.T, b *Balancer) (n [3]int) {
	t.Helper()
	var fk keyValue
	var fv frontendValue
	for it := b.maps.frontends.Iterate(); it.Next(&fk, &fv); n[0]++ {
	}
	var sk slotKey
	var bv backendValue
	for it := b.maps.backends.Iterate(); it.Next(&sk, &bv); n[1]++ {
	}
	var mk memberKey
	var one uint32
	for it := b.maps.members.Iterate(); it.Next(&mk, &one); n[2]++ {
	}
	return n
}
