package datapath

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/datapath/matrix"
)

// A vpc is two nodes, each with a datapath of its own, and what is around them, in one namespace each. Its
// router delivers an address by the ENI that owns it and accepts a source from there only.
type vpc struct {
	router  space
	device  podDevice
	nodes   map[matrix.Node]*matrixNode
	parties map[matrix.Party]party
}

// A party sends and answers.
type party struct {
	space
	addr, addr6 netip.Addr
}

func (p party) in(six bool) netip.Addr {
	if six {
		return p.addr6
	}
	return p.addr
}

// sixth is an address of the other family for one of IPv4, in a range that says what it is: 2001:db8:1::/48
// is the VPC's.
func sixth(a netip.Addr) netip.Addr {
	net := [6]byte{0x20, 0x01, 0x0d, 0xb8, 0, 9}
	if a.Is4() && a.As4()[0] == 192 {
		net[5] = 1
	}
	b := [16]byte{}
	copy(b[:], net[:])
	copy(b[12:], a.AsSlice())
	return netip.AddrFrom16(b)
}

type matrixNode struct {
	name      matrix.Node
	host      space
	d         *Datapath
	enis      []ENI
	addrs     [2]netip.Addr // each with its sixth
	mu        sync.Mutex
	events    []Event
	malformed int
}

const (
	controlAddr  = "192.168.3.3"
	metadataAddr = "169.254.169.254"
	router6      = "fe80::ff"
)

// plain is a namespace that forwards and finds its addresses unique without waiting.
func plain() map[string]string {
	return map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv6/conf/all/accept_dad": "0", "ipv6/conf/default/accept_dad": "0",
		"ipv4/conf/all/send_redirects": "0", "ipv4/conf/default/send_redirects": "0"}
}

func sourceCheck(value string) map[string]string {
	return map[string]string{"ipv4/conf/all/rp_filter": value, "ipv4/conf/default/rp_filter": value}
}

// addBoth adds an address and its sixth, which is taken for unique at once: routes can name it.
func addBoth(device, addr string) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("%s: %w", device, err)
	}
	six, err := netlink.ParseAddr(sixth(netip.MustParseAddr(addr)).String() + "/128")
	if err != nil {
		return err
	}
	six.Flags = unix.IFA_F_NODAD
	return errors.Join(addAddress(device, addr+"/32"), netlink.AddrAdd(l, six))
}

// routeBoth makes an address and its sixth reachable on a device.
func routeBoth(ifindex int, addr netip.Addr) error {
	var errs []error
	for _, a := range []netip.Addr{addr, sixth(addr)} {
		errs = append(errs, addRoute(netlink.Route{LinkIndex: ifindex, Dst: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}, Scope: netlink.SCOPE_LINK}))
	}
	return errors.Join(errs...)
}

func everywhere6() *net.IPNet { return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)} }

func newVPC(t *testing.T, device podDevice) *vpc {
	t.Helper()
	asShipped(t)
	v := &vpc{router: newSpace(t), device: device, nodes: map[matrix.Node]*matrixNode{}, parties: map[matrix.Party]party{}}
	v.router.do(t, func() error {
		errs := []error{sysctls(plain()), sysctls(sourceCheck("1"))}
		for _, a := range []string{routerAddr, controlAddr, worldAddr, metadataAddr} {
			errs = append(errs, addBoth("lo", a))
		}
		return errors.Join(errs...)
	})
	v.addNode(t, matrix.Here, nodeAddr, node2Addr)
	v.addNode(t, matrix.Peer, "192.168.2.5", "192.168.2.6")
	v.addPod(t, matrix.Here, matrix.Pod, 1, podAddr)
	v.addPod(t, matrix.Here, matrix.OtherPod, 2, otherAddr)
	v.addPod(t, matrix.Peer, matrix.RemotePod, 1, "192.168.2.10")
	v.parties[matrix.Host] = partyOf(v.nodes[matrix.Here].host, nodeAddr)
	v.parties[matrix.RemoteNode] = partyOf(v.nodes[matrix.Peer].host, v.nodes[matrix.Peer].addrs[0].String())
	v.parties[matrix.ControlPlane] = partyOf(v.router, controlAddr)
	v.parties[matrix.World] = partyOf(v.router, worldAddr)
	v.parties[matrix.Metadata] = partyOf(v.router, metadataAddr)
	for name, p := range v.parties {
		wait(t, string(name)+" has its addresses", p.ready)
	}
	return v
}

