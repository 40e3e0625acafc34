package fabric

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/lab/internal/netns"
)

// picture is everything of a lab that the kernel shows, but counters and what has an age.
func (l *testLab) picture() string {
	l.t.Helper()
	names, err := netns.List(l.name + "-")
	if err != nil {
		l.t.Fatal(err)
	}
	var b strings.Builder
	for _, ns := range names {
		inode, err := netns.Inode(ns)
		if err != nil {
			l.t.Fatal(err)
		}
		fmt.Fprintf(&b, "== %s %d\n", ns, inode)
		for _, args := range [][]string{
			{"ip", "-details", "link"}, {"ip", "-4", "addr"}, {"ip", "-4", "route", "show", "table", "all"},
			{"ip", "neigh", "show", "nud", "permanent"}, {"nft", "-s", "-a", "list", "ruleset"},
		} {
			// What it says beside its output is of namespaces that others remove meanwhile.
			var said strings.Builder
			cmd := exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...)
			cmd.Stderr = &said
			out, err := cmd.Output()
			if err != nil {
				l.t.Fatalf("%v in %s: %v: %s", args, ns, err, said.String())
			}
			b.Write(out)
		}
	}
	return b.String()
}

// settled is the picture when it stays as it is: the kernel looks at the state of links once a second.
func (l *testLab) settled() string {
	l.t.Helper()
	was := l.picture()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		<-time.After(1100 * time.Millisecond)
		is := l.picture()
		if is == was {
			return is
		}
		was = is
	}
	l.t.Fatal("the network changes for a minute already, with nobody at it")
	return ""
}

// full gives the lab a bit of everything.
func (l *testLab) full() (a, b string) {
	a = l.eni("a", "192.168.0.10", public("192.168.0.10", "203.0.113.10"), secondary("192.168.0.20"))
	l.eni("a2", "192.168.0.30", plugged("ens6"), func(e *ENI) { e.Namespace = a })
	b = l.eni("b", "192.168.96.10", func(e *ENI) { e.Prefixes = []netip.Prefix{netip.MustParsePrefix("192.168.97.16/28")} })
	l.apply()
	return a, b
}

func TestApplyTwiceChangesNothing(t *testing.T) {
	l := newLab(t)
	l.full()
	before := l.settled()
	l.apply()
	if after := l.settled(); after != before {
		t.Errorf("before -, after +\n%s", cmp.Diff(strings.Split(before, "\n"), strings.Split(after, "\n")))
	}
}

func TestApplyByAnotherProcess(t *testing.T) {
	l := newLab(t)
	a, b := l.full()
	serve(t, b, ":80")
	before := l.settled()
	// A fabric that knows nothing finds everything.
	l.f = New(l.name, slog.New(slog.DiscardHandler))
	l.apply()
	if after := l.settled(); after != before {
		t.Errorf("before -, after +\n%s", cmp.Diff(strings.Split(before, "\n"), strings.Split(after, "\n")))
	}
	// And removes what it never made.
	l.f = New(l.name, slog.New(slog.DiscardHandler))
	l.state.ENIs = slices.DeleteFunc(l.state.ENIs, func(e ENI) bool { return e.Device == "ens6" })
	l.state.ENIs[0].Addresses = l.state.ENIs[0].Addresses[:1]
	l.apply()
	h := handle(t, a)
	if _, err := h.LinkByName("ens6"); !errors.As(err, new(netlink.LinkNotFoundError)) {
		t.Errorf("ens6 after its detachment: %v, want not found", err)
	}
	if strings.Contains(l.picture(), "192.168.0.20 ") {
		t.Error("the route of an address that was taken away is there")
	}
	reaches(t, a, "", "192.168.96.10:80", "192.168.0.10")
}

func TestApplyMendsWhatIsBroken(t *testing.T) {
	l := newLab(t)
	a, b := l.full()
	serve(t, b, ":80")
	vpc := VPCNamespace(l.name)
	for _, damage := range []string{
		"nft flush ruleset",
		"ip route flush proto 76",
		"ip link del gw",
		"ip link set eni-0000000000a alias half-made",
		"ip addr del 169.254.169.254/32 dev lo",
	} {
		args := append([]string{"netns", "exec", vpc}, strings.Fields(damage)...)
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", damage, err, out)
		}
		l.apply()
		reaches(t, a, "", "192.168.96.10:80", "192.168.0.10")
		if _, err := ping(a, "", IMDS.String(), 100, 64, patience); err != nil {
			t.Errorf("after %s: IMDS: %v", damage, err)
		}
		if _, err := ping(a, "", InternetHost.String(), 100, 64, patience); err != nil {
			t.Errorf("after %s: internet: %v", damage, err)
		}
	}
}

