package fabric

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/weft-cni/weft/lab/internal/netns"
)

// sendUDP sends datagrams from one address to another.
func sendUDP(t *testing.T, ns, from, to string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := netns.Dial(ctx, ns, net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}, "udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range n {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
}

// receiver counts what arrives at an address.
func receiver(t *testing.T, ns, addr string) net.PacketConn {
	t.Helper()
	pc, err := netns.ListenPacket(ns, "udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc
}

// received waits for the next datagram and returns its sender, or "" after a while.
func received(t *testing.T, pc net.PacketConn, wait time.Duration) string {
	t.Helper()
	if err := pc.SetReadDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	_, from, err := pc.ReadFrom(make([]byte, 64))
	if err != nil {
		return ""
	}
	host, _, _ := net.SplitHostPort(from.String())
	return host
}

func TestSourceCheck(t *testing.T) {
	l := newLab(t)
	a := l.eni("a", "192.168.0.10", secondary("192.168.0.20"))
	b := l.eni("b", "192.168.32.10")
	l.apply()
	address(t, a, "eth0", "192.168.0.20/32")
	address(t, a, "eth0", "10.42.0.7/32") // an overlay's pod
	address(t, a, "eth0", "192.168.32.99/32")
	pc := receiver(t, b, "192.168.32.10:7000")

	sendUDP(t, a, "192.168.0.20", "192.168.32.10:7000", 1)
	if got := received(t, pc, patience); got != "192.168.0.20" {
		t.Errorf("from an assigned address: received %q", got)
	}
	l.countsTo(0, "a", KindSourceCheck, Out)
	sendUDP(t, a, "10.42.0.7", "192.168.32.10:7000", 3)
	sendUDP(t, a, "192.168.32.99", "192.168.32.10:7000", 2)
	sendUDP(t, a, "10.42.0.7", IMDS.String()+":80", 1)
	if got := received(t, pc, silence); got != "" {
		t.Errorf("from an address of nobody's: received %q", got)
	}
	l.countsTo(6, "a", KindSourceCheck, Out)

	// Off, as ModifyNetworkInterfaceAttribute does it.
	l.state.ENIs[0].SourceDestCheck = false
	l.apply()
	sendUDP(t, a, "10.42.0.7", "192.168.32.10:7000", 1)
	if got := received(t, pc, patience); got != "10.42.0.7" {
		t.Errorf("with the check off: received %q", got)
	}
	l.countsTo(6, "a", KindSourceCheck, Out)

	// An address that was taken away is forged from then on.
	l.state.ENIs[0].SourceDestCheck = true
	l.state.ENIs[0].Addresses = l.state.ENIs[0].Addresses[:1]
	l.apply()
	sendUDP(t, a, "192.168.0.20", "192.168.32.10:7000", 1)
	if got := received(t, pc, silence); got != "" {
		t.Errorf("from an unassigned address: received %q", got)
	}
	l.countsTo(7, "a", KindSourceCheck, Out)
}

func TestPacketThroughTheWrongInterface(t *testing.T) {
	l := newLab(t)
	a := l.eni("a", "192.168.0.10")
	l.eni("a2", "192.168.0.30", plugged("ens6"), func(e *ENI) { e.Namespace = a })
	b := l.eni("b", "192.168.32.10")
	l.apply()
	// The second interface's address is used by the first one: what a missing routing rule does.
	address(t, a, "eth0", "192.168.0.30/32")
	pc := receiver(t, b, "192.168.32.10:7000")
	sendUDP(t, a, "192.168.0.30", "192.168.32.10:7000", 1)
	if got := received(t, pc, silence); got != "" {
		t.Errorf("received from %q", got)
	}
	l.countsTo(1, "a", KindSourceCheck, Out)
	l.countsTo(0, "a2", KindSourceCheck, Out)
}

func TestForeignMAC(t *testing.T) {
	l := newLab(t)
	a := l.eni("a", "192.168.0.10")
	b := l.eni("b", "192.168.32.10")
	l.apply()
	pc := receiver(t, b, "192.168.32.10:7000")
	h := handle(t, a)
	link, err := h.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetHardwareAddr(link, net.HardwareAddr{2, 9, 9, 9, 9, 9}); err != nil {
		t.Fatal(err)
	}
	// The router's permanent entry for the interface isn't moved by what the host says.
	sendUDP(t, a, "192.168.0.10", "192.168.32.10:7000", 2)
	if got := received(t, pc, silence); got != "" {
		t.Errorf("received from %q", got)
	}
	if n := l.drops("a", KindMAC, Out); n == 0 {
		t.Error("no drop of a foreign MAC counted")
	}
}