func partyOf(s space, addr string) party {
	a := netip.MustParseAddr(addr)
	return party{space: s, addr: a, addr6: sixth(a)}
}

func (v *vpc) addNode(t *testing.T, name matrix.Node, first, second string) {
	t.Helper()
	n := &matrixNode{name: name, host: newSpace(t), addrs: [2]netip.Addr{netip.MustParseAddr(first), netip.MustParseAddr(second)}}
	v.nodes[name] = n
	letter := string(name)[:1]
	next := netip.MustParseAddr(routerAddr)
	n.host.do(t, func() error {
		return errors.Join(sysctls(plain()), sysctls(sourceCheck("0")))
	})
	for i, addr := range n.addrs {
		m, wire := mac(fmt.Sprintf("02:00:00:00:%02x:%02x", letter[0], i+1)), mac(fmt.Sprintf("0e:00:00:00:%02x:%02x", letter[0], i+1))
		device := fmt.Sprintf("%s%d", letter, i+1)
		n.host.do(t, func() error {
			return errors.Join(
				addVeth(fmt.Sprintf("eni%d", i+1), 101+i, m, "wire", wire), moveTo("wire", v.router, device),
				linkUp(fmt.Sprintf("eni%d", i+1)), addBoth(fmt.Sprintf("eni%d", i+1), addr.String()),
				// What nobody else answers for: the neighbours are known on both ends.
				addNeighbour(101+i, routerAddr, wire), addNeighbour(101+i, router6, wire),
			)
		})
		v.router.do(t, func() error { return linkUp(device) })
		n.enis = append(n.enis, ENI{Handle: uint32(i + 1), Ifindex: 101 + i, MAC: m, NextHop: next, NextHop6: netip.MustParseAddr(router6),
			Masquerade: n.addrs[0], Masquerade6: sixth(n.addrs[0]), MasqueradeENI: 1})
		v.own(t, n, i, addr)
	}
	cfg := testConfig(t)
	cfg.PinDir = strings.Replace(cfg.PinDir, "/v1", "-"+string(name)+"/v1", 1)
	cfg.Settings = DefaultSettings()
	cfg.Settings.IPv6, cfg.Settings.Masquerade, cfg.Settings.EventsPerSecond = true, true, 1<<20
	cfg.Settings.NodeAddr, cfg.Settings.NodeAddr6 = n.addrs[0], sixth(n.addrs[0])
	n.host.do(t, func() (err error) {
		err = errors.Join(
			addRoute(netlink.Route{LinkIndex: 101, Gw: net.ParseIP(routerAddr), Dst: everywhere(), Flags: int(netlink.FLAG_ONLINK), Src: n.addrs[0].AsSlice()}),
			addRoute(netlink.Route{LinkIndex: 101, Gw: net.ParseIP(router6), Dst: everywhere6(), Flags: int(netlink.FLAG_ONLINK), Src: sixth(n.addrs[0]).AsSlice()}),
		)
		if err == nil {
			n.d, err = Open(cfg)
		}
		return err
	})
	t.Cleanup(func() { n.d.Close() })
	n.host.do(t, func() error {
		return errors.Join(
			n.d.SetAddress(n.addrs[0], 1), n.d.SetAddress(n.addrs[1], 2),
			n.d.SetAddress(sixth(n.addrs[0]), 1), n.d.SetAddress(sixth(n.addrs[1]), 2), n.d.SetENI(n.enis[0]), n.d.SetENI(n.enis[1]),
			n.d.SetPrefixes(map[netip.Prefix]PrefixInfo{netip.MustParsePrefix("192.168.0.0/16"): {Native: true}, netip.MustParsePrefix("2001:db8:1::/48"): {Native: true}, netip.MustParsePrefix("10.96.0.0/12"): {Stack: true}}),
			n.d.SetWatch(Watch{Trace: true}),
		)
	})
}

