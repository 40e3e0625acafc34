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
)

func cidr(protocol string, from, to int, block string) Rule {
	return Rule{Protocol: protocol, FromPort: from, ToPort: to, CIDR: netip.MustParsePrefix(block)}
}

func member(protocol string, from, to int, group string) Rule {
	return Rule{Protocol: protocol, FromPort: from, ToPort: to, Group: group}
}

func TestGroupsDenyByDefault(t *testing.T) {
	l := newLab(t)
	l.state.Groups["sg-closed"] = Group{Egress: []Rule{anywhere()}}
	l.state.Groups["sg-mute"] = Group{Ingress: []Rule{anywhere()}}
	a := l.eni("a", "192.168.0.10")
	b := l.eni("b", "192.168.0.11", groups("sg-closed"))
	m := l.eni("m", "192.168.0.12", groups("sg-mute"))
	l.apply()
	for _, ns := range []string{a, b, m} {
		serve(t, ns, ":80")
	}
	silent(t, a, "", "192.168.0.11:80")
	if n := l.drops("b", KindSecurityGroup, In); n == 0 {
		t.Error("nothing counted at the receiver")
	}
	if n := l.drops("a", KindSecurityGroup, Out); n != 0 {
		t.Errorf("%d drops counted at the sender, whose groups allow it", n)
	}
	// Replies pass groups that allow nothing of their own.
	reaches(t, b, "", "192.168.0.10:80", "192.168.0.11")
	reaches(t, a, "", "192.168.0.12:80", "192.168.0.10")
	silent(t, m, "", "192.168.0.10:80")
	if n := l.drops("m", KindSecurityGroup, Out); n == 0 {
		t.Error("nothing counted at the sender")
	}
}

func TestGroupRules(t *testing.T) {
	l := newLab(t)
	l.state.Groups["sg-web"] = Group{Egress: []Rule{anywhere()}, Ingress: []Rule{
		cidr("tcp", 80, 81, "192.168.0.0/19"),
		cidr("6", 443, 443, "192.168.0.10/32"),
		cidr("icmp", 8, -1, "192.168.32.0/19"),
		member("tcp", 9000, 9000, "sg-friends"),
		cidr("tcp", 0, 65535, "::/0"),
	}}
	l.state.Groups["sg-friends"] = Group{}
	a := l.eni("a", "192.168.0.10")
	other := l.eni("o", "192.168.32.10")
	friend := l.eni("f", "192.168.96.10", groups("sg-open", "sg-friends"), secondary("192.168.96.11"), func(e *ENI) {
		e.Prefixes = []netip.Prefix{netip.MustParsePrefix("192.168.97.16/28")}
	})
	web := l.eni("w", "192.168.0.11", groups("sg-web"))
	l.apply()
	address(t, friend, "eth0", "192.168.96.11/32")
	address(t, friend, "eth0", "192.168.97.20/32")
	for _, port := range []string{"80", "81", "82", "443", "9000"} {
		serve(t, web, ":"+port)
	}
	for _, c := range []struct {
		ns, from, port string
		allowed        bool
	}{
		{a, "192.168.0.10", "80", true},
		{a, "192.168.0.10", "81", true},
		{a, "192.168.0.10", "82", false},
		{a, "192.168.0.10", "443", true},
		{a, "192.168.0.10", "9000", false},
		{other, "192.168.32.10", "80", false},
		{other, "192.168.32.10", "443", false},
		{friend, "192.168.96.10", "9000", true},
		{friend, "192.168.96.11", "9000", true},
		{friend, "192.168.97.20", "9000", true},
		{friend, "192.168.96.10", "80", false},
	} {
		to := "192.168.0.11:" + c.port
		if c.allowed {
			reaches(t, c.ns, c.from, to, c.from)
		} else {
			silent(t, c.ns, c.from, to)
		}
	}
	if _, err := ping(other, "", "192.168.0.11", 100, 64, patience); err != nil {
		t.Errorf("ping that the group allows: %v", err)
	}
	if _, err := ping(a, "", "192.168.0.11", 100, 64, silence); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ping that no rule allows: %v, want silence", err)
	}
}

