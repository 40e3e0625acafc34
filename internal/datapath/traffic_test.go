package datapath

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func forEachVariant(t *testing.T, test func(t *testing.T, n *node)) {
	for _, v := range variants(t) {
		t.Run(v.String(), func(t *testing.T) { test(t, newNodeOf(t, v)) })
	}
}

func TestTraffic(t *testing.T) {
	forEachVariant(t, func(t *testing.T, n *node) {
		a, b := n.addPod(t, 1, podAddr), n.addPod(t, 2, otherAddr)
		n.router.echo(t, farAddr+":7")
		b.echo(t, otherAddr+":7")
		n.host.echo(t, nodeAddr+":7")
		a.echo(t, podAddr+":7")
		for name, c := range map[string]net.Conn{
			"pod to far, by the ENI that owns its address": a.dial(t, "", farAddr+":7"),
			"pod to pod":  a.dial(t, "", otherAddr+":7"),
			"pod to node": a.dial(t, "", nodeAddr+":7"),
			"node to pod": n.host.dial(t, "", podAddr+":7"),
			"node to far": n.host.dial(t, "", farAddr+":7"),
			"far to pod":  n.router.dial(t, farAddr, podAddr+":7"),
			"node to far, by the second ENI's address": n.host.dial(t, node2Addr, farAddr+":7"),
		} {
			if err := exchange(c, name, patience); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		have := readCounters(t, n.d)
		for _, c := range []Counter{
			{Hook: FromPod, Direction: Egress, Reason: n.answers()},
			{Hook: FromPod, Direction: Egress, Reason: ReasonToStack},
			{Hook: FromPod, Direction: Egress, Reason: ReasonDelivered},
			{Hook: FromPod, Direction: Egress, Reason: ReasonSent},
			{Hook: ToPod, Direction: Ingress, Reason: ReasonForwarded},
			{Hook: FromNetdev, Direction: Ingress, Reason: ReasonForwarded},
			{Hook: FromNetdev, Direction: Ingress, Reason: ReasonDelivered},
			{Hook: ToNetdev, Direction: Egress, Reason: ReasonForwarded},
			{Hook: ToNetdev, Direction: Egress, Reason: ReasonRedirected},
		} {
			if have[c] == 0 {
				t.Errorf("%s %s was not counted: %v", c.Hook, c.Reason, have)
			}
		}
		for c, packets := range have {
			if c.Reason.Drop() && packets > 0 && c.Reason != ReasonFamilyOff {
				t.Errorf("%s dropped %d packets: %s", c.Hook, packets, c.Reason)
			}
		}
	})
}

// Without to_netdev the router's source check drops what the rig's routes send: the redirect is what
// makes TestTraffic pass.
func TestWithoutTheRightENINothingComesBack(t *testing.T) {
	n := newNode(t, AttachAuto)
	a := n.addPod(t, 1, podAddr)
	n.router.echo(t, farAddr+":7")
	c := a.dial(t, "", farAddr+":7")
	must(t, exchange(c, "with", patience))
	must(t, n.d.DeleteENI(1))
	if err := exchange(c, "without", 300*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("exchange ended with %v, expected a time-out", err)
	}
	must(t, n.d.SetENI(n.enis[0]))
	must(t, exchange(c, "again", patience))

	// The owner is gone: counted, not guessed.
	diff := counted(t, n.d, func() {
		must(t, n.d.DeleteENI(2))
		if err := exchange(c, "no owner", 200*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("exchange ended with %v, expected a time-out", err)
		}
	})
	if diff[Counter{Hook: ToNetdev, Direction: Egress, Reason: ReasonNoENI}] == 0 {
		t.Errorf("the missing ENI was not counted: %v", diff)
	}
}

func TestForgedPacketsAreDroppedAndCounted(t *testing.T) {
	forEachVariant(t, func(t *testing.T, n *node) {
		a := n.addPod(t, 1, podAddr)
		n.addPod(t, 2, otherAddr)
		gw := a.HostMAC
		udp := func(src, dst string) []byte {
			return ethernetFrame(gw, a.PodMAC, 0x0800, ipv4Packet{src: src, dst: dst, protocol: 17, payload: udpPayload(9, 9, []byte("forged"))}.bytes())
		}
		tagged := ethernetFrame(gw, a.PodMAC, 0x8100, append([]byte{0, 5, 8, 0}, udp(podAddr, otherAddr)[14:]...))
		for _, c := range []struct {
			name  string
			frame []byte
			want  Reason
		}{
			{"another pod's address", udp(otherAddr, farAddr), ReasonSourceAddress},
			{"the node's address", udp(nodeAddr, otherAddr), ReasonSourceAddress},
			{"another's MAC", ethernetFrame(gw, mac("02:00:00:00:00:99"), 0x0800, udp(podAddr, otherAddr)[14:]), ReasonSourceMAC},
			{"a tag", tagged, ReasonVLAN},
			{"half an IPv4 header", ethernetFrame(gw, a.PodMAC, 0x0800, make([]byte, 10)), ReasonTruncated},
			{"no IPv4 header", ethernetFrame(gw, a.PodMAC, 0x0800, nil), ReasonTruncated},
			{"half an ARP", ethernetFrame(gw, a.PodMAC, 0x0806, make([]byte, 10)), ReasonTruncated},
			{"IPv6", ethernetFrame(gw, a.PodMAC, 0x86dd, make([]byte, 40)), ReasonFamilyOff},
			{"the node's loopback", udp(podAddr, "127.0.0.1"), ReasonLoopbackDest},
		} {
			before := readCounters(t, n.d)
			key := Counter{Hook: FromPod, Direction: Egress, Reason: c.want}
			a.sendFrames(t, "eth0", c.frame)
			wait(t, c.name+" is counted as "+c.want.String(), func() bool { return readCounters(t, n.d)[key] > before[key] })
			after := readCounters(t, n.d)
			for _, passed := range []Counter{{Hook: ToPod, Direction: Ingress, Reason: ReasonForwarded}, {Hook: FromPod, Direction: Egress, Reason: ReasonDelivered}} {
				if after[passed] != before[passed] {
					t.Errorf("%s: reached the other pod", c.name)
				}
			}
		}
	})
}

// A spoofing process with sockets, not frames.
func TestForeignAddressInThePodIsUseless(t *testing.T) {
	n := newNode(t, AttachAuto)
	a := n.addPod(t, 1, podAddr)
	n.router.echo(t, farAddr+":7")
	must(t, exchange(a.dial(t, "", farAddr+":7"), "its own", patience))
	a.do(t, func() error { return addAddress("eth0", otherAddr+"/32") })
	c := a.dial(t, otherAddr, farAddr+":7")
	diff := counted(t, n.d, func() {
		if err := exchange(c, "forged", 200*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("exchange ended with %v, expected a time-out", err)
		}
	})
	if diff[Counter{Hook: FromPod, Direction: Egress, Reason: ReasonSourceAddress}] == 0 {
		t.Errorf("not counted: %v", diff)
	}
	if diff[Counter{Hook: ToNetdev, Direction: Egress, Reason: ReasonRedirected}] != 0 || diff[Counter{Hook: FromPod, Direction: Egress, Reason: ReasonSent}] != 0 {
		t.Errorf("left the node: %v", diff)
	}
}

func TestNobodyOutsideSpeaksAsALocalPod(t *testing.T) {
	n := newNode(t, AttachAuto)
	n.addPod(t, 1, podAddr)
	forged := ethernetFrame(n.enis[0].MAC, mac("0e:00:00:00:00:01"), 0x0800,
		ipv4Packet{src: podAddr, dst: nodeAddr, protocol: 17, payload: udpPayload(9, 9, nil)}.bytes())
	key := Counter{Hook: FromNetdev, Direction: Ingress, Reason: ReasonSourceIsLocal}
	n.router.sendFrames(t, "reni1", forged)
	wait(t, "the forged packet is counted", func() bool { return readCounters(t, n.d)[key] > 0 })
}

// A pod with a VLAN device of its own: the tag is beside the packet, not in it.
func TestVLANDeviceInThePod(t *testing.T) {
	n := newNode(t, AttachAuto)
	a := n.addPod(t, 1, podAddr)
	err := a.try(func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = "eth0.5", eth0.Attrs().Index
		return netlink.LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: 5})
	})
	if errors.Is(err, netlink.ErrNotImplemented) || err != nil && err.Error() == "operation not supported" {
		t.Skip("the kernel has no VLAN devices; TestForgedPacketsAreDroppedAndCounted sends tagged frames")
	}
	must(t, err)
	key := Counter{Hook: FromPod, Direction: Egress, Reason: ReasonVLAN}
	a.do(t, func() error {
		return errors.Join(linkUp("eth0.5"), addAddress("eth0.5", "10.9.9.1/24"))
	})
	c := a.dial(t, "10.9.9.1", "10.9.9.2:7")
	_, err = c.Write([]byte("tagged"))
	must(t, err)
	wait(t, "the tagged frame is counted", func() bool { return readCounters(t, n.d)[key] > 0 })
}

