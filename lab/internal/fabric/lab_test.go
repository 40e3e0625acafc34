package fabric

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/lab/internal/netns"
)

// patience is for packets that must arrive, silence for those that must not.
const (
	patience = 5 * time.Second
	silence  = 250 * time.Millisecond
)

var labs atomic.Int64

// testLab is a lab of its own for one test: a VPC with two public subnets and a private one.
type testLab struct {
	t     testing.TB
	name  string
	f     *Fabric
	state State
}

func newLab(t testing.TB) *testLab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: making a VPC of network namespaces needs root")
	}
	name := fmt.Sprintf("fab%d-%d", os.Getpid(), labs.Add(1))
	l := &testLab{t: t, name: name, f: New(name, slog.New(slog.DiscardHandler)), state: State{
		Lab:        name,
		VPC:        netip.MustParsePrefix("192.168.0.0/16"),
		NATGateway: netip.MustParseAddr("203.0.113.250"),
		Subnets: []Subnet{
			{ID: "subnet-a", CIDR: netip.MustParsePrefix("192.168.0.0/19"), Public: true},
			{ID: "subnet-b", CIDR: netip.MustParsePrefix("192.168.32.0/19"), Public: true},
			{ID: "subnet-p", CIDR: netip.MustParsePrefix("192.168.96.0/19")},
		},
		Groups: map[string]Group{"sg-open": {Ingress: []Rule{anywhere()}, Egress: []Rule{anywhere()}}},
	}}
	t.Cleanup(func() {
		if err := Remove(context.Background(), name); err != nil {
			t.Error(err)
		}
	})
	return l
}

func anywhere() Rule {
	return Rule{Protocol: "-1", FromPort: -1, ToPort: -1, CIDR: netip.MustParsePrefix("0.0.0.0/0")}
}

// eni adds a configured first interface in a namespace of its own; the option functions change it.
func (l *testLab) eni(instance, address string, opts ...func(*ENI)) string {
	l.t.Helper()
	ns := l.name + "-" + instance
	a := netip.MustParseAddr(address)
	e := ENI{ID: "eni-0000000000" + instance, Namespace: ns, Device: "eth0", Configure: true, SourceDestCheck: true,
		Addresses: []netip.Addr{a}, Groups: []string{"sg-open"}, Public: map[netip.Addr]netip.Addr{}}
	for _, o := range opts {
		o(&e)
	}
	for _, sn := range l.state.Subnets {
		if sn.CIDR.Contains(a) {
			e.SubnetID = sn.ID
		}
	}
	b := a.As4()
	e.MAC = net.HardwareAddr{0x02, 0, b[0], b[1], b[2], b[3]}.String()
	l.state.ENIs = append(l.state.ENIs, e)
	if !slices.Contains(l.state.Namespaces, ns) {
		l.state.Namespaces = append(l.state.Namespaces, ns)
	}
	return ns
}

func public(private, pub string) func(*ENI) {
	return func(e *ENI) { e.Public[netip.MustParseAddr(private)] = netip.MustParseAddr(pub) }
}

func secondary(addresses ...string) func(*ENI) {
	return func(e *ENI) {
		for _, a := range addresses {
			e.Addresses = append(e.Addresses, netip.MustParseAddr(a))
		}
	}
}

func groups(ids ...string) func(*ENI) { return func(e *ENI) { e.Groups = ids } }

func plugged(device string) func(*ENI) {
	return func(e *ENI) { e.Device, e.Configure = device, false }
}

func (l *testLab) apply() {
	l.t.Helper()
	if err := l.f.Apply(context.Background(), l.state); err != nil {
		l.t.Fatal(err)
	}
}

