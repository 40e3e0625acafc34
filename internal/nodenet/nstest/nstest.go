// Package nstest runs tests in namespaces of their own and gives them more: a network of nodes, routers
// and pods that ends with the test process, however it ends.
package nstest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const childEnv = "WEFT_NSTEST_CHILD"

// Main runs the tests in a network and a mount namespace of their own where the user is root, else as
// they are: those that need more skip. It returns the exit code.
func Main(m *testing.M) int {
	if os.Getuid() != 0 || os.Getenv(childEnv) != "" {
		if os.Getuid() == 0 {
			if err := linkUp("lo"); err != nil {
				fmt.Fprintln(os.Stderr, "namespace of the tests:", err)
				return 1
			}
		}
		return m.Run()
	}
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

// NeedRoot skips the test unless Main gave it namespaces.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("could not run: needs root for namespaces")
	}
}

// A Space is a network namespace. The zero Space is the one that the process is in.
type Space struct{ File *os.File }

// New makes a namespace with its loopback up.
func New(t testing.TB) Space {
	t.Helper()
	NeedRoot(t)
	var s Space
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		s.File = f
		return errors.Join(err, linkUp("lo"))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.File.Close() })
	return s
}

// Path is one by which other processes open the namespace.
func (s Space) Path() string {
	if s.File == nil {
		return "/proc/self/ns/net"
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.File.Fd())
}

// Do runs fn inside the namespace, on a thread that ends with it.
func (s Space) Do(fn func() error) error {
	if s.File == nil {
		return fn()
	}
	return onThread(func() error {
		if err := unix.Setns(int(s.File.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		return fn()
	})
}

func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread's namespace is spoilt for others
		done <- fn()
	}()
	return <-done
}

func linkUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("device %s: %w", name, err)
	}
	return netlink.LinkSetUp(l)
}

// Set writes a setting below /proc/sys/net inside the namespace.
func (s Space) Set(name, value string) error {
	return s.Do(func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644) })
}

// Pair joins two namespaces by a veth pair; both sides are left down.
func Pair(a Space, aName string, aMAC net.HardwareAddr, b Space, bName string) error {
	peer := a.File
	if peer == nil {
		// Of this thread: the process's main thread may have been spoilt by Do.
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer f.Close()
		peer = f
	}
	return b.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = bName
		v := &netlink.Veth{LinkAttrs: attrs, PeerName: aName, PeerHardwareAddr: aMAC}
		v.PeerNamespace = netlink.NsFd(int(peer.Fd()))
		if err := netlink.LinkAdd(v); err != nil {
			return fmt.Errorf("pair %s - %s: %w", aName, bName, err)
		}
		return nil
	})
}

// Up brings a device up with addresses.
func (s Space) Up(dev string, addrs ...string) error {
	return s.Do(func() error {
		l, err := netlink.LinkByName(dev)
		if err != nil {
			return fmt.Errorf("device %s: %w", dev, err)
		}
		for _, a := range addrs {
			addr, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(l, addr); err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("device %s: add %s: %w", dev, a, err)
			}
		}
		return netlink.LinkSetUp(l)
	})
}

// Route adds a route by a device; gw may be invalid.
func (s Space) Route(dst netip.Prefix, gw netip.Addr, dev string) error {
	return s.Do(func() error {
		l, err := netlink.LinkByName(dev)
		if err != nil {
			return fmt.Errorf("device %s: %w", dev, err)
		}
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: &net.IPNet{IP: dst.Addr().AsSlice(), Mask: net.CIDRMask(dst.Bits(), 32)}}
		if gw.IsValid() {
			r.Gw, r.Flags = gw.AsSlice(), int(netlink.FLAG_ONLINK)
		} else {
			r.Scope = unix.RT_SCOPE_LINK
		}
		return netlink.RouteReplace(r)
	})
}

// Neighbour makes a permanent one.
func (s Space) Neighbour(addr netip.Addr, mac net.HardwareAddr, dev string) error {
	return s.Do(func() error {
		l, err := netlink.LinkByName(dev)
		if err != nil {
			return fmt.Errorf("device %s: %w", dev, err)
		}
		return netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: addr.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT, Family: netlink.FAMILY_V4})
	})
}

// Serve answers each TCP connection to port with the address that it came from, line by line for as long
// as the other side sends lines, until the test ends.
func (s Space) Serve(t testing.TB, port int) {
	t.Helper()
	var l net.Listener
	err := s.Do(func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf(":%d", port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c)
		}
	}()
}

func answer(c net.Conn) {
	defer c.Close()
	from := c.RemoteAddr().(*net.TCPAddr).IP.String()
	buf := make([]byte, 1)
	for {
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
		if _, err := fmt.Fprintln(c, from); err != nil {
			return
		}
	}
}

// Dial connects from inside the namespace.
func (s Space) Dial(addr netip.Addr, port int) (net.Conn, error) {
	var c net.Conn
	err := s.Do(func() (err error) {
		c, err = net.DialTimeout("tcp4", netip.AddrPortFrom(addr, uint16(port)).String(), 2*time.Second)
		return err
	})
	return c, err
}

// Ask connects to a Serve and returns the address that it saw.
func (s Space) Ask(addr netip.Addr, port int) (netip.Addr, error) {
	c, err := s.Dial(addr, port)
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return AskOn(c)
}

// AskOn asks once more on a connection.
func AskOn(c net.Conn) (netip.Addr, error) {
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return netip.Addr{}, err
	}
	if _, err := c.Write([]byte("?")); err != nil {
		return netip.Addr{}, err
	}
	var line []byte
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(c, one); err != nil {
			return netip.Addr{}, err
		}
		if one[0] == '\n' {
			return netip.ParseAddr(string(line))
		}
		line = append(line, one[0])
	}
}

// Eventually polls until ok or the time is over.
func Eventually(t testing.TB, within time.Duration, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		<-tick.C
	}
}
