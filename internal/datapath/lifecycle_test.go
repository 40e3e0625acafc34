package datapath

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// A pod goes, its slot and so its interface index are used again, by another address.
func TestIndexIsReused(t *testing.T) {
	forEachVariant(t, func(t *testing.T, n *node) {
		n.router.echo(t, farAddr+":7")
		first := n.addPod(t, 1, podAddr)
		must(t, exchange(first.dial(t, "", farAddr+":7"), "first", patience))
		must(t, removeDevice(first.name)) // nobody tells the datapath
		second := n.addPod(t, 1, otherAddr)
		must(t, exchange(second.dial(t, "", farAddr+":7"), "second", patience))
		s, err := n.d.Dump()
		must(t, err)
		if a := s.Addresses[first.Addr]; a.Endpoint {
			t.Errorf("address of the first pod is still an endpoint's: %+v", a)
		}
		if a := s.Addresses[second.Addr]; !a.Endpoint || a.Slot != 1 {
			t.Errorf("address of the second pod is %+v, expected that of slot 1", a)
		}
		if len(s.Attached) != 6 {
			t.Errorf("attached is %v, expected two programs on each of three devices", s.Attached)
		}
	})
}

// An ENI is detached and attached again: the same handle, another index.
func TestENIComesBackWithAnotherIndex(t *testing.T) {
	forEachVariant(t, func(t *testing.T, n *node) {
		n.router.echo(t, farAddr+":7")
		a := n.addPod(t, 1, podAddr)
		c := a.dial(t, "", farAddr+":7")
		must(t, exchange(c, "before", patience))
		must(t, removeDevice("eni2"))
		must(t, addVeth("eni2", 202, n.enis[1].MAC, "wire", mac("0e:00:00:00:00:02")))
		must(t, moveTo("wire", n.router, "reni2"))
		must(t, errors.Join(linkUp("eni2"), addAddress("eni2", node2Addr+"/32")))
		n.router.do(t, func() error { return linkUp("reni2") })
		n.own(t, podAddr, 1)
		n.own(t, node2Addr, 1)
		n.enis[1].Ifindex = 202
		must(t, n.d.SetENI(n.enis[1]))
		n.waitForRouter(t)
		must(t, exchange(c, "after", patience))
		s, err := n.d.Dump()
		must(t, err)
		for _, at := range s.Attached {
			if at.Ifindex == 102 {
				t.Errorf("%s is still attached to the vanished device", at.Hook)
			}
		}
	})
}

func TestPruneRemovesWhatNobodyNames(t *testing.T) {
	forEachVariant(t, func(t *testing.T, n *node) {
		a, b := n.addPod(t, 1, podAddr), n.addPod(t, 2, otherAddr)
		must(t, n.d.SetAddress(netip.MustParseAddr("192.168.1.200"), 2))
		must(t, n.d.Prune([]Endpoint{b.Endpoint}, n.enis[:1], map[netip.Addr]uint32{netip.MustParseAddr(nodeAddr): 1}))
		s, err := n.d.Dump()
		must(t, err)
		if len(s.Endpoints) != 1 || s.Endpoints[0].Addr != b.Addr {
			t.Errorf("endpoints are %v, expected that of %s", s.Endpoints, b.Addr)
		}
		if len(s.ENIs) != 1 || s.ENIs[0].Handle != 1 {
			t.Errorf("ENIs are %v, expected the first", s.ENIs)
		}
		if len(s.Addresses) != 2 {
			t.Errorf("addresses are %v, expected the node's and the endpoint's", s.Addresses)
		}
		want := map[Attachment]bool{{FromPod, b.Ifindex}: true, {ToPod, b.Ifindex}: true, {FromNetdev, 101}: true, {ToNetdev, 101}: true}
		for _, at := range s.Attached {
			if !want[at] {
				t.Errorf("%s is still attached to %d (first pod has %d)", at.Hook, at.Ifindex, a.Ifindex)
			}
			delete(want, at)
		}
		if len(want) > 0 {
			t.Errorf("no longer attached: %v", want)
		}
	})
}