// drops is the count of one kind at the first interface of an instance.
func (l *testLab) drops(instance string, k Kind, d Direction) uint64 {
	l.t.Helper()
	all, err := l.f.Drops(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	for _, drop := range all {
		if drop.ENI == "eni-0000000000"+instance && drop.Kind == k && drop.Direction == d {
			return drop.Packets
		}
	}
	return 0
}

// countsTo fails the test unless the count of one kind becomes n.
func (l *testLab) countsTo(n uint64, instance string, k Kind, d Direction) {
	l.t.Helper()
	var got uint64
	for end := time.Now().Add(patience); ; {
		if got = l.drops(instance, k, d); got >= n || time.Now().After(end) {
			break
		}
	}
	if got != n {
		l.t.Errorf("%d drops of kind %s %s at %s, want %d", got, k, d, instance, n)
	}
}

// address gives a namespace another address, as an agent would.
func address(t *testing.T, ns, device, prefix string) {
	t.Helper()
	h := handle(t, ns)
	link, err := h.LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddrReplace(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(prefix))}); err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
}

func handle(t *testing.T, ns string) *netlink.Handle {
	t.Helper()
	h, err := netns.Netlink(ns, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// serve answers each connection with the client's address as the server sees it, then echoes.
func serve(t *testing.T, ns, addr string) {
	t.Helper()
	ln, err := netns.Listen(ns, "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				_, _ = fmt.Fprintf(c, "%s\n", host)
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

// dial connects from a namespace, from a source address if one is given.
func dial(ns, from, to string, wait time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	var d net.Dialer
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	return netns.Dial(ctx, ns, d, "tcp", to)
}

// seenFrom connects and returns the address that the server saw.
func seenFrom(ns, from, to string, wait time.Duration) (string, error) {
	c, err := dial(ns, from, to, wait)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var host string
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		return "", err
	}
	_, err = fmt.Fscanln(c, &host)
	return host, err
}

// reaches fails the test unless the server answers and sees the client as want.
func reaches(t *testing.T, ns, from, to, want string) {
	t.Helper()
	got, err := seenFrom(ns, from, to, patience)
	if err != nil {
		t.Errorf("%s (%s) to %s: %v", ns, from, to, err)
	} else if got != want {
		t.Errorf("%s (%s) to %s: the server saw %s, want %s", ns, from, to, got, want)
	}
}

// silent fails the test unless nothing at all comes back.
func silent(t *testing.T, ns, from, to string) {
	t.Helper()
	got, err := seenFrom(ns, from, to, silence)
	var timeout net.Error
	switch {
	case err == nil:
		t.Errorf("%s (%s) to %s: answered (as %s), want silence", ns, from, to, got)
	case !errors.As(err, &timeout) || !timeout.Timeout():
		t.Errorf("%s (%s) to %s: %v, want silence", ns, from, to, err)
	}
}

// ping sends an echo request of a size and TTL with DF set and returns the reply's TTL.
func ping(ns, from, to string, size, ttl int, wait time.Duration) (int, error) {
	var fd int
	err := netns.Do(ns, func() error {
		var err error
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		return err
	})
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20),
	); err != nil {
		return 0, err
	}
	if from != "" {
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr(from).As4()}); err != nil {
			return 0, err
		}
	}
	id := uint16(os.Getpid())
	// size is the whole packet's, as an MTU is.
	msg := make([]byte, size-20)
	msg[0] = 8
	binary.BigEndian.PutUint16(msg[4:], id)
	binary.BigEndian.PutUint16(msg[2:], checksum(msg))
	dst := netip.MustParseAddr(to)
	if err := unix.Sendto(fd, msg, 0, &unix.SockaddrInet4{Addr: dst.As4()}); err != nil {
		return 0, err
	}
	deadline := time.Now().Add(wait)
	buf := make([]byte, 65536)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return 0, os.ErrDeadlineExceeded
		}
		tv := unix.NsecToTimeval(left.Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return 0, err
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if n < 28 {
			continue
		}
		icmp := buf[20:n]
		switch icmp[0] {
		case 0:
			if binary.BigEndian.Uint16(icmp[4:]) == id {
				return int(buf[8]), nil
			}
		case 3, 11:
			src, _ := netip.AddrFromSlice(buf[12:16])
			return 0, icmpError{kind: icmp[0], code: icmp[1], mtu: int(binary.BigEndian.Uint16(icmp[6:])), from: src}
		}
	}
}

type icmpError struct {
	kind, code byte
	mtu        int
	from       netip.Addr
}

func (e icmpError) Error() string {
	return fmt.Sprintf("ICMP type %d code %d mtu %d from %s", e.kind, e.code, e.mtu, e.from)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