func TestRulesetOfAnotherVersion(t *testing.T) {
	l := newLab(t)
	a, b := l.full()
	serve(t, b, ":80")
	// A set of the same name and another type can't be changed in place.
	script := fmt.Sprintf("delete table inet %s\ntable inet %s {\n set macs {\n type ipv4_addr\n }\n}\n", table, table)
	if _, err := (firewall{namespace: VPCNamespace(l.name)}).run(context.Background(), script, "-f", "-"); err != nil {
		t.Fatal(err)
	}
	l.apply()
	reaches(t, a, "", "192.168.96.10:80", "192.168.0.10")
}

func TestHotPlug(t *testing.T) {
	l := newLab(t)
	a, b := l.full()
	serve(t, b, ":80")
	var plug, unplug []time.Duration
	for i := range 10 {
		l.eni("h", "192.168.32.40", plugged("ens7"), func(e *ENI) { e.Namespace = a })
		start := time.Now()
		l.apply()
		plug = append(plug, time.Since(start))
		h := handle(t, a)
		link, err := h.LinkByName("ens7")
		if err != nil {
			t.Fatal(err)
		}
		attrs := link.Attrs()
		if got, want := attrs.HardwareAddr.String(), "02:00:c0:a8:20:28"; got != want {
			t.Errorf("MAC %s, want %s", got, want)
		}
		if attrs.MTU != vpcMTU {
			t.Errorf("MTU %d, want %d", attrs.MTU, vpcMTU)
		}
		if addrs, err := h.AddrList(link, netlink.FAMILY_ALL); err != nil || len(addrs) != 0 || attrs.OperState == netlink.OperUp {
			t.Errorf("a plugged interface has addresses %v (%v) and is %s, want it bare and down", addrs, err, attrs.OperState)
		}
		if i == 0 {
			// What an agent does, and then it carries traffic.
			address(t, a, "ens7", "192.168.32.40/32")
			routeVia(t, a, "192.168.32.40", "192.168.32.1", "ens7")
			reaches(t, a, "192.168.32.40", "192.168.96.10:80", "192.168.32.40")
		}
		l.state.ENIs = l.state.ENIs[:len(l.state.ENIs)-1]
		start = time.Now()
		l.apply()
		unplug = append(unplug, time.Since(start))
		if _, err := h.LinkByName("ens7"); !errors.As(err, new(netlink.LinkNotFoundError)) {
			t.Errorf("unplugged: %v, want not found", err)
		}
	}
	slices.Sort(plug)
	slices.Sort(unplug)
	t.Logf("plug: median %s, max %s; unplug: median %s, max %s", plug[5], plug[9], unplug[5], unplug[9])
	// The goal is 50 ms; the bound is for a machine that does other things meanwhile.
	if plug[5] > 500*time.Millisecond || unplug[5] > 500*time.Millisecond {
		t.Errorf("plug takes %s, unplug %s", plug[5], unplug[5])
	}
}

// routeVia sends what comes from an address by its own interface, as an agent's per-ENI table does.
func routeVia(t *testing.T, ns, src, via, device string) {
	t.Helper()
	h := handle(t, ns)
	link, err := h.LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	err = h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: netip.MustParseAddr(via).AsSlice(),
		Flags: int(netlink.FLAG_ONLINK), Table: 77})
	if err != nil {
		t.Fatal(err)
	}
	rule := netlink.NewRule()
	rule.Src, rule.Table, rule.Priority = ipNet(netip.PrefixFrom(netip.MustParseAddr(src), 32)), 77, 77
	if err := h.RuleAdd(rule); err != nil {
		t.Fatal(err)
	}
}