// own makes the router deliver an address by an ENI.
func (v *vpc) own(t *testing.T, n *matrixNode, eni int, addr netip.Addr) {
	t.Helper()
	v.router.do(t, func() error {
		l, err := netlink.LinkByName(fmt.Sprintf("%s%d", string(n.name)[:1], eni+1))
		if err != nil {
			return err
		}
		return errors.Join(
			routeBoth(l.Attrs().Index, addr),
			addNeighbour(l.Attrs().Index, addr.String(), n.enis[eni].MAC), addNeighbour(l.Attrs().Index, sixth(addr).String(), n.enis[eni].MAC),
		)
	})
}

func (v *vpc) addPod(t *testing.T, where matrix.Node, name matrix.Party, slot uint32, addr string) {
	t.Helper()
	n := v.nodes[where]
	s, ep := newSpace(t), endpointFor(slot, addr, 2)
	ep.Addr6 = sixth(ep.Addr)
	device := fmt.Sprintf("pod%d", slot)
	n.host.do(t, func() error {
		return errors.Join(
			v.device.pair(device, &ep, s), linkUp(device),
			routeBoth(ep.Ifindex, ep.Addr),
			n.d.SetAddress(ep.Addr, 2), n.d.SetAddress(ep.Addr6, 2), n.d.AddEndpoint(ep),
		)
	})
	s.do(t, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return errors.Join(
			sysctls(map[string]string{"ipv6/conf/all/accept_dad": "0", "ipv6/conf/eth0/accept_dad": "0"}), linkUp("eth0"), addBoth("eth0", addr),
			addRoute(netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: contract.Gateway6.AsSlice(), Dst: everywhere6(), Flags: int(netlink.FLAG_ONLINK)}),
			addRoute(netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: contract.Gateway.AsSlice(), Dst: everywhere(), Flags: int(netlink.FLAG_ONLINK)}),
		)
	})
	v.own(t, n, 1, ep.Addr)
	v.parties[name] = partyOf(s, addr)
}

// backend is who answers for a service.
func (v *vpc) backend(name matrix.Party) netip.Addr { return v.parties[name].addr }

// proxy has the kernel translate services, as kube-proxy does: those of the cluster by address, node ports
// by port, and the source of what would come back another way.
func (v *vpc) proxy(t *testing.T) {
	t.Helper()
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("no nft here to stand for kube-proxy")
	}
	for _, n := range v.nodes {
		var services strings.Builder
		for _, s := range matrix.Services() {
			if s.Weft {
				continue
			}
			mark := ""
			if s.Masquerade {
				mark = "meta mark set meta mark or 0x4000 "
			}
			where := "ip daddr " + s.Addr
			if s.NodePort {
				where = "ip daddr " + n.addrs[0].String()
			}
			fmt.Fprintf(&services, "%s udp dport %d %sdnat to %s:7\n", where, s.Port, mark, v.backend(s.Backend))
		}
		rules := "table ip proxy {\nchain services {\n" + services.String() + "}\n" +
			"chain prerouting { type nat hook prerouting priority dstnat; jump services; }\n" +
			"chain output { type nat hook output priority -100; jump services; }\n" +
			"chain postrouting { type nat hook postrouting priority srcnat; meta mark and 0x4000 == 0x4000 meta mark set meta mark xor 0x4000 masquerade; }\n}\n"
		n.host.do(t, func() error {
			cmd := exec.Command(nft, "-f", "-")
			cmd.Stdin = strings.NewReader(rules)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("nft: %w: %s\n%s", err, out, rules)
			}
			return nil
		})
	}
}

