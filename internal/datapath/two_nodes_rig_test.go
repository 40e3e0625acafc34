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

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
)

// twoNodes is two nodes on one router, each with a datapath of its own, one ENI and two pods, with real
// sockets in both families.
type twoNodes struct {
	router space
	nodes  [2]*wiredNode
	six    bool // the kernel has IPv6
	device podDevice
}

type wiredNode struct {
	space
	d     *Datapath
	eni   ENI
	addrs [2]netip.Addr // IPv4, IPv6
	pods  [2]wiredPod
}

type wiredPod struct {
	space
	Endpoint
}

func (p wiredPod) addr(family int) netip.Addr { return []netip.Addr{p.Addr, p.Addr6}[family] }

var worldAddrs = [2]string{worldAddr, "2600::80"}

func newTwoNodes(t testing.TB, v variant) *twoNodes {
	t.Helper()
	asShipped(t)
	_, err := os.Stat("/proc/sys/net/ipv6")
	w := &twoNodes{router: newSpace(t), six: err == nil, device: v.device}
	w.router.do(t, func() error {
		return errors.Join(w.forwarding(), w.addAddresses("lo", routerAddr, worldAddrs[0], worldAddrs[1]))
	})
	for i := range w.nodes {
		w.nodes[i] = w.addNode(t, i, v.attach)
	}
	for _, n := range w.nodes {
		for family, next := range []netip.Addr{n.eni.NextHop, n.eni.NextHop6} {
			if family == 1 && !w.six {
				continue
			}
			wait(t, "the router is resolved", func() bool { return n.resolved(next) })
		}
	}
	return w
}

// families are the indexes of those that the kernel has.
func (w *twoNodes) families() map[string]int {
	if w.six {
		return map[string]int{"IPv4": 0, "IPv6": 1}
	}
	return map[string]int{"IPv4": 0}
}

func (w *twoNodes) forwarding() error {
	values := map[string]string{"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0"}
	if w.six {
		values["ipv6/conf/all/forwarding"], values["ipv6/conf/default/accept_dad"] = "1", "0"
	}
	return sysctls(values)
}

// addAddresses leaves out those of a family that the kernel lacks.
func (w *twoNodes) addAddresses(device string, list ...string) error {
	var errs []error
	for _, text := range list {
		a := netip.MustParseAddr(text)
		if a.Is6() && !w.six {
			continue
		}
		l, err := netlink.LinkByName(device)
		if err != nil {
			return fmt.Errorf("%s: %w", device, err)
		}
		errs = append(errs, netlink.AddrAdd(l, &netlink.Addr{IPNet: hostNet(a), Flags: unix.IFA_F_NODAD}))
	}
	return errors.Join(errs...)
}

func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