func TestGroupsChangeUnderTraffic(t *testing.T) {
	l := newLab(t)
	l.state.Groups["sg-web"] = Group{Egress: []Rule{anywhere()}}
	a := l.eni("a", "192.168.0.10")
	web := l.eni("w", "192.168.0.11", groups("sg-web"))
	l.apply()
	serve(t, web, ":80")
	silent(t, a, "", "192.168.0.11:80")

	l.state.Groups["sg-web"] = Group{Egress: []Rule{anywhere()}, Ingress: []Rule{cidr("tcp", 80, 80, "0.0.0.0/0")}}
	l.apply()
	c, err := dial(a, "", "192.168.0.11:80", patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	say := func() error {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(c, "hello"); err != nil {
			return err
		}
		_, err := r.ReadString('\n')
		return err
	}
	if err := say(); err != nil {
		t.Fatal(err)
	}
	// Traffic goes on while unrelated things change.
	for i := range 5 {
		l.state.Groups["sg-open"] = Group{Ingress: []Rule{anywhere(), cidr("tcp", i, i, "10.0.0.0/8")}, Egress: []Rule{anywhere()}}
		l.apply()
		if err := say(); err != nil {
			t.Fatalf("after an unrelated change: %v", err)
		}
	}
	// A connection that is tracked outlives the rule that let it in; a new one doesn't begin.
	l.state.Groups["sg-web"] = Group{Egress: []Rule{anywhere()}}
	l.apply()
	if err := say(); err != nil {
		t.Errorf("tracked connection after its rule went: %v", err)
	}
	silent(t, a, "", "192.168.0.11:80")

	// Membership is a change of the interface, not of the group.
	l.state.ENIs[1].Groups = []string{"sg-open"}
	l.apply()
	reaches(t, a, "", "192.168.0.11:80", "192.168.0.10")
	delete(l.state.Groups, "sg-web")
	l.apply()
	reaches(t, a, "", "192.168.0.11:80", "192.168.0.10")
}

func TestAddressTakesNoFlowsAlong(t *testing.T) {
	l := newLab(t)
	l.state.Groups["sg-closed"] = Group{Egress: []Rule{anywhere()}}
	a := l.eni("a", "192.168.0.10")
	b := l.eni("b", "192.168.0.11", secondary("192.168.0.50"))
	d := l.eni("d", "192.168.0.12", groups("sg-closed"))
	l.apply()
	address(t, b, "eth0", "192.168.0.50/32")
	pcB := receiver(t, b, "192.168.0.50:7000")
	from := receiver(t, a, "192.168.0.10:7001")
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.168.0.50:7000"))
	send := func() {
		t.Helper()
		if _, err := from.WriteTo([]byte("x"), to); err != nil {
			t.Fatal(err)
		}
	}
	send()
	if got := received(t, pcB, patience); got != "192.168.0.10" {
		t.Fatalf("received from %q", got)
	}
	if _, err := pcB.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.168.0.10:7001"))); err != nil {
		t.Fatal(err)
	}
	if got := received(t, from, patience); got != "192.168.0.50" {
		t.Fatalf("reply from %q", got)
	}
	// The address moves to an interface whose group lets nothing in: the flow is tracked, and must not pass.
	l.state.ENIs[1].Addresses = l.state.ENIs[1].Addresses[:1]
	l.state.ENIs[2].Addresses = append(l.state.ENIs[2].Addresses, netip.MustParseAddr("192.168.0.50"))
	l.apply()
	address(t, d, "eth0", "192.168.0.50/32")
	pcD := receiver(t, d, "192.168.0.50:7000")
	send()
	if got := received(t, pcD, silence); got != "" {
		t.Errorf("the new owner received from %q on the old owner's flow", got)
	}
	l.countsTo(1, "d", KindSecurityGroup, In)
}