// balance has weft's programs translate its services.
func (v *vpc) balance(t *testing.T) {
	t.Helper()
	d, set := v.nodes[matrix.Here].d, uint32(1)
	for _, s := range matrix.Services() {
		if !s.Weft {
			continue
		}
		for family, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			one := testService{front: at(any, s.Port), protocol: unix.IPPROTO_UDP, flags: lbOutside, backends: []netip.AddrPort{at(v.parties[s.Backend].in(family == 1), 7)}}
			if !s.NodePort {
				one.front, one.flags = at(v.serviceAddr(s, family == 1), s.Port), 0
			}
			setServices(t, d, set, one)
			set++
		}
	}
	serveServices(t, d, lbHost|lbNorthSouth)
}

// serviceAddr is where a service is asked.
func (v *vpc) serviceAddr(s matrix.Service, six bool) netip.Addr {
	a := v.nodes[matrix.Here].addrs[0]
	if !s.NodePort {
		a = netip.MustParseAddr(s.Addr)
	}
	if six {
		return sixth(a)
	}
	return a
}

// watch collects the nodes' events until stop.
func (v *vpc) watch(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for _, n := range v.nodes {
		wait.Go(func() {
			if err := n.d.ReadEvents(ctx, n.take); err != nil {
				t.Errorf("events of %s: %v", n.name, err)
			}
		})
	}
	return func() { cancel(); wait.Wait() }
}

func (n *matrixNode) take(events []Event, bad int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.malformed += bad
	for _, e := range events {
		if e.Protocol == unix.IPPROTO_UDP && (e.Type == EventTrace || e.Type == EventDrop) {
			e.Data = nil
			n.events = append(n.events, e)
		}
	}
}

// A sighting is a packet of a cell at a hook.
type sighting struct {
	at    time.Duration
	reply bool
	step  matrix.Step
}

// seen is what the hooks saw of the packets with a port, in the order of time.
func (v *vpc) seen(port uint16) []sighting {
	var out []sighting
	for name, n := range v.nodes {
		n.mu.Lock()
		for _, e := range n.events {
			if e.Side[0].Port == port || e.Side[1].Port == port {
				out = append(out, sighting{at: e.Time, reply: e.Side[1].Port == port, step: matrix.Step{Node: name, Hook: e.Hook.String(), Outcome: e.Reason.String()}})
			}
		}
		n.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b sighting) int { return int(a.at - b.at) })
	return out
}

// ready says whether the party hears what is sent to it: its devices are up, which the kernel notices after
// a while, and its addresses are its own.
func (p party) ready() bool {
	return p.try(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			if a := l.Attrs(); a.Name != "lo" && a.Flags&net.FlagUp != 0 && a.OperState != netlink.OperUp {
				return fmt.Errorf("%s is %s", a.Name, a.OperState)
			}
		}
		for _, a := range []netip.Addr{p.addr, p.addr6} {
			routes, err := netlink.RouteGet(a.AsSlice())
			if err != nil {
				return err
			}
			if len(routes) == 0 || routes[0].Type != unix.RTN_LOCAL {
				return fmt.Errorf("%s isn't here", a)
			}
		}
		return nil
	}) == nil
}

// echoes answers UDP in both families.
func (p party) echoes(t *testing.T, port uint16) {
	t.Helper()
	for _, six := range []bool{false, true} {
		p.echo(t, netip.AddrPortFrom(p.in(six), port).String())
	}
}

// dialFrom makes a UDP socket with this source port.
func (p party) dialFrom(t *testing.T, port uint16, to netip.AddrPort) net.Conn {
	t.Helper()
	var c net.Conn
	p.do(t, func() (err error) {
		c, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.in(to.Addr().Is6()), port)), net.UDPAddrFromAddrPort(to))
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}
