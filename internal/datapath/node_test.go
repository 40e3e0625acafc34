package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
)

// A node is a node namespace with two ENIs on a router that checks sources, and pods on the second ENI.
// Its routes send everything by the first, so that only to_netdev can choose right.
type node struct {
	host, router space
	d            *Datapath
	cfg          Config
	enis         []ENI
	pods         []*pod
	device       podDevice // of pods that are added
}

type pod struct {
	space
	Endpoint
	name string
}

const routerAddr = "192.168.0.1"

func newNode(t testing.TB, attach AttachMode) *node {
	t.Helper()
	return newNodeOf(t, variant{attach: attach})
}

func newNodeOf(t testing.TB, v variant) *node {
	t.Helper()
	asShipped(t)
	n := &node{host: newSpace(t), router: newSpace(t), cfg: testConfig(t), device: v.device}
	n.cfg.Attach = v.attach
	n.host.enter(t)
	must(t, sysctls(map[string]string{"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0"}))
	for i, m := range []string{"02:00:00:00:00:01", "02:00:00:00:00:02"} {
		name := fmt.Sprintf("eni%d", i+1)
		must(t, addVeth(name, 101+i, mac(m), "wire", mac(fmt.Sprintf("0e:00:00:00:00:0%d", i+1))))
		must(t, moveTo("wire", n.router, "r"+name))
		must(t, linkUp(name))
		n.enis = append(n.enis, ENI{Handle: uint32(i + 1), Ifindex: 101 + i, MAC: mac(m), NextHop: netip.MustParseAddr(routerAddr)})
	}
	must(t, addAddress("eni1", nodeAddr+"/32"))
	must(t, addAddress("eni2", node2Addr+"/32")) // what ARP for the router is asked from
	must(t, addRoute(netlink.Route{LinkIndex: 101, Gw: net.ParseIP(routerAddr), Dst: everywhere(), Flags: int(netlink.FLAG_ONLINK), Src: net.ParseIP(nodeAddr)}))
	n.router.do(t, func() error {
		return errors.Join(
			// Strict: a source is accepted from the device that routes to it, as a VPC's source check.
			sysctls(map[string]string{"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "1", "ipv4/conf/default/rp_filter": "1"}),
			linkUp("reni1"), linkUp("reni2"),
			addAddress("lo", routerAddr+"/32"), addAddress("lo", farAddr+"/32"),
		)
	})
	n.own(t, nodeAddr, 0)
	n.own(t, node2Addr, 1)
	n.d = openDatapath(t, n.cfg)
	must(t, n.setAddresses())
	for _, e := range n.enis {
		must(t, n.d.SetENI(e))
	}
	n.waitForRouter(t)
	return n
}

// addresses are those of the ENIs themselves.
func (n *node) addresses() map[netip.Addr]uint32 {
	return map[netip.Addr]uint32{netip.MustParseAddr(nodeAddr): 1, netip.MustParseAddr(node2Addr): 2}
}

func (n *node) setAddresses() error {
	var errs []error
	for a, eni := range n.addresses() {
		errs = append(errs, n.d.SetAddress(a, eni))
	}
	return errors.Join(errs...)
}

// waitForRouter ends when SetENI's neighbours are resolved.
func (n *node) waitForRouter(t testing.TB) {
	t.Helper()
	for _, e := range n.enis {
		wait(t, "the router is resolved on every ENI", func() bool {
			list, err := netlink.NeighList(e.Ifindex, netlink.FAMILY_V4)
			if err != nil {
				return false
			}
			for _, x := range list {
				if x.IP.String() == routerAddr && x.State&(netlink.NUD_REACHABLE|netlink.NUD_STALE|netlink.NUD_DELAY|netlink.NUD_PROBE) != 0 {
					return true
				}
			}
			return false
		})
	}
}

// own makes the router deliver an address by one of the node's ENIs.
func (n *node) own(t testing.TB, addr string, eni int) {
	t.Helper()
	n.router.do(t, func() error {
		l, err := netlink.LinkByName(fmt.Sprintf("reni%d", eni+1))
		if err != nil {
			return err
		}
		return errors.Join(
			addRoute(netlink.Route{LinkIndex: l.Attrs().Index, Dst: host32(addr), Scope: netlink.SCOPE_LINK}),
			addNeighbour(l.Attrs().Index, addr, n.enis[eni].MAC),
		)
	})
}

// addPod makes the devices and routes of a pod on the second ENI, as the agent does.
func (n *node) addPod(t testing.TB, slot uint32, addr string) *pod {
	t.Helper()
	p := &pod{space: newSpace(t), Endpoint: endpointFor(slot, addr, 2), name: fmt.Sprintf("pod%d", slot)}
	n.wire(t, p)
	n.own(t, addr, 1)
	must(t, n.d.SetAddress(p.Addr, 2))
	must(t, n.d.AddEndpoint(p.Endpoint))
	n.pods = append(n.pods, p)
	return p
}

// answers is what is counted of a pod that asks for its gateway, or of one that need not.
func (n *node) answers() Reason {
	if n.device == netkitPods {
		return ReasonSent
	}
	return ReasonAnswered
}

// wire makes the pod's pair; it must not exist.
func (n *node) wire(t testing.TB, p *pod) {
	t.Helper()
	must(t, n.device.pair(p.name, &p.Endpoint, p.space))
	must(t, linkUp(p.name))
	must(t, addRoute(netlink.Route{LinkIndex: p.Ifindex, Dst: host32(p.Addr.String()), Scope: netlink.SCOPE_LINK}))
	p.do(t, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return errors.Join(
			sysctls(map[string]string{"ipv6/conf/all/disable_ipv6": "1"}),
			linkUp("eth0"), addAddress("eth0", p.Addr.String()+"/32"),
			addRoute(netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: contract.Gateway.AsSlice(), Dst: everywhere(), Flags: int(netlink.FLAG_ONLINK)}),
		)
	})
}

