package datapath

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
)

const (
	nodeAddr6   = "fd00:20::5"
	node2Addr6  = "fd00:20::6"
	podAddr6    = "fd00:20::10"
	otherAddr6  = "fd00:20::11"
	routerAddr6 = "fd00:20::1"
	worldHost6  = "2001:db8:80::80"
)

func host128(addr string) *net.IPNet {
	return &net.IPNet{IP: net.ParseIP(addr), Mask: net.CIDRMask(128, 128)}
}

// addAddress6 adds an address that is usable at once.
func addAddress6(name, addr string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	const noDAD = 0x02
	a.Flags = noDAD
	return netlink.AddrAdd(l, a)
}

// speak6 gives the node, its router and the world IPv6 beside IPv4.
func (n *natNode) speak6(t testing.TB) {
	t.Helper()
	on := map[string]string{"ipv6/conf/all/forwarding": "1"}
	must(t, sysctls(on))
	must(t, addAddress6("eni1", nodeAddr6+"/128"))
	must(t, addAddress6("eni2", node2Addr6+"/128"))
	n.router.do(t, func() error {
		return errors.Join(sysctls(on),
			addAddress6("reni1", routerAddr6+"/128"), addAddress6("reni2", routerAddr6+"/128"),
			addAddress6("down", "fd00:99::1/64"),
			addRoute(netlink.Route{LinkIndex: index("down"), Dst: host128(worldHost6), Gw: net.ParseIP("fd00:99::2")}))
	})
	n.world.do(t, func() error {
		return errors.Join(
			addAddress6("up", "fd00:99::2/64"), addAddress6("lo", worldHost6+"/128"),
			addRoute(netlink.Route{LinkIndex: index("up"), Dst: everywhere6(), Gw: net.ParseIP("fd00:99::1"), AdvMSS: 1440}))
	})
	n.own6(t, nodeAddr6, 0)
	n.own6(t, node2Addr6, 1)
	must(t, addRoute(netlink.Route{LinkIndex: 101, Dst: host128(routerAddr6)}))
	must(t, addRoute(netlink.Route{LinkIndex: 101, Dst: everywhere6(), Gw: net.ParseIP(routerAddr6)}))
	s := n.d.Settings()
	s.IPv6 = true
	n.cfg.Settings = s
	must(t, n.d.Configure(s))
	for i, a := range []string{nodeAddr6, node2Addr6} {
		must(t, n.d.SetAddress(netip.MustParseAddr(a), uint32(i+1)))
	}
	for i := range n.enis {
		n.enis[i].NextHop6, n.enis[i].Masquerade6 = netip.MustParseAddr(routerAddr6), netip.MustParseAddr(nodeAddr6)
		must(t, n.d.SetENI(n.enis[i]))
	}
	for _, e := range n.enis {
		wait(t, "the router is resolved for IPv6", func() bool {
			list, err := netlink.NeighList(e.Ifindex, netlink.FAMILY_V6)
			if err != nil {
				return false
			}
			for _, x := range list {
				if x.IP.String() == routerAddr6 && x.State&(netlink.NUD_REACHABLE|netlink.NUD_STALE|netlink.NUD_DELAY|netlink.NUD_PROBE) != 0 {
					return true
				}
			}
			return false
		})
	}
}

// own6 makes the router deliver an address by one of the node's ENIs.
func (n *natNode) own6(t testing.TB, addr string, eni int) {
	t.Helper()
	n.router.do(t, func() error {
		far := index([]string{"reni1", "reni2"}[eni])
		return errors.Join(addRoute(netlink.Route{LinkIndex: far, Dst: host128(addr)}), addNeighbour(far, addr, n.enis[eni].MAC))
	})
}

