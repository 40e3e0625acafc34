package datapath

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/netkit"
)

// A podDevice is what the pods of a rig have.
type podDevice string

const (
	vethPods     podDevice = ""
	netkitPods   podDevice = "netkit"
	netkitL2Pods podDevice = "netkit-l2"
)

// A variant is a way to attach, on pods' devices of a kind.
type variant struct {
	attach AttachMode
	device podDevice
}

func (v variant) String() string {
	if v.device == vethPods {
		return string(v.attach)
	}
	return string(v.device)
}

// variants are those that this kernel has.
func variants(t *testing.T) []variant {
	t.Helper()
	needRoot(t)
	f, err := probe()
	must(t, err)
	out := []variant{{attach: AttachClsact}}
	if f.TCX {
		out = []variant{{attach: AttachTCX}, {attach: AttachClsact}}
	}
	for _, d := range netkitDevices(t) {
		out = append(out, variant{device: d})
	}
	return out
}

// netkitDevices are the kinds of netkit that this kernel has, if it has any.
func netkitDevices(t testing.TB) []podDevice {
	t.Helper()
	var out []podDevice
	for _, d := range []podDevice{netkitPods, netkitL2Pods} {
		err := netkit.Probe(d == netkitL2Pods)
		var missing *netkit.MissingError
		switch {
		case err == nil:
			out = append(out, d)
		case errors.As(err, &missing):
			t.Logf("not tried with %s: %v", d, err)
		default:
			t.Fatal(err)
		}
	}
	return out
}

// pair makes a pod's device with its other side, up on neither, and says what MACs they have.
func (d podDevice) pair(name string, e *Endpoint, inside space) error {
	if d == vethPods {
		return errors.Join(addVeth(name, e.Ifindex, e.HostMAC, "tmp0", e.PodMAC), moveTo("tmp0", inside, "eth0"))
	}
	if d == netkitPods {
		e.HostMAC, e.PodMAC = make([]byte, 6), make([]byte, 6)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	return netkit.Add(h, netkit.Pair{Name: name, PodName: "eth0", Index: e.Ifindex, MTU: 1500, L2: d == netkitL2Pods, HostMAC: e.HostMAC, PodMAC: e.PodMAC, Pod: inside.file})
}
