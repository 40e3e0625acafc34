package fabric

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func TestInternetGateway(t *testing.T) {
	l := newLab(t)
	a := l.eni("a", "192.168.0.10", public("192.168.0.10", "203.0.113.10"), secondary("192.168.0.20"))
	bare := l.eni("n", "192.168.0.30")
	l.apply()
	inet := InternetNamespace(l.name)
	address(t, a, "eth0", "192.168.0.20/32")
	serve(t, inet, "198.51.100.80:80")
	serve(t, a, ":80")
	// Both ways, one to one.
	reaches(t, a, "", "198.51.100.80:80", "203.0.113.10")
	reaches(t, inet, "198.51.100.100", "203.0.113.10:80", "198.51.100.100")
	// A secondary address has none, and neither has an instance without one.
	silent(t, a, "192.168.0.20", "198.51.100.80:80")
	if n := l.drops("a", KindGateway, Out); n == 0 {
		t.Error("no drop counted for the secondary address")
	}
	silent(t, bare, "", "198.51.100.80:80")
	if n := l.drops("n", KindGateway, Out); n == 0 {
		t.Error("no drop counted for the instance without a public address")
	}
	// What nobody has in the world answers nothing, and a private address leads nowhere from outside.
	if _, err := ping(a, "", "8.8.8.8", 100, 64, silence); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ping of an address that isn't there: %v, want silence", err)
	}
	if _, err := seenFrom(inet, "198.51.100.100", "192.168.0.10:80", silence); err == nil {
		t.Error("a private address is reached from the internet")
	}
	// Not even for one who knows the way to the VPC.
	h := handle(t, inet)
	if err := h.RouteReplace(&netlink.Route{Dst: ipNet(l.state.VPC), Gw: gatewayVPC.Addr().AsSlice()}); err != nil {
		t.Fatal(err)
	}
	silent(t, inet, "198.51.100.100", "192.168.0.10:80")
	if err := h.RouteDel(&netlink.Route{Dst: ipNet(l.state.VPC)}); err != nil {
		t.Fatal(err)
	}

	// The address moves (an Elastic IP): the flows of the former end.
	c, err := dial(a, "", "198.51.100.80:80", patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	pcA := receiver(t, a, "192.168.0.10:7000")
	out := receiver(t, inet, "198.51.100.100:7001")
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("203.0.113.10:7000"))
	if _, err := out.WriteTo([]byte("x"), to); err != nil {
		t.Fatal(err)
	}
	if got := received(t, pcA, patience); got != "198.51.100.100" {
		t.Fatalf("received from %q", got)
	}
	delete(l.state.ENIs[0].Public, netip.MustParseAddr("192.168.0.10"))
	public("192.168.0.30", "203.0.113.10")(&l.state.ENIs[1])
	l.apply()
	pcBare := receiver(t, bare, "192.168.0.30:7000")
	if _, err := out.WriteTo([]byte("x"), to); err != nil {
		t.Fatal(err)
	}
	if got := received(t, pcBare, patience); got != "198.51.100.100" {
		t.Errorf("the new owner of the public address received from %q", got)
	}
	if got := received(t, pcA, silence); got != "" {
		t.Errorf("the former owner of the public address received from %q", got)
	}
	serve(t, bare, ":80")
	reaches(t, inet, "198.51.100.100", "203.0.113.10:80", "198.51.100.100")
	reaches(t, bare, "", "198.51.100.80:80", "203.0.113.10")
	silent(t, a, "", "198.51.100.80:80")
	if err := c.SetDeadline(time.Now().Add(silence)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(c, "still here"); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a flow that began under the address answers %q, %v, want silence", line, err)
	}
}

func TestPublicAddressFromInside(t *testing.T) {
	l := newLab(t)
	// EKS' default group: members reach each other, nothing else comes in.
	l.state.Groups["sg-cluster"] = Group{Egress: []Rule{anywhere()}, Ingress: []Rule{member("-1", -1, -1, "sg-cluster")}}
	a := l.eni("a", "192.168.0.10", public("192.168.0.10", "203.0.113.10"), groups("sg-cluster"))
	b := l.eni("b", "192.168.32.10", public("192.168.32.10", "203.0.113.11"), groups("sg-cluster"))
	l.apply()
	serve(t, b, ":30080")
	reaches(t, a, "", "192.168.32.10:30080", "192.168.0.10")
	silent(t, a, "", "203.0.113.11:30080")
	if _, err := ping(a, "", "203.0.113.11", 100, 64, silence); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ping of the public address: %v, want silence", err)
	}
	if n := l.drops("b", KindSecurityGroup, In); n < 2 {
		t.Errorf("%d drops counted at the receiver, want at least 2", n)
	}
	// Opened to the world, it comes back from outside with the caller's public address. Also to itself.
	l.state.Groups["sg-cluster"] = Group{Egress: []Rule{anywhere()}, Ingress: []Rule{
		member("-1", -1, -1, "sg-cluster"),
		cidr("tcp", 30000, 32767, "0.0.0.0/0"),
		cidr("icmp", -1, -1, "0.0.0.0/0"),
	}}
	l.apply()
	reaches(t, a, "", "203.0.113.11:30080", "203.0.113.10")
	reaches(t, b, "", "203.0.113.11:30080", "203.0.113.11")
	if ttl, err := ping(a, "", "203.0.113.11", 100, 64, patience); err != nil || ttl >= 64 {
		t.Errorf("ping of the public address: reply with TTL %d, %v; want hops of the way out and back", ttl, err)
	}
}

func TestNATGateway(t *testing.T) {
	l := newLab(t)
	p := l.eni("p", "192.168.96.10", secondary("192.168.96.20"))
	a := l.eni("a", "192.168.0.10", public("192.168.0.10", "203.0.113.10"))
	l.apply()
	inet := InternetNamespace(l.name)
	address(t, p, "eth0", "192.168.96.20/32")
	serve(t, inet, "198.51.100.2:443")
	serve(t, a, ":80")
	serve(t, p, ":80")
	reaches(t, p, "", "198.51.100.2:443", "203.0.113.250")
	reaches(t, p, "192.168.96.20", "198.51.100.2:443", "203.0.113.250")
	reaches(t, p, "", "203.0.113.10:80", "203.0.113.250")
	// Inside the VPC nothing is translated.
	reaches(t, p, "192.168.96.20", "192.168.0.10:80", "192.168.96.20")
	// Nothing comes in by the NAT gateway.
	silent(t, inet, "198.51.100.100", "203.0.113.250:80")

	// A subnet without a default route reaches the VPC only.
	isolate := func(on bool) {
		for i := range l.state.Subnets {
			l.state.Subnets[i].Isolated = on
		}
		l.apply()
	}
	isolate(true)
	before := l.drops("p", KindGateway, Out)
	silent(t, p, "", "198.51.100.2:443")
	silent(t, a, "", "198.51.100.2:443")
	reaches(t, p, "192.168.96.20", "192.168.0.10:80", "192.168.96.20")
	if n := l.drops("p", KindGateway, Out); n == before {
		t.Error("no drop counted without a default route")
	}
	isolate(false)
	reaches(t, p, "", "198.51.100.2:443", "203.0.113.250")

	l.state.NATGateway = netip.Addr{}
	l.apply()
	silent(t, p, "", "198.51.100.2:443")
	if n := l.drops("p", KindGateway, Out); n == 0 {
		t.Error("no drop counted without a NAT gateway")
	}
}
