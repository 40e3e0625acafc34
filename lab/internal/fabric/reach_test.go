package fabric

import (
	"errors"
	"net/netip"
	"os"
	"testing"
)

func TestReachInsideTheVPC(t *testing.T) {
	l := newLab(t)
	a := l.eni("a", "192.168.0.10")
	b := l.eni("b", "192.168.0.11", secondary("192.168.0.77"), func(e *ENI) {
		e.Prefixes = []netip.Prefix{netip.MustParsePrefix("192.168.1.16/28")}
	})
	c := l.eni("c", "192.168.96.10")
	l.apply()
	address(t, b, "eth0", "192.168.0.77/32")
	address(t, b, "eth0", "192.168.1.20/32")
	serve(t, b, ":80")
	serve(t, c, ":80")
	reaches(t, a, "", "192.168.0.11:80", "192.168.0.10")
	reaches(t, a, "", "192.168.0.77:80", "192.168.0.10")
	reaches(t, a, "", "192.168.1.20:80", "192.168.0.10")
	reaches(t, a, "", "192.168.96.10:80", "192.168.0.10")
	reaches(t, b, "192.168.0.77", "192.168.96.10:80", "192.168.0.77")
	reaches(t, b, "192.168.1.20", "192.168.96.10:80", "192.168.1.20")
}

func TestNoHopInsideTheVPC(t *testing.T) {
	l := newLab(t)
	a := l.eni("a", "192.168.0.10", public("192.168.0.10", "203.0.113.10"))
	l.eni("b", "192.168.32.10")
	l.apply()
	for _, ttl := range []int{1, 2, 64} {
		if got, err := ping(a, "", "192.168.32.10", 100, ttl, patience); err != nil || got != 64 {
			t.Errorf("ping with TTL %d: reply with TTL %d, %v; want 64", ttl, got, err)
		}
	}
	// To the internet the gateway is a hop.
	_, err := ping(a, "", InternetHost.String(), 100, 1, patience)
	var icmp icmpError
	if !errors.As(err, &icmp) || icmp.kind != 11 || icmp.from != netip.MustParseAddr("192.168.0.1") {
		t.Errorf("ping to the internet with TTL 1: %v, want time exceeded from the subnet's router", err)
	}
	if got, err := ping(a, "", InternetHost.String(), 100, 2, patience); err != nil || got != 63 {
		t.Errorf("ping to the internet: reply with TTL %d, %v; want 63", got, err)
	}
}

func TestServicesAreOneLinkAway(t *testing.T) {
	l := newLab(t)
	// No group lets anything through: link-local services aren't subject to them.
	l.state.Groups["sg-none"] = Group{}
	a := l.eni("a", "192.168.0.10", groups("sg-none"))
	p := l.eni("p", "192.168.96.10", groups("sg-none"))
	l.apply()
	vpc := VPCNamespace(l.name)
	for _, addr := range []string{"169.254.169.254:80", "169.254.169.253:53", "192.168.0.2:5000"} {
		serve(t, vpc, addr)
		reaches(t, a, "", addr, "192.168.0.10")
		reaches(t, p, "", addr, "192.168.96.10")
	}
	if got, err := ping(a, "", IMDS.String(), 100, 1, patience); err != nil || got != 64 {
		t.Errorf("ping of IMDS with TTL 1: reply with TTL %d, %v; want 64", got, err)
	}
	// Nothing else of the router is.
	serve(t, vpc, ":9999")
	silent(t, a, "", "192.168.0.1:9999")
	silent(t, a, "", gatewayVPC.Addr().String()+":9999")
	silent(t, InternetNamespace(l.name), "", gatewayVPC.Addr().String()+":9999")
}

func TestMTU(t *testing.T) {
	l := newLab(t)
	a := l.eni("a", "192.168.0.10", public("192.168.0.10", "203.0.113.10"))
	l.eni("b", "192.168.32.10")
	l.apply()
	if _, err := ping(a, "", "192.168.32.10", 9001, 64, patience); err != nil {
		t.Errorf("9001 bytes inside the VPC: %v", err)
	}
	if _, err := ping(a, "", InternetHost.String(), 1500, 64, patience); err != nil {
		t.Errorf("1500 bytes to the internet: %v", err)
	}
	_, err := ping(a, "", InternetHost.String(), 1501, 64, patience)
	var icmp icmpError
	if !errors.As(err, &icmp) || icmp.kind != 3 || icmp.code != 4 || icmp.mtu != 1500 || icmp.from != netip.MustParseAddr("192.168.0.1") {
		t.Errorf("1501 bytes to the internet: %v, want fragmentation needed, 1500, from the subnet's router", err)
	}
}

func TestUnassignedAddressIsSilent(t *testing.T) {
	l := newLab(t)
	a := l.eni("a", "192.168.0.10")
	l.apply()
	for i, to := range []string{"192.168.0.99", "192.168.200.1", "169.254.170.23"} {
		if _, err := ping(a, "", to, 100, 64, silence); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("ping of %s: %v, want silence", to, err)
		}
		l.countsTo(uint64(i+1), "a", KindUnassigned, Out)
	}
}