func anyNet(six bool) *net.IPNet {
	if six {
		return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	return everywhere()
}

// addRoutes routes addresses to a device, by a neighbour with this MAC if it is given.
func (w *twoNodes) addRoutes(ifindex int, m net.HardwareAddr, list ...netip.Addr) error {
	var errs []error
	for _, a := range list {
		if a.Is6() && !w.six {
			continue
		}
		errs = append(errs, addRoute(netlink.Route{LinkIndex: ifindex, Dst: hostNet(a), Scope: netlink.SCOPE_LINK}))
		if m != nil {
			errs = append(errs, addNeighbour(ifindex, a.String(), m))
		}
	}
	return errors.Join(errs...)
}

func (w *twoNodes) addNode(t testing.TB, i int, attach AttachMode) *wiredNode {
	t.Helper()
	n := &wiredNode{space: newSpace(t)}
	n.addrs = [2]netip.Addr{netip.MustParseAddr(fmt.Sprintf("192.168.%d.5", i+1)), netip.MustParseAddr(fmt.Sprintf("2001:db8:1:%d::5", i+1))}
	n.eni = ENI{Handle: 1, Ifindex: 101, MAC: mac(fmt.Sprintf("02:00:00:00:00:%02x", i+1)), NextHop: netip.MustParseAddr(routerAddr),
		Masquerade: n.addrs[0], MasqueradeENI: 1}
	if w.six {
		n.eni.NextHop6 = netip.MustParseAddr("fe80::ff")
	}
	wire := fmt.Sprintf("node%d", i+1)
	n.do(t, func() error {
		return errors.Join(w.forwarding(), addVeth("eni", 101, n.eni.MAC, "wire", mac(fmt.Sprintf("0e:00:00:00:00:%02x", i+1))),
			moveTo("wire", w.router, wire), linkUp("eni"), w.addAddresses("eni", n.addrs[0].String(), n.addrs[1].String()))
	})
	w.router.do(t, func() error {
		l, err := netlink.LinkByName(wire)
		if err != nil {
			return err
		}
		// The ENIs' link-local address is what neighbours are asked from.
		return errors.Join(netlink.LinkSetUp(l), w.addAddresses(wire, "fe80::ff"), w.addRoutes(l.Attrs().Index, n.eni.MAC, n.addrs[:]...))
	})
	n.do(t, func() error {
		err := addRoute(netlink.Route{LinkIndex: 101, Gw: net.ParseIP(routerAddr), Dst: everywhere(), Flags: int(netlink.FLAG_ONLINK), Src: n.addrs[0].AsSlice()})
		if w.six {
			err = errors.Join(err, addRoute(netlink.Route{LinkIndex: 101, Gw: net.ParseIP("fe80::ff"), Dst: anyNet(true), Src: n.addrs[1].AsSlice()}))
		}
		return err
	})
	cfg := testConfig(t)
	cfg.PinDir += fmt.Sprintf("-%d", i)
	cfg.Attach = attach
	cfg.Sizes = Sizes{ConntrackTCP: 4096, ConntrackAny: 4096}
	cfg.Settings = DefaultSettings()
	cfg.Settings.IPv6, cfg.Settings.Masquerade = w.six, true
	cfg.Settings.NodeAddr = n.addrs[0]
	if w.six {
		cfg.Settings.NodeAddr6 = n.addrs[1]
	}
	n.do(t, func() (err error) {
		if n.d, err = Open(cfg); err != nil {
			return err
		}
		err = errors.Join(n.d.SetAddress(n.addrs[0], 1), n.d.SetAddress(n.addrs[1], 1), n.d.SetENI(n.eni))
		return errors.Join(err, n.d.SetPrefixes(map[netip.Prefix]PrefixInfo{
			netip.MustParsePrefix("192.168.0.0/16"): {Native: true}, netip.MustParsePrefix("2001:db8:1::/48"): {Native: true},
			netip.MustParsePrefix("10.100.0.0/16"): {Stack: true}, netip.MustParsePrefix("fd12::/64"): {Stack: true},
		}))
	})
	t.Cleanup(func() { n.d.Close() })
	for p := range n.pods {
		n.pods[p] = w.addPod(t, n, i, p)
	}
	return n
}

func (w *twoNodes) addPod(t testing.TB, n *wiredNode, i, p int) wiredPod {
	t.Helper()
	pod := wiredPod{space: newSpace(t), Endpoint: endpointFor(uint32(p+1), fmt.Sprintf("192.168.%d.%d", i+1, 10+p), 1)}
	pod.Addr6 = netip.MustParseAddr(fmt.Sprintf("2001:db8:1:%d::1%d", i+1, p))
	name := fmt.Sprintf("pod%d", p)
	n.do(t, func() error {
		return errors.Join(w.device.pair(name, &pod.Endpoint, pod.space), linkUp(name),
			w.addRoutes(pod.Ifindex, pod.PodMAC, pod.Addr, pod.Addr6), n.d.SetAddress(pod.Addr, 1), n.d.AddEndpoint(pod.Endpoint))
	})
	pod.do(t, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		err = errors.Join(linkUp("eth0"), w.addAddresses("eth0", pod.Addr.String(), pod.Addr6.String()),
			addRoute(netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: contract.Gateway.AsSlice(), Dst: everywhere(), Flags: int(netlink.FLAG_ONLINK)}))
		if w.six {
			err = errors.Join(err, addRoute(netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: contract.Gateway6.AsSlice(), Dst: anyNet(true)}))
		}
		return err
	})
	w.router.do(t, func() error {
		l, err := netlink.LinkByName(fmt.Sprintf("node%d", i+1))
		if err != nil {
			return err
		}
		return w.addRoutes(l.Attrs().Index, n.eni.MAC, pod.Addr, pod.Addr6)
	})
	return pod
}

func (n *wiredNode) resolved(next netip.Addr) bool {
	found := false
	err := n.try(func() error {
		list, err := netlink.NeighList(n.eni.Ifindex, 0)
		for _, x := range list {
			a, _ := netip.AddrFromSlice(x.IP)
			found = found || a.Unmap() == next && x.State&(netlink.NUD_REACHABLE|netlink.NUD_STALE|netlink.NUD_DELAY|netlink.NUD_PROBE) != 0
		}
		return err
	})
	return err == nil && found
}

// serve answers TCP and UDP on a port of the namespace with what it gets.
func (s space) serve(t testing.TB, addr netip.Addr, port uint16) {
	t.Helper()
	at := netip.AddrPortFrom(addr, port).String()
	var l net.Listener
	s.do(t, func() (err error) {
		l, err = net.Listen("tcp", at)
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	s.echo(t, at)
}

// connect opens a connection from the namespace.
func (s space) connect(t testing.TB, network string, to netip.Addr, port uint16) net.Conn {
	t.Helper()
	var c net.Conn
	s.do(t, func() (err error) {
		d := net.Dialer{Timeout: patience}
		c, err = d.Dial(network, netip.AddrPortFrom(to, port).String())
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// counters of a node, read in its namespace.
func (n *wiredNode) counters(t testing.TB) map[Counter]uint64 { return readCounters(t, n.d) }

// dnat has the kernel translate what pods send to a service, as kube-proxy does.
func (n *wiredNode) dnat(t testing.TB, service, backend netip.Addr) {
	t.Helper()
	err := n.try(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		family, offset, size := nftables.TableFamilyIPv4, uint32(16), uint32(4)
		nf := uint32(unix.NFPROTO_IPV4)
		if service.Is6() {
			family, offset, size, nf = nftables.TableFamilyIPv6, 24, 16, unix.NFPROTO_IPV6
		}
		table := c.AddTable(&nftables.Table{Name: "services", Family: family})
		chain := c.AddChain(&nftables.Chain{Name: "prerouting", Table: table, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: service.AsSlice()},
			&expr.Immediate{Register: 1, Data: backend.AsSlice()},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: nf, RegAddrMin: 1, RegAddrMax: 1},
		}})
		return c.Flush()
	})
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EPROTONOSUPPORT) {
		t.Skipf("the kernel has no nftables with translation: %v", err)
	}
	must(t, err)
}