// addPod6 makes a pod that speaks both families.
func (n *natNode) addPod6(t testing.TB, slot uint32, addr, addr6 string) *pod {
	t.Helper()
	p := n.addPod(t, slot, addr)
	p.Addr6 = netip.MustParseAddr(addr6)
	p.do(t, func() error {
		return errors.Join(
			sysctls(map[string]string{"ipv6/conf/all/disable_ipv6": "0", "ipv6/conf/eth0/disable_ipv6": "0"}),
			addAddress6("eth0", addr6+"/128"),
			addRoute(netlink.Route{LinkIndex: index("eth0"), Dst: &net.IPNet{IP: contract.Gateway6.AsSlice(), Mask: net.CIDRMask(128, 128)}, Scope: netlink.SCOPE_LINK}),
			addRoute(netlink.Route{LinkIndex: index("eth0"), Gw: contract.Gateway6.AsSlice(), Dst: everywhere6(), Flags: int(netlink.FLAG_ONLINK)}))
	})
	must(t, addRoute(netlink.Route{LinkIndex: p.Ifindex, Dst: host128(addr6)}))
	n.own6(t, addr6, 1)
	must(t, n.d.SetAddress(p.Addr6, 2))
	must(t, n.d.AddEndpoint(p.Endpoint))
	return p
}

// TestNATTraffic and TestNATPathMTU for IPv6.
func TestNATTraffic6(t *testing.T) {
	forEachNATVariant(t, [2]uint16{2000, 2999}, func(t *testing.T, n *natNode) {
		n.speak6(t)
		pods := []*pod{n.addPod6(t, 1, podAddr, podAddr6), n.addPod6(t, 2, otherAddr, otherAddr6)}
		server := net.JoinHostPort(worldHost6, "53")
		for _, network := range []string{"tcp6", "udp6"} {
			n.world.witness(t, network, server)
			for _, port := range []int{0, 2500, 40000} {
				ports := map[uint16]bool{}
				for _, p := range pods {
					c, err := p.dialFrom(t, network, port, server)
					if err != nil {
						t.Fatalf("%s from port %d of %s: %v; counted: %v", network, port, p.name, err, readCounters(t, n.d))
					}
					from, err := seen(c)
					if err != nil {
						t.Fatalf("%s from port %d of %s: %v", network, port, p.name, err)
					}
					if from.Addr().String() != nodeAddr6 || from.Port() < 2000 || from.Port() > 2999 {
						t.Fatalf("%s from port %d of %s is seen as %s, expected %s and a port of 2000-2999", network, port, p.name, from, nodeAddr6)
					}
					ports[from.Port()] = true
				}
				if len(ports) != 2 {
					t.Errorf("%s: two pods with port %d are seen with the ports %v", network, port, ports)
				}
			}
		}
		n.transfer6(t, pods[0])
		// A closed port of the world refuses, by an error that is translated.
		c, err := pods[0].dialFrom(t, "udp6", 0, net.JoinHostPort(worldHost6, "9"))
		must(t, err)
		if err := exchange(c, "?", patience); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a closed port of the world: %v", err)
		}
	})
}

// transfer6 needs the router's word about the small link.
func (n *natNode) transfer6(t *testing.T, p *pod) {
	t.Helper()
	var l net.Listener
	n.world.do(t, func() (err error) {
		l, err = net.Listen("tcp6", net.JoinHostPort(worldHost6, "80"))
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
	c, err := p.dialFrom(t, "tcp6", 0, l.Addr().String())
	must(t, err)
	must(t, c.SetDeadline(time.Now().Add(patience)))
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	_, err = c.Write(data)
	must(t, err)
	must(t, c.(*net.TCPConn).CloseWrite())
	want := sha256.Sum256(data)
	if got := <-sum; !bytes.Equal(got, want[:]) {
		t.Errorf("the transfer didn't arrive, or not as it was sent; counted: %v", readCounters(t, n.d))
	}
	mtu := 0
	p.do(t, func() error {
		routes, err := netlink.RouteGet(net.ParseIP(worldHost6))
		for _, r := range routes {
			mtu = max(mtu, r.MTU)
		}
		return err
	})
	if mtu != worldMTU {
		t.Errorf("the pod knows a path MTU of %d, expected %d: the error didn't reach it", mtu, worldMTU)
	}
}
