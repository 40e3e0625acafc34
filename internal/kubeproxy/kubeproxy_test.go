package kubeproxy

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

// The network of the tests: a client, a node that forwards and has kube-proxy's rules, and a pod.
type rig struct{ client, node, pod nstest.Space }

func newRig(t *testing.T) rig {
	t.Helper()
	nstest.NeedRoot(t)
	r := rig{nstest.New(t), nstest.New(t), nstest.New(t)}
	mac := func(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }
	for _, err := range []error{
		nstest.Pair(r.node, "c0", mac(1), r.client, "eth0"),
		nstest.Pair(r.node, "p0", mac(3), r.pod, "eth0"),
		r.node.Up("c0", "10.8.0.1/24"), r.client.Up("eth0", "10.8.0.2/24"),
		r.node.Up("p0", "10.9.0.1/24"), r.pod.Up("eth0", "10.9.0.2/24"),
		r.client.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.8.0.1"), "eth0"),
		r.pod.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.9.0.1"), "eth0"),
		r.node.Set("ipv4/ip_forward", "1"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r.pod.Serve(t, 8080)
	return r
}

// run executes a program inside the node; the machine may lack it.
func (r rig) run(t *testing.T, file string, program string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("could not run: %v", err)
	}
	cmd := exec.Command(path, args...)
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = strings.NewReader(string(b))
	}
	var out []byte
	if err := r.node.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
		t.Fatalf("%s %v: %v: %s", program, args, err, out)
	}
	return string(out)
}

func (r rig) find(t *testing.T) Found {
	t.Helper()
	var f Found
	if err := r.node.Do(func() (err error) { f, err = Find(); return err }); err != nil {
		t.Fatal(err)
	}
	return f
}

func (r rig) remove(t *testing.T) int {
	t.Helper()
	n := 0
	if err := r.node.Do(func() (err error) { n, err = Remove(); return err }); err != nil {
		t.Fatal(err)
	}
	return n
}

func frontends(t testing.TB, texts ...string) map[Frontend]bool {
	t.Helper()
	out := map[Frontend]bool{}
	for _, s := range texts {
		at, proto, _ := strings.Cut(s, "/")
		if p, ok := strings.CutPrefix(at, ":"); ok {
			var port uint16
			if _, err := fmt.Sscan(p, &port); err != nil {
				t.Fatal(err)
			}
			out[nodePort(port, proto)] = true
			continue
		}
		out[Frontend{netip.MustParseAddrPort(at), proto}] = true
	}
	return out
}

// connections is how many are held while the rules go.
const connections = 1000