func TestInterfaceMoves(t *testing.T) {
	l := newLab(t)
	a, b := l.full()
	// From one instance to another, under another name there; and two swap theirs at once.
	l.state.ENIs[1].Namespace, l.state.ENIs[1].Device = b, "ens9"
	l.apply()
	if _, err := handle(t, a).LinkByName("ens6"); !errors.As(err, new(netlink.LinkNotFoundError)) {
		t.Errorf("where it was: %v, want not found", err)
	}
	if _, err := handle(t, b).LinkByName("ens9"); err != nil {
		t.Errorf("where it is: %v", err)
	}
	l.state.ENIs[1].Namespace, l.state.ENIs[1].Device = a, "eth0"
	l.state.ENIs[1].Configure = true
	l.state.ENIs[0].Namespace, l.state.ENIs[0].Device, l.state.ENIs[0].Configure = b, "ens9", false
	l.apply()
	for ns, device := range map[string]string{a: "eth0", b: "ens9"} {
		if _, err := handle(t, ns).LinkByName(device); err != nil {
			t.Errorf("%s in %s: %v", device, ns, err)
		}
	}
}

func TestReboot(t *testing.T) {
	l := newLab(t)
	a, b := l.full()
	serve(t, a, ":80")
	// A process that still holds the namespace must not keep its interfaces.
	held, err := netns.Open(a)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for range 5 {
		if err := netns.Delete(a); err != nil {
			t.Fatal(err)
		}
		l.apply()
		if _, err := ping(a, "", "192.168.96.10", 100, 64, patience); err != nil {
			t.Fatalf("a after its reboot: %v", err)
		}
	}
	serve(t, a, ":80")
	reaches(t, b, "", "192.168.0.10:80", "192.168.96.10")
	// An instance that is terminated takes its namespace along.
	l.state.ENIs = l.state.ENIs[2:]
	l.state.Namespaces = l.state.Namespaces[1:]
	l.apply()
	if netns.Exists(a) {
		t.Error("the namespace of a terminated instance is there")
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	l := newLab(t)
	before := netnsCount(t)
	other := newLab(t)
	other.name = l.name + "-x" // its namespaces' names begin with those of l
	other.state.Lab, other.f = other.name, New(other.name, slog.New(slog.DiscardHandler))
	other.eni("a", "192.168.0.10")
	other.apply()
	t.Cleanup(func() {
		if err := Remove(context.Background(), other.name); err != nil {
			t.Error(err)
		}
	})
	a, _ := l.full()
	held, err := netns.Open(a)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	// What a crash leaves: a name without a namespace.
	if err := os.WriteFile(netns.Path(l.name+"-i-crashed"), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Remove(context.Background(), l.name); err != nil {
			t.Fatal(err)
		}
	}
	left, err := netns.List(l.name + "-")
	if err != nil {
		t.Fatal(err)
	}
	left = slices.DeleteFunc(left, func(n string) bool { return strings.HasPrefix(n, other.name+"-") })
	if len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if !netns.Exists(other.name + "-a") {
		t.Error("the other lab's namespaces are gone too")
	}
	if err := Remove(context.Background(), other.name); err != nil {
		t.Fatal(err)
	}
	if after := netnsCount(t); after != before {
		t.Errorf("%d names of namespaces, %d before", after, before)
	}
	// In the namespace that something still holds there is no interface of the fabric.
	if err := os.Symlink(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), held.Fd()), netns.Path(a)); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(netns.Path(a))
	links, err := handle(t, a).LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if link.Type() == "veth" {
			t.Errorf("interface %s is left in a namespace that something holds", link.Attrs().Name)
		}
	}
}

// netnsCount counts the names that this test's process made.
func netnsCount(t *testing.T) int {
	t.Helper()
	names, err := netns.List(fmt.Sprintf("fab%d-", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestOneBadInterfaceStopsNoOther(t *testing.T) {
	l := newLab(t)
	a := l.eni("a", "192.168.0.10")
	b := l.eni("b", "192.168.0.11")
	l.state.Namespaces = append(l.state.Namespaces, l.name+"-c")
	l.apply()
	// The name is taken inside the instance.
	v := netlink.NewVeth(netlink.NewLinkAttrs())
	v.Name, v.PeerName = "ens6", "taken"
	if err := handle(t, a).LinkAdd(v); err != nil {
		t.Fatal(err)
	}
	l.eni("a2", "192.168.0.30", plugged("ens6"), func(e *ENI) { e.Namespace = a })
	c := l.eni("c", "192.168.0.12")
	err := l.f.Apply(context.Background(), l.state)
	if err == nil || !strings.Contains(err.Error(), "eni-0000000000a2") {
		t.Errorf("Apply: %v, want an error that names the interface", err)
	}
	serve(t, c, ":80")
	reaches(t, b, "", "192.168.0.12:80", "192.168.0.11")
}
