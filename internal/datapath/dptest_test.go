package datapath_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/datapath/dptest"
	"github.com/weft-cni/weft/internal/inspect"
)

// driven is what an agent drives.
type driven interface {
	SetENI(datapath.ENI) error
	DeleteENI(handle uint32) error
	SetAddress(addr netip.Addr, eni uint32) error
	DeleteAddress(addr netip.Addr) error
	AddEndpoint(datapath.Endpoint) error
	DeleteEndpoint(slot uint32) error
	KeepPins() ([]string, error)
	Prepare([]datapath.Endpoint, []datapath.ENI, map[netip.Addr]uint32) error
	Prune([]datapath.Endpoint, []datapath.ENI, map[netip.Addr]uint32) error
	SetPrefixes(map[netip.Prefix]datapath.PrefixInfo) error
	Configure(datapath.Settings) error
	Settings() datapath.Settings
	SetWatch(datapath.Watch) error
	Connections(func(datapath.Connection) bool) error
	ForgetOthers(datapath.Endpoint) (int, error)
	ConntrackStats() (datapath.ConntrackStats, error)
	Watch() datapath.Watch
	EventStats() ([]datapath.EventStat, error)
	ReadEvents(context.Context, func([]datapath.Event, int)) error
	Counters() ([]datapath.Counter, error)
	Probe() datapath.Features
	KeptSizes() []datapath.KeptSize
	Dump() (datapath.State, error)
	Maps() ([]inspect.Map, error)
	Programs() ([]inspect.Program, error)
	Attached() ([]datapath.Attachment, error)
	Held() (datapath.Held, error)
	MeasurePrograms() (io.Closer, error)
	Measured() (bool, error)
	Runs() ([]datapath.ProgramRuns, error)
	Fills() ([]datapath.Fill, error)
	WalkFills(func() error) ([]datapath.Fill, error)
	DumpMap(string, datapath.Names, func(key, value inspect.Fields) bool) error
	Close() error
}

var (
	_ driven = (*datapath.Datapath)(nil)
	_ driven = (*dptest.Datapath)(nil)
)

// The datapath in memory does what the real one does, step by step, through restarts.
func TestInMemoryIsFaithful(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces and eBPF")
	}
	if f := flag.Lookup("bpfcover"); f != nil && f.Value.String() != "" {
		t.Skip("opens programs of its own, which tell nothing of what runs")
	}
	runtime.LockOSThread() // the thread ends with the test, and the namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	devices := map[int]bool{}
	device := func(name string, index int, m net.HardwareAddr) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Index, attrs.HardwareAddr = name, index, m
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "p" + name}); err != nil {
			t.Fatal(err)
		}
		devices[index] = true
	}
	for slot := range 3 {
		device("pod"+strconv.Itoa(slot), contract.IfindexBase+slot, nil)
	}
	for i := range 3 {
		device("eni"+strconv.Itoa(i), 101+i, eniMAC(i))
	}

	dir := fmt.Sprintf("/sys/fs/bpf/weft-test-%d/faithful", os.Getpid())
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := datapath.Config{PinDir: dir + "/v1", Sizes: datapath.Sizes{ConntrackTCP: 4096, ConntrackAny: 4096}}
	open := func() *datapath.Datapath {
		d, err := datapath.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	kernel := dptest.NewKernel()
	kernel.Exists = func(ifindex int) bool { return devices[ifindex] }
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	real, memory := open(), kernel.Open()
	for step := range 150 {
		what, do := operation(random)
		if what == "restart" {
			real.Close()
			memory.Close()
			real, memory = open(), kernel.Open()
			continue
		}
		realErr, memoryErr := do(real), do(memory)
		if (realErr == nil) != (memoryErr == nil) {
			t.Fatalf("step %d, %s: the kernel says %v, memory says %v", step, what, realErr, memoryErr)
		}
		want, err := real.Dump()
		if err != nil {
			t.Fatal(err)
		}
		got, err := memory.Dump()
		if err != nil {
			t.Fatal(err)
		}
		if real.Settings() != memory.Settings() {
			t.Fatalf("step %d, %s: settings are %+v in the kernel, %+v in memory", step, what, real.Settings(), memory.Settings())
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("step %d, %s: kernel -, memory +\n%s", step, what, diff)
		}
	}
	real.Close()
}

