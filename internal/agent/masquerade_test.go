package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

func flushRuleset(t *testing.T) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	c.FlushRuleset()
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestVPCGrows: a CIDR that the VPC gets later, or a route to a peer, is no longer masqueraded, and connections go on.
func TestVPCGrows(t *testing.T) {
	for name, grow := range map[string]func(*v1alpha1.ClusterNetworkStatus, string){
		"a block of its own": func(s *v1alpha1.ClusterNetworkStatus, cidr string) { s.VPCCIDRs = append(s.VPCCIDRs, cidr) },
		"a peer":             func(s *v1alpha1.ClusterNetworkStatus, cidr string) { s.Peers = append(s.Peers, cidr) },
	} {
		t.Run(name, func(t *testing.T) { testVPCGrows(t, grow) })
	}
}

func testVPCGrows(t *testing.T, grow func(*v1alpha1.ClusterNetworkStatus, string)) {
	r := newRig(t)
	r.start()
	p := r.add("pod")
	r.router.Serve(t, port)
	expectSource(t, "to an address outside the VPC", p.Space, peerVPC, eniOwn[0])
	kept, err := p.Dial(netip.MustParseAddr(world), port)
	r.must(err)
	defer kept.Close()
	cn := r.clusterNetwork()
	grow(&cn.Status, "10.99.0.0/16")
	r.cluster.set(r.nodeNetwork(2), cn)
	nstest.Eventually(t, 10*time.Second, "the pod's own address seen in the new CIDR", func() error {
		from, err := p.Ask(netip.MustParseAddr(peerVPC), port)
		if err == nil && from != p.addr {
			err = fmt.Errorf("seen from %s", from)
		}
		return err
	})
	if _, err := nstest.AskOn(kept); err != nil {
		t.Errorf("connection to the world after the change: %v", err)
	}
}

// TestNATGateway: in a private subnet a pod leaves by its own ENI.
func TestNATGateway(t *testing.T) {
	r := newRig(t)
	cn := r.clusterNetwork()
	cn.Status.Subnets[0].DefaultRoute = v1alpha1.RouteNATGateway
	r.cluster.set(r.nodeNetwork(2), cn)
	r.start()
	r.router.Serve(t, port)
	for i := range 2 {
		p := r.add(fmt.Sprintf("private-%d", i))
		want := eniOwn[0]
		if p.addr.As4()[3] >= 20 {
			want = eniOwn[1]
		}
		expectSource(t, p.id+" to the world", p.Space, world, want)
	}
}

// TestNodePortReply: a connection to the primary ENI's address is translated to a pod on the other ENI;
// the reply leaves by the primary, or the VPC would drop it. The router drops it too.
func TestNodePortReply(t *testing.T) {
	r := newRig(t)
	r.start()
	var p *pod
	for i := range 3 {
		q := r.add(fmt.Sprintf("backend-%d", i))
		if q.addr.As4()[3] >= 20 {
			p = q
		}
	}
	if p == nil {
		t.Fatal("no pod on the secondary ENI")
	}
	p.Serve(t, port)
	translate(t, 30080, p.addr)
	got, err := r.router.Ask(netip.MustParseAddr(eniOwn[0]), 30080)
	if err != nil {
		t.Fatalf("node port on the primary ENI, pod on the secondary: %v", err)
	}
	if got.String() != "10.20.0.1" {
		t.Errorf("the pod saw %s, expected the client's own address", got)
	}
}

// translate does what kube-proxy does for a node port with externalTrafficPolicy Local.
func translate(t *testing.T, nodePort uint16, to netip.Addr) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	table := c.AddTable(&nftables.Table{Name: "kube-proxy", Family: nftables.TableFamilyIPv4})
	chain := c.AddChain(&nftables.Chain{Name: "nat", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(nodePort >> 8), byte(nodePort)}},
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.Immediate{Register: 2, Data: []byte{byte(port >> 8), byte(port & 0xff)}},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2, Specified: true},
	}})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.DelTable(table)
		if err := c.Flush(); err != nil {
			t.Log(err)
		}
	})
}

