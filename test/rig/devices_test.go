package rig_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/netkit"
	"github.com/weft-cni/weft/test/rig"
)

func TestMain(m *testing.M) {
	if child, err := rig.Child(os.Args); child {
		if err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// generous is for what must happen, on however slow a machine.
const generous = 10 * time.Minute

// A bed is two nodes on one wire, of which the first has an agent that the test starts and ends. The other is
// a plain host of the VPC.
type bed struct {
	t          *testing.T
	node, host rig.Space
	spec       rig.Spec
	conf       config.Config
	agent      *rig.Agent
}

const (
	nodeAddr = "10.20.0.10"
	hostAddr = "10.20.0.20"
)

func newBed(t *testing.T) *bed {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces and eBPF")
	}
	b := &bed{t: t, conf: config.Default()}
	for _, s := range []*rig.Space{&b.node, &b.host} {
		var err error
		if *s, err = rig.NewSpace(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
	}
	macs := []net.HardwareAddr{{0x0a, 0, 0, 0, 0, 1}, {0x0a, 0, 0, 0, 0, 2}}
	router := netip.MustParseAddr("10.20.0.1")
	b.must(b.node.Set("ipv4/ip_forward=1", "ipv4/conf/all/rp_filter=0", "ipv4/conf/default/rp_filter=0"),
		rig.Wire(rig.End{Space: b.node, Name: "eth0", MAC: macs[0], Address: netip.MustParseAddr(nodeAddr), Next: router},
			rig.End{Space: b.host, Name: "eth0", MAC: macs[1], Address: netip.MustParseAddr(hostAddr), Next: router}))
	b.spec = rig.Spec{Name: "node", Dir: t.TempDir(), Plugin: plugin(t), AddWait: 50 * time.Second, Config: &b.conf,
		Assignment: rig.Assignment{MAC: macs[0].String(), Address: nodeAddr, SubnetCIDR: "10.20.0.0/16", Pods: []string{"10.20.0.101", "10.20.0.102", "10.20.0.103", "10.20.0.104"}}}
	// What agents pin outlives them.
	b.must(os.MkdirAll(b.spec.BPFFS(), 0o755), unix.Mount("bpf", b.spec.BPFFS(), "bpf", 0, ""))
	t.Cleanup(func() {
		if b.agent != nil {
			b.agent.Kill()
		}
		b.must(unix.Unmount(b.spec.BPFFS(), unix.MNT_DETACH))
	})
	return b
}

func (b *bed) must(errs ...error) {
	b.t.Helper()
	if err := errors.Join(errs...); err != nil {
		b.t.Fatal(err)
	}
}

// plugin is weft-cni: given, or built.
func plugin(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("WEFT_CNI"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "weft-cni")
	cmd := exec.Command("go", "build", "-o", path, "github.com/weft-cni/weft/cmd/weft-cni")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v: %s", err, out)
	}
	return path
}

// restart kills the agent, if there is one, and starts another that gives pods these devices.
func (b *bed) restart(mode string) {
	b.t.Helper()
	if b.agent != nil {
		b.must(b.agent.Kill())
		b.agent = nil
	}
	b.conf.BPF.DatapathMode = mode
	ctx, cancel := context.WithTimeout(b.t.Context(), generous)
	defer cancel()
	var err error
	b.agent, err = rig.Start(ctx, b.node, b.spec)
	b.must(err)
}

// A pod talks to everybody from a port of its own.
type pod struct {
	rig.Space
	id   string
	addr netip.Addr
	kind string
}

func (b *bed) add(id, kind string) *pod {
	b.t.Helper()
	p := &pod{id: id, kind: kind}
	var err error
	if p.Space, err = rig.NewSpace(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { p.Close() })
	p.addr, err = b.spec.Add(b.t.Context(), p.Space, id)
	b.must(err)
	b.echo(p.Space, p.addr)
	return p
}

// echo answers datagrams until the test ends.
func (b *bed) echo(s rig.Space, addr netip.Addr) {
	b.t.Helper()
	var c net.PacketConn
	b.must(s.Do(func() (err error) {
		c, err = net.ListenPacket("udp4", netip.AddrPortFrom(addr, 7).String())
		return err
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				c.WriteTo(buf[:n], from)
			}
		}
	}()
	b.t.Cleanup(func() { c.Close(); <-done })
}

func dial(s rig.Space, to netip.Addr) (c net.Conn, err error) {
	err = s.Do(func() (err error) {
		c, err = net.Dial("udp4", netip.AddrPortFrom(to, 7).String())
		return err
	})
	return c, err
}

func ask(c net.Conn, text string) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	buf := make([]byte, 256)
	n, err := c.Read(buf)
	if err == nil && string(buf[:n]) != text {
		err = fmt.Errorf("heard %q, expected %q", buf[:n], text)
	}
	return err
}