func eniMAC(i int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, byte(i)} }

// operation is one call, drawn from few enough values that they meet.
func operation(random *rand.Rand) (string, func(driven) error) {
	addr := netip.AddrFrom4([4]byte{192, 168, 1, byte(random.IntN(4))})
	slot := uint32(random.IntN(4)) // one of them has no device
	eni := uint32(random.IntN(4))  // 0 is no handle
	endpoint := datapath.Endpoint{Slot: slot, Ifindex: contract.IfindexBase + int(slot), Addr: addr,
		PodMAC: eniMAC(9), HostMAC: eniMAC(8), Generation: uint32(random.IntN(3)), ENI: eni}
	if random.IntN(2) == 0 {
		endpoint.Addr6 = netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(random.IntN(3))})
	}
	endpoint.Queued = random.IntN(4) == 0
	index := random.IntN(4)
	network := datapath.ENI{Handle: eni, Ifindex: 101 + index, MAC: eniMAC(index), NextHop: netip.MustParseAddr("192.168.0.1")}
	if random.IntN(2) == 0 {
		network.NextHop6, network.Masquerade = netip.MustParseAddr("fe80::1"), netip.MustParseAddr("192.168.0.9")
		network.MasqueradeENI = uint32(random.IntN(3))
	}
	switch random.IntN(12) {
	case 11:
		eps, enis, addrs := []datapath.Endpoint{endpoint}, []datapath.ENI{network}, map[netip.Addr]uint32{addr: eni}
		return fmt.Sprintf("Prepare(%+v, %+v, %v)", eps, enis, addrs), func(d driven) error { return d.Prepare(eps, enis, addrs) }
	case 9:
		prefixes := randomPrefixes(random)
		return fmt.Sprintf("SetPrefixes(%v)", prefixes), func(d driven) error { return d.SetPrefixes(prefixes) }
	case 10:
		s := datapath.DefaultSettings()
		s.IPv4, s.MasqueradePorts[0] = random.IntN(2) == 0, uint16(random.IntN(3))
		return fmt.Sprintf("Configure(%+v)", s), func(d driven) error { return d.Configure(s) }
	case 0:
		return "restart", nil
	case 1:
		return fmt.Sprintf("SetENI(%+v)", network), func(d driven) error { return d.SetENI(network) }
	case 2:
		return fmt.Sprintf("DeleteENI(%d)", eni), func(d driven) error { return d.DeleteENI(eni) }
	case 3:
		return fmt.Sprintf("SetAddress(%s, %d)", addr, eni), func(d driven) error { return d.SetAddress(addr, eni) }
	case 4:
		return fmt.Sprintf("DeleteAddress(%s)", addr), func(d driven) error { return d.DeleteAddress(addr) }
	case 5:
		return fmt.Sprintf("DeleteEndpoint(%d)", slot), func(d driven) error { return d.DeleteEndpoint(slot) }
	case 6:
		keep, enis, addrs := []datapath.Endpoint{endpoint}, []datapath.ENI{network}, map[netip.Addr]uint32{addr: eni}
		return fmt.Sprintf("Prune(%+v, %+v, %v)", keep, enis, addrs), func(d driven) error { return d.Prune(keep, enis, addrs) }
	}
	return fmt.Sprintf("AddEndpoint(%+v)", endpoint), func(d driven) error { return d.AddEndpoint(endpoint) }
}

func randomPrefixes(random *rand.Rand) map[netip.Prefix]datapath.PrefixInfo {
	from := []string{"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "10.1.2.3/24", "::/0", "fd00::/8", "fd00::1/128", "::ffff:0:0/90", "::ffff:a00:0/104"}
	out := map[netip.Prefix]datapath.PrefixInfo{}
	for range random.IntN(len(from)) {
		// What can't be taken comes seldom, or nothing else would be seen.
		i := random.IntN(len(from))
		if i == len(from)-1 && random.IntN(4) > 0 {
			continue
		}
		out[netip.MustParsePrefix(from[i])] = datapath.PrefixInfo{Native: random.IntN(2) == 0, Stack: random.IntN(2) == 0}
	}
	return out
}