// The agent restarts again and again, each time with programs of its own, and nothing is lost.
func TestRestartUnderLoad(t *testing.T) {
	forEachVariant(t, func(t *testing.T, n *node) {
		a, b := n.addPod(t, 1, podAddr), n.addPod(t, 2, otherAddr)
		n.router.echo(t, farAddr+":7")
		b.echo(t, otherAddr+":7")
		flows := []net.Conn{a.dial(t, "", farAddr+":7"), a.dial(t, "", otherAddr+":7")}
		for _, c := range flows {
			must(t, exchange(c, "warm", patience))
		}
		stop := make(chan struct{})
		results := make(chan error, len(flows))
		for _, c := range flows {
			go func() { results <- load(c, stop) }()
		}
		programs := map[Hook]string{}
		for i := range 6 {
			must(t, n.d.Close())
			n.d = openDatapath(t, n.cfg)
			must(t, n.setAddresses())
			for _, e := range n.enis {
				must(t, n.d.SetENI(e))
			}
			for _, p := range n.pods {
				must(t, n.d.SetAddress(p.Addr, p.ENI))
				must(t, n.d.AddEndpoint(p.Endpoint))
			}
			must(t, n.d.Prune([]Endpoint{a.Endpoint, b.Endpoint}, n.enis, n.addresses()))
			for h, p := range n.d.programs {
				id, ok := programID(p)
				if !ok {
					t.Fatal("the kernel gives programs no ids")
				}
				if text := fmt.Sprint(id); programs[h] == text {
					t.Fatalf("restart %d runs the old program of %s", i, h)
				} else {
					programs[h] = text
				}
			}
		}
		close(stop)
		for range flows {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

// enoughTalk tells a flow that goes on from one that is stuck, on the busiest machine.
const enoughTalk = 10

// load exchanges datagrams, one at a time, until stop; each must come back.
func load(c net.Conn, stop <-chan struct{}) error {
	for i := 0; ; i++ {
		select {
		case <-stop:
			if i < enoughTalk {
				return fmt.Errorf("only %d exchanges under load, expected %d or more", i, enoughTalk)
			}
			return nil
		default:
		}
		if err := exchange(c, fmt.Sprint("load ", i), patience); err != nil {
			return fmt.Errorf("exchange %d to %s was lost: %w", i, c.RemoteAddr(), err)
		}
	}
}

// With the agent gone everything goes on.
func TestTrafficGoesOnWithoutTheAgent(t *testing.T) {
	forEachVariant(t, func(t *testing.T, n *node) {
		a := n.addPod(t, 1, podAddr)
		n.router.echo(t, farAddr+":7")
		c := a.dial(t, "", farAddr+":7")
		must(t, exchange(c, "before", patience))
		must(t, n.d.Close())
		must(t, exchange(c, "after", patience))
		forged := ethernetFrame(a.HostMAC, a.PodMAC, 0x0800, ipv4Packet{src: otherAddr, dst: farAddr, protocol: 17, payload: udpPayload(9, 9, nil)}.bytes())
		a.sendFrames(t, "eth0", forged)
		n.d = openDatapath(t, n.cfg)
		key := Counter{Hook: FromPod, Direction: Egress, Reason: ReasonSourceAddress}
		wait(t, "the forged packet is counted", func() bool { return readCounters(t, n.d)[key] == 1 })
	})
}