func sysctls(values map[string]string) error {
	var errs []error
	for name, value := range values {
		err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
		if errors.Is(err, os.ErrNotExist) && name == "ipv6/conf/all/disable_ipv6" {
			continue // a kernel without IPv6
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func moveTo(name string, s space, newName string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := netlink.LinkSetName(l, newName); err != nil {
		return err
	}
	return netlink.LinkSetNsFd(l, int(s.file.Fd()))
}

func addAddress(name, addr string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(l, a)
}

func addRoute(r netlink.Route) error {
	if err := netlink.RouteReplace(&r); err != nil {
		return fmt.Errorf("route %s: %w", r, err)
	}
	return nil
}

func addNeighbour(ifindex int, addr string, m net.HardwareAddr) error {
	return netlink.NeighSet(&netlink.Neigh{LinkIndex: ifindex, IP: net.ParseIP(addr), HardwareAddr: m, State: unix.NUD_PERMANENT})
}

func host32(addr string) *net.IPNet {
	return &net.IPNet{IP: net.ParseIP(addr).To4(), Mask: net.CIDRMask(32, 32)}
}

func everywhere() *net.IPNet { return &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)} }

// echo answers UDP on an address until the test ends.
func (s space) echo(t testing.TB, addr string) {
	t.Helper()
	var c net.PacketConn
	s.do(t, func() (err error) {
		c, err = net.ListenPacket("udp", addr)
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue // a port that was closed meanwhile
			}
			c.WriteTo(b[:n], from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
}

// dial makes a UDP socket in the namespace.
func (s space) dial(t testing.TB, from, to string) net.Conn {
	t.Helper()
	var c net.Conn
	s.do(t, func() (err error) {
		d := net.Dialer{}
		if from != "" {
			d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
		}
		c, err = d.Dial("udp4", to)
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// exchange sends one datagram and waits for the same one back.
func exchange(c net.Conn, text string, within time.Duration) error {
	if _, err := c.Write([]byte(text)); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	b := make([]byte, 2048)
	for {
		n, err := c.Read(b)
		if err != nil {
			return err
		}
		if string(b[:n]) == text {
			return nil
		}
	}
}

// sendFrames writes frames to a device as a process with CAP_NET_RAW does.
func (s space) sendFrames(t testing.TB, device string, frames ...[]byte) {
	t.Helper()
	s.do(t, func() error {
		l, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, f := range frames {
			err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index})
			// netkit tells the sender that a program dropped it.
			if err != nil && !(errors.Is(err, unix.ENOBUFS) && l.Type() == netkitType) {
				return fmt.Errorf("send frame of %d bytes: %w", len(f), err)
			}
		}
		return nil
	})
}

// patience is how long what must come may take, however busy the machine is. What is lost never comes.
const patience = 30 * time.Second

// wait polls until the condition holds.
func wait(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("waited %s in vain: %s", patience, what)
		case <-tick.C:
		}
	}
}
