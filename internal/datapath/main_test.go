package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-cni/weft/internal/contract"
)

const childEnv = "WEFT_DATAPATH_TEST_CHILD"

// TestMain runs the tests in namespaces of their own, so that devices, mounts and pins end with the
// process, however it ends.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		os.Exit(m.Run())
	}
	if os.Getenv(childEnv) == "" {
		os.Exit(runChild())
	}
	if err := ensureBPFFS("/sys/fs/bpf", "/sys/fs/bpf/weft-test-"+strconv.Itoa(os.Getpid())); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(runRecorded(m))
}

func runChild() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the death signal is the thread's
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, "run the tests in namespaces:", err)
		return 1
	}
	return 0
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces and eBPF")
	}
}

// A space is a network namespace that lives as long as the file.
type space struct{ file *os.File }

func newSpace(t testing.TB) space {
	t.Helper()
	needRoot(t)
	var s space
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		s.file = file
		return errors.Join(err, linkUp("lo"))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.file.Close() })
	return s
}

// onThread runs fn on a thread of its own, which ends with fn.
func onThread(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread's namespace is spoilt for others
		done <- fn()
	}()
	return <-done
}

// do runs fn in the namespace.
func (s space) do(t testing.TB, fn func() error) {
	t.Helper()
	if err := s.try(fn); err != nil {
		t.Fatal(err)
	}
}

func (s space) try(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		return fn()
	})
}

// enter moves the test's goroutine into the namespace for good.
func (s space) enter(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

func linkUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return netlink.LinkSetUp(l)
}

// testConfig has a pin directory of its own.
func testConfig(t testing.TB) Config {
	name := strings.NewReplacer("/", "_", ".", "_").Replace(t.Name())
	dir := filepath.Join("/sys/fs/bpf", "weft-test-"+strconv.Itoa(os.Getpid()), name)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return Config{PinDir: filepath.Join(dir, "v1"), Sizes: Sizes{ConntrackTCP: 4096, ConntrackAny: 4096}, Object: recorded()}
}

func openDatapath(t testing.TB, cfg Config) *Datapath {
	t.Helper()
	d, err := Open(cfg)
	if err != nil {
		t.Fatalf("open: %+v", err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// veth makes a pair in the current namespace: host side with the slot's index, MACs as the contract has
// them.
func addVeth(name string, ifindex int, mac net.HardwareAddr, peer string, peerMAC net.HardwareAddr) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index, attrs.HardwareAddr = name, ifindex, mac
	return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer, PeerHardwareAddr: peerMAC})
}

func endpointFor(slot uint32, addr string, eni uint32) Endpoint {
	a := netip.MustParseAddr(addr)
	host, pod := contract.HostMAC(), contract.EndpointMAC(a)
	return Endpoint{Slot: slot, Ifindex: contract.IfindexBase + int(slot), Addr: a,
		PodMAC: pod[:], HostMAC: host[:], Generation: 1, ENI: eni}
}