// look wants each pod on its kind of device, as it was given, and all of them, the node and the host reached
// from each.
func (b *bed) look(when string, pods ...*pod) {
	b.t.Helper()
	everybody := map[string]netip.Addr{"node": netip.MustParseAddr(nodeAddr), "host": netip.MustParseAddr(hostAddr)}
	for _, p := range pods {
		everybody[p.id] = p.addr
	}
	for _, p := range pods {
		var l netlink.Link
		b.must(p.Do(func() (err error) {
			l, err = netlink.LinkByName("eth0")
			return err
		}))
		if got := kindOf(l); got != p.kind {
			b.t.Errorf("%s: pod %s has a %s, expected a %s", when, p.id, got, p.kind)
		}
		if l.Attrs().MTU != 9001 {
			b.t.Errorf("%s: the device of pod %s has MTU %d, expected that of the ENI, 9001", when, p.id, l.Attrs().MTU)
		}
		if err := b.spec.Check(b.t.Context(), p.Space, p.id); err != nil {
			b.t.Errorf("%s: %v", when, err)
		}
		for name, addr := range everybody {
			if name == p.id {
				continue
			}
			c, err := dial(p.Space, addr)
			if err == nil {
				err = errors.Join(ask(c, p.id), c.Close())
			}
			if err != nil {
				b.t.Errorf("%s: pod %s, a %s, asks %s: %v", when, p.id, p.kind, name, err)
			}
		}
	}
	for name, s := range map[string]rig.Space{"node": b.node, "host": b.host} {
		for _, p := range pods {
			c, err := dial(s, p.addr)
			if err == nil {
				err = errors.Join(ask(c, name), c.Close())
			}
			if err != nil {
				b.t.Errorf("%s: the %s asks pod %s, a %s: %v", when, name, p.id, p.kind, err)
			}
		}
	}
}

func kindOf(l netlink.Link) string {
	if d, ok := l.(*netlink.Netkit); ok && d.Mode == netlink.NETKIT_MODE_L2 {
		return "netkit-l2"
	}
	return l.Type()
}

// The setting changes while pods live: each keeps the device that it was made with, and all talk to all, through
// restarts of the agent and the loss of its journal, until they go and leave nothing.
func TestPodsKeepTheirDevices(t *testing.T) {
	b := newBed(t)
	kinds := []string{config.DatapathVeth}
	for mode, l2 := range map[string]bool{config.DatapathNetkit: false, config.DatapathNetkitL2: true} {
		err := netkit.Probe(l2)
		var missing *netkit.MissingError
		switch {
		case err == nil:
			kinds = append(kinds, mode)
		case errors.As(err, &missing):
			t.Logf("not tried with %s: %v", mode, err)
		default:
			t.Fatal(err)
		}
	}
	b.echo(b.node, netip.MustParseAddr(nodeAddr))
	b.echo(b.host, netip.MustParseAddr(hostAddr))
	var pods []*pod
	for _, mode := range kinds {
		b.restart(mode)
		st, err := b.agent.Status()
		b.must(err)
		if st.Datapath == nil || st.Datapath.PodDevice != mode {
			t.Errorf("status tells of %+v, expected pods on %s", st.Datapath, mode)
		}
		pods = append(pods, b.add("pod-"+mode, mode))
		b.look("with "+mode, pods...)
	}
	// One that nobody set out to restart sees nothing of it.
	last := pods[len(pods)-1]
	c, err := dial(last.Space, netip.MustParseAddr(hostAddr))
	b.must(err)
	defer c.Close()
	b.must(ask(c, "before"))
	b.restart(config.DatapathVeth)
	b.must(ask(c, "after"))
	b.look("with a new agent", pods...)

	b.must(b.agent.Kill())
	b.agent = nil
	b.must(ask(c, "without an agent"))
	b.must(os.RemoveAll(filepath.Join(b.spec.Dir, "state")), os.MkdirAll(filepath.Join(b.spec.Dir, "state"), 0o755))
	b.restart(config.DatapathVeth)
	b.must(ask(c, "after the journal is lost"))
	b.look("without the journal", pods...)

	for _, p := range pods {
		b.must(b.spec.Del(t.Context(), p.Space, p.id))
	}
	b.must(b.node.Do(func() error {
		all, err := netlink.LinkList()
		for _, l := range all {
			if l.Type() == "netkit" || l.Type() == "veth" && l.Attrs().Name != "eth0" {
				t.Errorf("device %s, a %s, is left", l.Attrs().Name, l.Type())
			}
		}
		return err
	}))
	pins, err := os.ReadDir(filepath.Join(b.spec.BPFFS(), "weft", "links"))
	b.must(err)
	for _, p := range pins {
		if strings.Contains(p.Name(), "pod") {
			t.Errorf("pin %s is left", p.Name())
		}
	}
}

// auto never fails for want of netkit, and says what there is; netkit asked for by name does.
func TestDevicesByTheKernel(t *testing.T) {
	b := newBed(t)
	b.echo(b.node, netip.MustParseAddr(nodeAddr))
	b.echo(b.host, netip.MustParseAddr(hostAddr))
	b.restart(config.DatapathAuto)
	st, err := b.agent.Status()
	b.must(err)
	if st.Datapath == nil {
		t.Fatal("status doesn't tell of the datapath")
	}
	fallback := strings.Join(st.Datapath.Fallbacks, "\n")
	if said := strings.Contains(fallback, "instead of netkit"); said == (st.Datapath.PodDevice == "netkit") {
		t.Errorf("pods get %s, and the fallbacks are %q", st.Datapath.PodDevice, fallback)
	}
	b.look("by itself", b.add("pod", st.Datapath.PodDevice))

	missing := netkit.Probe(false)
	if missing == nil {
		return
	}
	b.must(b.agent.Kill())
	b.agent = nil
	b.conf.BPF.DatapathMode = config.DatapathNetkit
	refused, err := rig.Launch(b.node, b.spec)
	b.must(err)
	defer refused.Kill()
	b.must(rig.Await(t.Context(), generous, "the agent refuses", func() error {
		log, err := os.ReadFile(b.spec.LogFile())
		if err == nil && !strings.Contains(string(log), "bpf.datapathMode is netkit, which kernel") {
			err = errors.New("its log doesn't say so yet")
		}
		return err
	}))
}