func TestOpenRefusesAnotherLayout(t *testing.T) {
	newSpace(t).enter(t)
	cfg := testConfig(t)
	must(t, openDatapath(t, cfg).Close())
	path := filepath.Join(cfg.PinDir, "maps", ThisVersion().pinName(weftMapWeftEnis))
	must(t, os.Remove(path))
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: weftMapWeftEnis, Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 4})
	must(t, err)
	defer m.Close()
	must(t, m.Pin(path))
	_, err = Open(cfg)
	var layout *LayoutError
	if !errors.As(err, &layout) || layout.Map != weftMapWeftEnis || !strings.Contains(err.Error(), path) {
		t.Fatalf("open says %v, expected a layout error that names %s", err, path)
	}
}

func TestOpenRefusesAnotherLayoutVersion(t *testing.T) {
	newSpace(t).enter(t)
	cfg := testConfig(t)
	d := openDatapath(t, cfg)
	value := newConfigValue(DefaultSettings(), 250, Watch{})
	value.Layout = layoutVersion + 1
	must(t, d.maps[weftMapWeftConfig].Put(uint32(0), value))
	must(t, d.Close())
	_, err := Open(cfg)
	var layout *LayoutError
	if !errors.As(err, &layout) || layout.Map != weftMapWeftConfig {
		t.Fatalf("open says %v, expected a layout error of %s", err, weftMapWeftConfig)
	}
}

func TestMissingDevice(t *testing.T) {
	for _, v := range variants(t) {
		newSpace(t).enter(t)
		cfg := testConfig(t)
		cfg.Attach = v.attach
		d := openDatapath(t, cfg)
		var missing *DeviceError
		if err := d.AddEndpoint(endpointFor(7, podAddr, 1)); !errors.As(err, &missing) {
			t.Errorf("%s: AddEndpoint says %v, expected a device error", v, err)
		}
		if err := d.SetENI(ENI{Handle: 1, Ifindex: 4444, MAC: mac("02:00:00:00:00:01"), NextHop: netip.MustParseAddr(routerAddr)}); !errors.As(err, &missing) {
			t.Errorf("%s: SetENI says %v, expected a device error", v, err)
		}
		if err := d.DeleteEndpoint(7); err != nil {
			t.Errorf("%s: DeleteEndpoint says %v", v, err)
		}
		must(t, d.Close())
	}
}

func removeDevice(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkDel(l)
}

// An index that another device has by now is not the ENI.
func TestENIWithAnothersMAC(t *testing.T) {
	newSpace(t).enter(t)
	d := openDatapath(t, testConfig(t))
	must(t, addVeth("eni1", 101, mac("02:00:00:00:00:01"), "wire1", nil))
	err := d.SetENI(ENI{Handle: 1, Ifindex: 101, MAC: mac("02:00:00:00:00:09"), NextHop: netip.MustParseAddr(routerAddr)})
	if err == nil || !strings.Contains(err.Error(), "02:00:00:00:00:01") {
		t.Errorf("SetENI says %v, expected an error that names the device's MAC", err)
	}
	s, dumpErr := d.Dump()
	must(t, dumpErr)
	if len(s.ENIs)+len(s.Attached) > 0 {
		t.Errorf("something was done: %+v", s)
	}
}

func TestPinNames(t *testing.T) {
	for _, h := range Hooks() {
		a := attachment{h, 1048577}
		if got, ok := parseLinkName(linkName(a)); !ok || got != a {
			t.Errorf("%s was read as %v, %v", linkName(a), got, ok)
		}
	}
	for _, bad := range []string{"", "from_pod", "from_pod-", "from_pod-0", "from_pod--1", "from_pod-01", "from_pod-1x", "sock-1", "-1", "hook-7-1"} {
		if a, ok := parseLinkName(bad); ok {
			t.Errorf("%q was read as %v", bad, a)
		}
	}
}
