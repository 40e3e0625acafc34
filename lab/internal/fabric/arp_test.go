package fabric

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/lab/internal/netns"
)

// whoHas asks for an address by ARP, as a given sender, and returns the MAC that answers, or nil.
func whoHas(t *testing.T, ns, device, sender, target string, wait time.Duration) net.HardwareAddr {
	t.Helper()
	link, err := handle(t, ns).LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	mac, index := link.Attrs().HardwareAddr, link.Attrs().Index
	proto := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ARP))
	var fd int
	err = netns.Do(ns, func() error {
		var err error
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(proto))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: index}); err != nil {
		t.Fatal(err)
	}
	from, to := netip.MustParseAddr(sender).As4(), netip.MustParseAddr(target).As4()
	msg := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	msg = append(append(msg, mac...), from[:]...)
	msg = append(append(msg, make([]byte, 6)...), to[:]...)
	broadcast := &unix.SockaddrLinklayer{Protocol: proto, Ifindex: index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	if err := unix.Sendto(fd, msg, 0, broadcast); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(wait)
	buf := make([]byte, 256)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return nil
		}
		tv := unix.NsecToTimeval(left.Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			t.Fatal(err)
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if n >= 28 && binary.BigEndian.Uint16(buf[6:]) == 2 && [4]byte(buf[14:18]) == to {
			return net.HardwareAddr(buf[8:14])
		}
	}
}

func TestARPIsNarrow(t *testing.T) {
	l := newLab(t)
	a := l.eni("a", "192.168.0.10", secondary("192.168.0.20"))
	l.eni("a2", "192.168.0.30", plugged("ens6"), func(e *ENI) { e.Namespace = a })
	l.eni("b", "192.168.0.11")
	l.eni("c", "192.168.32.10")
	l.apply()
	router := routerMAC("subnet-a").String()
	for _, c := range []struct {
		why, sender, target string
		answered            bool
	}{
		{"the router", "192.168.0.10", "192.168.0.1", true},
		{"the resolver, in this subnet", "192.168.0.10", "192.168.0.2", true},
		{"a neighbour", "192.168.0.10", "192.168.0.11", true},
		{"the same host's other interface", "192.168.0.10", "192.168.0.30", true},
		{"an address of the subnet that nobody has", "192.168.0.10", "192.168.0.99", true},
		{"IMDS, for hosts with a link-local route", "192.168.0.10", "169.254.169.254", true},
		{"another subnet's host", "192.168.0.10", "192.168.32.10", false},
		{"another subnet's router", "192.168.0.10", "192.168.32.1", false},
		{"the internet", "192.168.0.10", "198.51.100.80", false},
		{"the gateway link", "192.168.0.10", "198.51.100.253", false},
		{"a service address", "192.168.0.10", "10.100.0.1", false},
		{"a pod's link-local gateway", "192.168.0.10", "169.254.1.1", false},
		{"loopback", "192.168.0.10", "127.0.0.1", false},
		{"its own address, in a gratuitous request", "192.168.0.20", "192.168.0.20", false},
		{"its own address, before using it", "0.0.0.0", "192.168.0.10", false},
	} {
		wait := silence
		if c.answered {
			wait = patience
		}
		got := whoHas(t, a, "eth0", c.sender, c.target, wait)
		switch {
		case c.answered && got.String() != router:
			t.Errorf("%s (%s): answered by %q, want the router, %s", c.why, c.target, got, router)
		case !c.answered && got != nil:
			t.Errorf("%s (%s): answered by %s, want silence", c.why, c.target, got)
		}
	}
}