// TestMasqueradeChangesHands: a node goes from nftables to the programs and back. Connections that one of them
// translated go on, new ones are the other's, and nftables' table goes with the last connection that needs it.
func TestMasqueradeChangesHands(t *testing.T) {
	r := newRig(t)
	r.router.Serve(t, port)
	var p *pod
	kept := map[string]net.Conn{}
	for _, name := range []string{"nftables", "programs", "nftables again", "programs again"} {
		r.conf.BPF.Masquerade = strings.HasPrefix(name, "programs")
		r.start()
		if p == nil {
			p = r.add("pod")
		}
		nstest.Eventually(t, 10*time.Second, name+" translates", func() error {
			if n := sources(t); (n > 0) == r.conf.BPF.Masquerade {
				return fmt.Errorf("nftables has %d sources", n)
			}
			return nil
		})
		for k, c := range kept {
			if _, err := nstest.AskOn(c); err != nil {
				t.Errorf("%s: a connection that %s translated: %v", name, k, err)
			}
		}
		expectSource(t, "a new connection", p.Space, world, eniOwn[0])
		c, err := p.Dial(netip.MustParseAddr(world), port)
		r.must(err)
		defer c.Close()
		kept[name] = c
		if r.conf.BPF.Masquerade && name != "programs" {
			break
		}
		r.stop()
	}
	if sources(t) < 0 {
		t.Error("nftables' table is gone with connections that need it")
	}
	r.stop()
	for _, c := range kept {
		r.must(c.Close())
	}
	r.must(netlink.ConntrackTableFlush(netlink.ConntrackTable))
	r.start()
	nstest.Eventually(t, 10*time.Second, "nftables' table is gone", func() error {
		if n := sources(t); n >= 0 {
			return fmt.Errorf("it is there, with %d sources", n)
		}
		return nil
	})
}

// sources counts those that nftables' table translates; -1: there is no table.
func sources(t *testing.T) int {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	table := &nftables.Table{Name: "weft", Family: nftables.TableFamilyIPv4}
	tables, err := c.ListTablesOfFamily(table.Family)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == table.Name }) {
		return -1
	}
	elements, err := c.GetSetElements(&nftables.Set{Table: table, Name: "sources"})
	if err != nil {
		t.Fatal(err)
	}
	return len(elements)
}

// TestExceptions: the ip-masq-agent's file appears, changes and breaks while pods talk.
func TestExceptions(t *testing.T) {
	r := newRig(t)
	r.conf.IPMasqAgent.Enabled = true
	r.router.Serve(t, port)
	file := filepath.Join(r.dir, "ip-masq-agent")
	write := func(text string) {
		t.Helper()
		r.must(os.WriteFile(file+".new", []byte(text), 0o600), os.Rename(file+".new", file))
	}
	// Without the file special-purpose blocks, as the one of the rig's world, aren't masqueraded.
	r.start()
	p := r.add("pod")
	expectSource(t, "without the file", p.Space, world, p.addr.String())
	becomes := func(what, want string) {
		t.Helper()
		nstest.Eventually(t, 15*time.Second, what, func() error {
			from, err := p.Ask(netip.MustParseAddr(world), port)
			if err == nil && from.String() != want {
				err = fmt.Errorf("seen from %s, expected %s", from, want)
			}
			return err
		})
	}
	write("nonMasqueradeCIDRs: [10.0.0.0/8]\n")
	becomes("the world is masqueraded", eniOwn[0])
	kept, err := p.Dial(netip.MustParseAddr(world), port)
	r.must(err)
	defer kept.Close()
	write("nonMasqueradeCIDRs: [10.0.0.0/8, 198.51.100.0/24]\n")
	becomes("an exception is followed", p.addr.String())
	if from, err := nstest.AskOn(kept); err != nil || from.String() != eniOwn[0] {
		t.Errorf("a connection from before: seen from %s, %v, expected %s as before", from, err, eniOwn[0])
	}
	write("nonMasqueradeCIDRs: [198.51.100.0]\n")
	nstest.Eventually(t, 15*time.Second, "somebody is told of what can't be read", func() error {
		if !r.cluster.warned("IPMasqAgentUnreadable") {
			return errors.New("no event")
		}
		return nil
	})
	becomes("the last exceptions stand", p.addr.String())
}

// TestOnlyNamedInterfaces: what would leave by an ENI that isn't named keeps its own address, which a private
// subnet's router takes; the others are masqueraded.
func TestOnlyNamedInterfaces(t *testing.T) {
	for _, programs := range []bool{true, false} {
		t.Run(fmt.Sprintf("programs %t", programs), func(t *testing.T) {
			r := newRig(t)
			r.conf.BPF.Masquerade = programs
			r.conf.MasqueradeInterfaces = []string{"eth0"}
			cn := r.clusterNetwork()
			cn.Status.Subnets[0].DefaultRoute = v1alpha1.RouteNATGateway
			r.cluster.set(r.nodeNetwork(2), cn)
			r.start()
			r.router.Serve(t, port)
			for i := range 3 {
				p := r.add(fmt.Sprintf("pod-%d", i))
				want := eniOwn[0]
				if p.addr.As4()[3] >= 20 {
					want = p.addr.String()
				}
				expectSource(t, p.id+" to the world", p.Space, world, want)
			}
		})
	}
}
