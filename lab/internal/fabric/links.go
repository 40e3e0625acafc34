package fabric

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/lab/internal/netns"
)

// tag is what a link was made for. It is the link's alias, so that the next process knows too; a link without it
// was half made when a process died. The inode tells a namespace from a former one of the same name, whose death
// the kernel completes later.
type tag struct {
	eni, namespace string
	inode          uint64
	device, mac    string
}

func (t tag) String() string {
	return fmt.Sprintf("%s %s %d %s %s", t.eni, t.namespace, t.inode, t.device, t.mac)
}

// parseTag is the reverse of String; anything else gives the zero tag, which no interface wants.
func parseTag(alias string) tag {
	var t tag
	if n, err := fmt.Sscanf(alias, "%s %s %d %s %s", &t.eni, &t.namespace, &t.inode, &t.device, &t.mac); err != nil || n != 5 || t.String() != alias {
		return tag{}
	}
	return t
}

// eniLink is an ENI's side in <lab>-vpc.
type eniLink struct {
	name  string
	index int
	tag   tag
}

func listENIs(h *netlink.Handle) (map[string]eniLink, error) {
	links, err := again(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	found := map[string]eniLink{}
	for _, l := range links {
		if a := l.Attrs(); strings.HasPrefix(a.Name, eniPrefix) {
			found[a.Name] = eniLink{name: a.Name, index: a.Index, tag: parseTag(a.Alias)}
		}
	}
	return found, nil
}

// again repeats a dump that the kernel says was interrupted by a change.
func again[T any](dump func() (T, error)) (T, error) {
	var v T
	var err error
	for range 5 {
		if v, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return v, err
}

// removeLink deletes a link by index; its peer goes with it, at once, wherever it is.
func removeLink(h *netlink.Handle, index int) error {
	err := h.LinkDel(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}})
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// attach makes an ENI: a veth from <lab>-vpc into the instance's namespace.
func attach(h *netlink.Handle, vpcNS string, e ENI, sn Subnet, t tag) (eniLink, error) {
	name := deviceName(e.ID)
	fail := func(step string, err error) (eniLink, error) {
		return eniLink{}, fmt.Errorf("eni %s in %s: %s: %w", e.ID, e.Namespace, step, err)
	}
	mac, err := net.ParseMAC(e.MAC)
	if err != nil {
		return fail("mac", err)
	}
	ns, err := netns.Open(e.Namespace)
	if err != nil {
		return fail("open", err)
	}
	defer ns.Close()
	v := veth(name, vpcMTU, routerMAC(sn.ID), e.Device, mac, ns)
	if err := h.LinkAdd(v); err != nil {
		return fail("add "+name+" with peer "+e.Device, err)
	}
	link, err := h.LinkByName(name)
	if err != nil {
		return fail("find "+name, err)
	}
	// The kernel delays a proxy's answer to a broadcast by up to 0.8 s, and new devices take that from the
	// machine's own namespace.
	err = netns.Do(vpcNS, func() error { return writeSysctl("net/ipv4/neigh/"+name+"/proxy_delay", "0") })
	if err != nil {
		return fail("sysctl", err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fail("up "+name, err)
	}
	if err := neighbour(h, link.Attrs().Index, e.Addresses[0], mac); err != nil {
		return fail("neighbour "+e.Addresses[0].String(), err)
	}
	if e.Configure {
		if err := configure(e, sn); err != nil {
			return fail("configure "+e.Device, err)
		}
		settle(h, link.Attrs().Index)
	}
	if err := h.LinkSetAlias(link, t.String()); err != nil {
		return fail("alias "+name, err)
	}
	return eniLink{name: name, index: link.Attrs().Index, tag: t}, nil
}

func veth(name string, mtu int, mac net.HardwareAddr, peer string, peerMAC net.HardwareAddr, peerNS *os.File) *netlink.Veth {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = name, mtu, mac
	v := netlink.NewVeth(attrs)
	v.PeerName, v.PeerHardwareAddr, v.PeerMTU = peer, peerMAC, uint32(mtu)
	v.PeerNamespace = netlink.NsFd(int(peerNS.Fd()))
	return v
}

// settle waits until a device that is up sends: the kernel gives it its queue a moment after its carrier, and loses
// what is sent in between. It gives up quietly; the device then just has a slow start.
func settle(h *netlink.Handle, index int) {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if l, err := h.LinkByIndex(index); err != nil || l.Attrs().OperState == netlink.OperUp {
			return
		}
	}
}

// configure does what DHCP does for an instance's first interface.
func configure(e ENI, sn Subnet) error {
	h, err := netns.Netlink(e.Namespace, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(e.Device)
	if err != nil {
		return err
	}
	own := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(e.Addresses[0], sn.CIDR.Bits()))}
	if err := h.AddrReplace(link, own); err != nil {
		return fmt.Errorf("address %s: %w", own.IPNet, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	settle(h, link.Attrs().Index)
	router := SubnetRouter(sn.CIDR)
	err = h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: router.AsSlice()})
	if err != nil {
		return fmt.Errorf("default route via %s: %w", router, err)
	}
	return nil
}

// neighbour tells the router an ENI's MAC once and for all. Routes to the interface's other addresses go by way of
// the primary one, so this entry serves for all of them.
func neighbour(h *netlink.Handle, index int, primary netip.Addr, mac net.HardwareAddr) error {
	return h.NeighSet(&netlink.Neigh{
		LinkIndex: index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
		IP: primary.AsSlice(), HardwareAddr: mac,
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
