package nodenet

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

// flow is a connection: who sent the first packet to whom, and what the answer has.
type flow struct{ from, to, replyFrom, replyTo string }

func (f flow) make(t testing.TB, port uint16) {
	t.Helper()
	at := func(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
	c := &netlink.ConntrackFlow{FamilyType: unix.AF_INET, TimeOut: 600}
	c.Forward = netlink.IPTuple{SrcIP: at(f.from), DstIP: at(f.to), Protocol: unix.IPPROTO_UDP, SrcPort: port, DstPort: 53}
	c.Reverse = netlink.IPTuple{SrcIP: at(f.replyFrom), DstIP: at(f.replyTo), Protocol: unix.IPPROTO_UDP, SrcPort: 53, DstPort: port}
	if err := netlink.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, c); err != nil {
		t.Fatalf("%+v: %v", f, err)
	}
}

func flows(t testing.TB) []flow {
	t.Helper()
	all, err := dump(func() ([]*netlink.ConntrackFlow, error) {
		return netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []flow
	for _, c := range all {
		out = append(out, flow{c.Forward.SrcIP.String(), c.Forward.DstIP.String(), c.Reverse.SrcIP.String(), c.Reverse.DstIP.String()})
	}
	return out
}

// A removed endpoint's connections go, whichever way and however translated; everybody else's stay.
func TestForgetFlows(t *testing.T) {
	nstest.NeedRoot(t)
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		t.Fatal(err)
	}
	const pod, other, service, node, client, world = "10.0.0.5", "10.0.0.50", "172.20.0.10", "10.0.0.1", "10.0.7.7", "198.51.100.9"
	gone := []flow{
		{pod, other, other, pod},            // to a pod
		{other, pod, pod, other},            // from a pod
		{pod, world, world, node},           // masqueraded: the answer has the node's address
		{pod, service, other, pod},          // to a service
		{client, node, pod, node},           // by a node port, masqueraded too: only the answer's source
		{client, service, pod, client},      // by a service
		{pod, service, pod, "169.254.42.1"}, // to itself by its service
	}
	stay := []flow{
		{other, world, world, node},
		{"10.0.0.6", other, other, "10.0.0.6"},
		{"10.0.0.51", "5.0.0.10", "5.0.0.10", "10.0.0.51"}, // the same bytes elsewhere
		{client, node, other, client},
	}
	for i, f := range append(slices.Clone(gone), stay...) {
		f.make(t, uint16(1000+i))
	}
	n, err := forgetFlows(netip.MustParseAddr(pod))
	if err != nil {
		t.Fatal(err)
	}
	if n != len(gone) {
		t.Errorf("%d connections removed, expected %d", n, len(gone))
	}
	left := flows(t)
	for _, f := range gone {
		if slices.Contains(left, f) {
			t.Errorf("%+v is left", f)
		}
	}
	for _, f := range stay {
		if !slices.Contains(left, f) {
			t.Errorf("%+v is gone", f)
		}
	}
	if n, err := forgetFlows(netip.MustParseAddr(pod)); n != 0 || err != nil {
		t.Errorf("again: %d removed, %v", n, err)
	}
	if n, err := forgetFlows(netip.Addr{}); n != 0 || err != nil || len(flows(t)) != len(stay) {
		t.Errorf("no address: %d removed, %v", n, err)
	}
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkForgetFlows is what a pod's end costs on a node with 50,000 connections of others.
func BenchmarkForgetFlows(b *testing.B) {
	nstest.NeedRoot(b)
	for i := range 50_000 {
		peer := netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}).String()
		flow{peer, "10.0.0.50", "10.0.0.50", peer}.make(b, 999)
	}
	for _, way := range []struct {
		name   string
		remove func() error
	}{
		{"by-the-kernel", func() error {
			_, err := forgetFlows(netip.MustParseAddr("10.0.0.5"))
			return err
		}},
		{"all-copied", func() error {
			_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, &netlink.ConntrackFilter{})
			return err
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			for b.Loop() {
				if err := way.remove(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		b.Fatal(err)
	}
}

// Whatever bytes come, reading them ends.
func FuzzOfSpeaker(f *testing.F) {
	f.Add([]byte{20, 0, 1, 128, 16, 0, 1, 128, 8, 0, 1, 0, 10, 0, 0, 5, 0, 0, 0, 0})
	f.Add([]byte{4, 0, 1, 0})
	f.Add([]byte{5, 0, 1, 0, 7})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	pod := netip.MustParseAddr("10.0.0.5")
	f.Fuzz(func(t *testing.T, b []byte) {
		if ofSpeaker(b, pod) && len(b) < 16 {
			t.Errorf("an address was found in %d bytes", len(b))
		}
	})
}
