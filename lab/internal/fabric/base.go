package fabric

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/lab/internal/netns"
)

// ownerMark begins the alias of a namespace's loopback device; the lab's name follows. By name alone the
// namespaces of lab "a-b" would be lab "a"'s.
const ownerMark = "lab "

// makeNamespace makes a namespace that the lab owns, with loopback up; one that is there is marked as its own.
func makeNamespace(lab, name string) error {
	setup := func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		if lo.Attrs().Alias != ownerMark+lab {
			if err := h.LinkSetAlias(lo, ownerMark+lab); err != nil {
				return err
			}
		}
		return h.LinkSetUp(lo)
	}
	if netns.Exists(name) {
		return netns.Do(name, setup)
	}
	return netns.CreateWith(name, setup)
}

// owned lists the namespaces that the lab made, and files of its names that a crash left.
func owned(lab string) (namespaces, debris []string, err error) {
	names, err := netns.List(lab + "-")
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		if !netns.Exists(name) {
			debris = append(debris, name)
			continue
		}
		alias, err := loopbackAlias(name)
		if errors.Is(err, netns.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if alias == ownerMark+lab {
			namespaces = append(namespaces, name)
		}
	}
	return namespaces, debris, nil
}

func loopbackAlias(name string) (string, error) {
	h, err := netns.Netlink(name, unix.NETLINK_ROUTE)
	if err != nil {
		return "", err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return "", fmt.Errorf("network namespace %s: %w", name, err)
	}
	return lo.Attrs().Alias, nil
}

type sysctl struct {
	path, value string
	// optional: a kernel built without it has nothing to switch off.
	optional bool
}

// routerSysctls make a namespace forward as AWS' network does: it takes the packet as it comes, never redirects,
// and doesn't answer a router solicitation.
func routerSysctls() []sysctl {
	s := []sysctl{
		{path: "net/ipv4/ip_forward", value: "1"},
		{path: "net/ipv4/icmp_ratelimit", value: "0"},
		{path: "net/ipv6/conf/all/disable_ipv6", value: "1", optional: true},
		{path: "net/ipv6/conf/default/disable_ipv6", value: "1", optional: true},
	}
	for _, dev := range []string{"all", "default"} {
		for _, name := range []string{"rp_filter", "send_redirects", "accept_redirects", "accept_source_route"} {
			s = append(s, sysctl{path: "net/ipv4/conf/" + dev + "/" + name, value: "0"})
		}
	}
	return s
}

func vpcSysctls() []sysctl {
	return append(routerSysctls(),
		// Every ENI made from now on answers ARP for others; the gateway link, made with it too, has nobody who
		// asks. What is answered is narrowed by the ruleset.
		sysctl{path: "net/ipv4/conf/default/proxy_arp", value: "1"},
		// A VPC doesn't judge TCP windows, and a datapath that redirects can show it one direction only.
		sysctl{path: "net/netfilter/nf_conntrack_tcp_be_liberal", value: "1"},
	)
}

func writeSysctl(path, value string) error {
	file := filepath.Join("/proc/sys", path)
	// Writing ip_forward, even with its own value, makes the kernel reset others.
	if b, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(b)) == value {
		return nil
	}
	return os.WriteFile(file, []byte(value), 0o644)
}

func writeSysctls(list []sysctl) error {
	for _, s := range list {
		err := writeSysctl(s.path, s.value)
		if err != nil && !(s.optional && errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// loopbackAddresses gives the namespace's loopback device these addresses and no other but its own.
func loopbackAddresses(h *netlink.Handle, want []netip.Addr) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	have, err := again(func() ([]netlink.Addr, error) { return h.AddrList(lo, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	var found []netip.Addr
	for _, a := range have {
		addr, ok := netip.AddrFromSlice(a.IP.To4())
		switch {
		case !ok || addr.IsLoopback():
		case slices.Contains(want, addr):
			found = append(found, addr)
		default:
			if err := h.AddrDel(lo, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return fmt.Errorf("delete address %s: %w", addr, err)
			}
		}
	}
	for _, addr := range want {
		if slices.Contains(found, addr) {
			continue
		}
		if err := h.AddrReplace(lo, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(addr, 32))}); err != nil {
			return fmt.Errorf("address %s: %w", addr, err)
		}
	}
	return nil
}

// gateway makes the link between <lab>-vpc and <lab>-inet and returns its ends' indexes.
func gateway(lab string, vpc, inet *netlink.Handle) (inside, outside int, err error) {
	inode, err := netns.Inode(InternetNamespace(lab))
	if err != nil {
		return 0, 0, err
	}
	want := tag{eni: gatewayDevice, namespace: InternetNamespace(lab), inode: inode, device: internetDevice, mac: "-"}.String()
	link, err := vpc.LinkByName(gatewayDevice)
	var missing netlink.LinkNotFoundError
	switch {
	case err == nil && link.Attrs().Alias != want:
		if err := removeLink(vpc, link.Attrs().Index); err != nil {
			return 0, 0, fmt.Errorf("gateway link: %w", err)
		}
		fallthrough
	case errors.As(err, &missing):
		if link, err = makeGateway(lab, vpc, inet, want); err != nil {
			return 0, 0, fmt.Errorf("gateway link: %w", err)
		}
	case err != nil:
		return 0, 0, fmt.Errorf("gateway link: %w", err)
	}
	peer, err := inet.LinkByName(internetDevice)
	if err != nil {
		return 0, 0, fmt.Errorf("gateway link: %w", err)
	}
	return link.Attrs().Index, peer.Attrs().Index, nil
}

func makeGateway(lab string, vpc, inet *netlink.Handle, alias string) (netlink.Link, error) {
	ns, err := netns.Open(InternetNamespace(lab))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := vpc.LinkAdd(veth(gatewayDevice, gatewayMTU, nil, internetDevice, nil, ns)); err != nil {
		return nil, err
	}
	for _, end := range []struct {
		h    *netlink.Handle
		name string
		addr netip.Prefix
	}{{vpc, gatewayDevice, gatewayVPC}, {inet, internetDevice, gatewayInternet}} {
		link, err := end.h.LinkByName(end.name)
		if err != nil {
			return nil, err
		}
		if err := end.h.AddrReplace(link, &netlink.Addr{IPNet: ipNet(end.addr)}); err != nil {
			return nil, err
		}
		if err := end.h.LinkSetUp(link); err != nil {
			return nil, err
		}
	}
	link, err := vpc.LinkByName(gatewayDevice)
	if err != nil {
		return nil, err
	}
	return link, vpc.LinkSetAlias(link, alias)
}