func connect(t *testing.T, r rig, addr string, port, n int) []net.Conn {
	t.Helper()
	var held []net.Conn
	for range n {
		c, err := r.client.Dial(netip.MustParseAddr(addr), port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := nstest.AskOn(c); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	return held
}

// TestRemove: what kube-proxy has is found, goes whole, and nothing else; connections that it translated go on, and new
// ones aren't translated.
func TestRemove(t *testing.T) {
	for _, mode := range []struct {
		kind, file string
		load, dump []string
		// stays are pieces of the rules that aren't kube-proxy's.
		stays []string
	}{
		{KindIPTables, "testdata/iptables.rules", []string{"iptables-nft-restore"}, []string{"iptables-nft-save"}, others()},
		{KindLegacy, "testdata/iptables.rules", []string{"iptables-legacy-restore"}, []string{"iptables-legacy-save"}, others()},
		{KindNFTables, "testdata/nftables.rules", []string{"nft", "-f", "-"}, []string{"nft", "list", "ruleset"}, []string{"table ip others", "tcp dport 9 drop"}},
	} {
		t.Run(mode.kind, func(t *testing.T) {
			r := newRig(t)
			if f := r.find(t); f.Any() || len(f.Frontends) > 0 {
				t.Fatalf("an empty namespace has %+v", f)
			}
			r.run(t, mode.file, mode.load[0], mode.load[1:]...)
			before := r.run(t, "", mode.dump[0], mode.dump[1:]...)
			f := r.find(t)
			want := frontends(t, "10.100.0.20:80/TCP", "203.0.113.7:80/TCP", "10.100.0.10:53/UDP", "10.100.0.30:80/TCP", ":30080/TCP")
			if mode.kind == KindNFTables {
				want[nodePort(30030, "TCP")] = true // iptables has one without endpoints among external addresses
			}
			if !reflect.DeepEqual(f.Kinds, []string{mode.kind}) || f.Chains == 0 || !reflect.DeepEqual(f.Frontends, want) {
				t.Fatalf("found %+v, expected %v", f, want)
			}

			held := connect(t, r, "10.100.0.20", 80, connections)
			held = append(held, connect(t, r, "10.8.0.1", 30080, 100)...) // translated both ways
			if n := r.remove(t); n == 0 {
				t.Error("nothing was removed")
			}
			for i, c := range held {
				if _, err := nstest.AskOn(c); err != nil {
					t.Fatalf("connection %d of %d: %v", i, len(held), err)
				}
			}
			if f := r.find(t); f.Any() || len(f.Frontends) > 0 {
				t.Errorf("after removal there are %+v", f)
			}
			after := r.run(t, "", mode.dump[0], mode.dump[1:]...)
			for _, s := range mode.stays {
				if strings.Count(after, s) != strings.Count(before, s) || !strings.Contains(after, s) {
					t.Errorf("%q was there %d times and is %d times:\n%s", s, strings.Count(before, s), strings.Count(after, s), after)
				}
			}
			if _, err := r.client.Dial(netip.MustParseAddr("10.8.0.1"), 30080); err == nil {
				t.Error("a node port is served still")
			}
			if n := r.remove(t); n != 0 {
				t.Errorf("a second removal took %d chains", n)
			}
			if err := r.node.Do(Release); err != nil {
				t.Error(err)
			}
			if after := r.run(t, "", "nft", "list", "tables"); strings.Contains(after, heldTable) {
				t.Errorf("after the release there are %s", after)
			}
		})
	}
}

// TestWayBack: the same rules again find the connections that were there before they went.
func TestWayBack(t *testing.T) {
	for _, mode := range []struct {
		kind, file string
		load       []string
	}{
		{KindIPTables, "testdata/iptables.rules", []string{"iptables-nft-restore", "--noflush"}},
		{KindLegacy, "testdata/iptables.rules", []string{"iptables-legacy-restore", "--noflush"}},
		{KindNFTables, "testdata/nftables.rules", []string{"nft", "-f", "-"}},
	} {
		t.Run(mode.kind, func(t *testing.T) {
			r := newRig(t)
			r.run(t, mode.file, mode.load[0], mode.load[1:]...)
			held := connect(t, r, "10.100.0.20", 80, connections)
			r.remove(t)
			// kube-proxy writes its own alone.
			if mode.kind == KindNFTables {
				r.run(t, "", "nft", "delete", "table", "ip", "others")
			}
			r.run(t, mode.file, mode.load[0], mode.load[1:]...)
			connect(t, r, "10.8.0.1", 30080, 1)
			for i, c := range held {
				if _, err := nstest.AskOn(c); err != nil {
					t.Fatalf("connection %d after the way back: %v", i, err)
				}
			}
		})
	}
}

// others are rules and chains that aren't kube-proxy's, among them kubelet's.
func others() []string {
	return []string{":OTHERS", "-j OTHERS", "-A OTHERS -j DROP", "-A OTHERS -p tcp -j DNAT --to-destination 10.9.0.2:7",
		":KUBE-FIREWALL", "-A INPUT -j KUBE-FIREWALL", "-A OUTPUT -j KUBE-FIREWALL", "-A KUBE-FIREWALL ! -s 127.0.0.0/8", ":KUBE-KUBELET-CANARY", ":KUBE-IPTABLES-HINT"}
}

// TestForeignJump: a chain that somebody else's rule leads to stays, with what it needs.
func TestForeignJump(t *testing.T) {
	for _, tool := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(tool, func(t *testing.T) {
			r := newRig(t)
			r.run(t, "testdata/iptables.rules", tool+"-restore")
			r.run(t, "", tool, "-t", "nat", "-I", "OTHERS", "-p", "tcp", "--dport", "77", "-j", "KUBE-MARK-MASQ")
			r.remove(t)
			after := r.run(t, "", tool+"-save")
			for _, s := range []string{"--dport 77 -j KUBE-MARK-MASQ", "-A KUBE-MARK-MASQ -j MARK", ":KUBE-POSTROUTING", "-j KUBE-POSTROUTING", "-A KUBE-POSTROUTING"} {
				if !strings.Contains(after, s) {
					t.Errorf("%q has gone:\n%s", s, after)
				}
			}
			for _, s := range []string{"KUBE-SVC", "KUBE-SEP", "KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-FORWARD"} {
				if strings.Contains(after, s) {
					t.Errorf("%q is there still", s)
				}
			}
		})
	}
}

// TestCounters: other rules keep their counts.
func TestCounters(t *testing.T) {
	r := newRig(t)
	r.run(t, "testdata/iptables.rules", "iptables-legacy-restore")
	r.run(t, "", "iptables-legacy", "-t", "nat", "-R", "OTHERS", "1", "-p", "tcp", "-c", "12", "3456", "-j", "RETURN")
	r.remove(t)
	if after := r.run(t, "", "iptables-legacy-save", "-c"); !strings.Contains(after, "[12:3456] -A OTHERS -p tcp -j RETURN") {
		t.Errorf("counts are lost:\n%s", after)
	}
}

func TestIPVS(t *testing.T) {
	r := newRig(t)
	if err := r.node.Do(func() error {
		return netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: ipvsDevice}})
	}); err != nil {
		t.Skipf("could not run: no dummy devices: %v", err)
	}
	if f := r.find(t); !reflect.DeepEqual(f.Kinds, []string{KindIPVS}) || len(f.Stays) != 1 {
		t.Errorf("found %+v", f)
	}
}

func FuzzLegacyTable(f *testing.F) {
	f.Add([]byte{}, uint32(0x1f))
	b := make([]byte, 152)
	b[88], b[90], b[112] = 112, 152, 40
	f.Add(b, uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, valid uint32) {
		for _, l := range []layout{ipv4(), ipv6()} {
			tab := &table{layout: l, name: "nat", valid: valid}
			if tab.parse(b) != nil {
				continue
			}
			for _, r := range tab.rules {
				tab.frontend(r, false)
			}
			if next, from, _, err := tab.without(); err == nil && len(next.rules) != len(from) {
				t.Fatal("rules without an origin")
			}
		}
	})
}
