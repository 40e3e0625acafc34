// Package rig puts real agents on nodes that are network namespaces, for programs that measure weft or hold
// it to a specification outside the Go test runner.
package rig

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Space is a network namespace without a name: it is gone when the last that uses it is.
type Space struct{ file *os.File }

// NewSpace makes a namespace with its loopback up.
func NewSpace() (Space, error) {
	var s Space
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace (needs root): %w", err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		s.file = f
		return up("lo")
	})
	return s, err
}

// OwnSpace is the namespace of this process.
func OwnSpace() (Space, error) {
	f, err := os.Open("/proc/self/ns/net")
	return Space{file: f}, err
}

// Close lets go of the namespace.
func (s Space) Close() error { return s.file.Close() }

// Path is one by which other processes open the namespace.
func (s Space) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.file.Fd()) }

// Fd is the namespace, for calls that take one.
func (s Space) Fd() uintptr { return s.file.Fd() }

// Do runs f inside the namespace, on a thread that ends with it. Processes that f starts are inside too.
func (s Space) Do(f func() error) error {
	return onThread(func() error {
		if err := s.Enter(); err != nil {
			return err
		}
		return f()
	})
}

// Enter moves the calling thread, which the caller has locked, into the namespace.
func (s Space) Enter() error {
	if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	return nil
}

// onThread runs f on a thread of its own, whose namespace is spoilt for others: it is never unlocked.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

func up(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("device %s: %w", name, err)
	}
	return netlink.LinkSetUp(l)
}

// Set writes a setting below /proc/sys/net; one that the kernel lacks is left out.
func (s Space) Set(settings ...string) error {
	return s.Do(func() error {
		for _, kv := range settings {
			name, value, _ := strings.Cut(kv, "=")
			err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("set %s: %w", name, err)
			}
		}
		return nil
	})
}

// End is one side of a wire.
type End struct {
	Space Space
	Name  string
	MAC   net.HardwareAddr
	// Address of the device, and the MAC that Next is known by: the other side's.
	Address, Next netip.Addr
}

// Wire joins two namespaces by a veth pair with the MTU of a VPC, addresses, and a default route by Next.
func Wire(a, b End) error {
	err := a.Space.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr, attrs.MTU = a.Name, a.MAC, 9001
		v := &netlink.Veth{LinkAttrs: attrs, PeerName: b.Name, PeerHardwareAddr: b.MAC, PeerNamespace: netlink.NsFd(int(b.Space.file.Fd())), PeerMTU: 9001}
		return netlink.LinkAdd(v)
	})
	if err != nil {
		return fmt.Errorf("veth pair %s, %s: %w", a.Name, b.Name, err)
	}
	return errors.Join(a.setUp(b.MAC), b.setUp(a.MAC))
}

func (e End) setUp(other net.HardwareAddr) error {
	return e.Space.Do(func() error {
		l, err := netlink.LinkByName(e.Name)
		if err != nil {
			return fmt.Errorf("device %s: %w", e.Name, err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return fmt.Errorf("device %s: %w", e.Name, err)
		}
		if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: host(e.Address)}); err != nil {
			return fmt.Errorf("device %s: %w", e.Name, err)
		}
		if !e.Next.IsValid() {
			return nil
		}
		// Known for good, as a VPC's router is: no measure contains an ARP.
		neigh := &netlink.Neigh{LinkIndex: l.Attrs().Index, IP: e.Next.AsSlice(), HardwareAddr: other, State: netlink.NUD_PERMANENT, Family: netlink.FAMILY_V4}
		if err := netlink.NeighSet(neigh); err != nil {
			return fmt.Errorf("device %s: neighbour %s: %w", e.Name, e.Next, err)
		}
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Gw: e.Next.AsSlice(), Flags: int(netlink.FLAG_ONLINK),
			Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}}
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("device %s: default route: %w", e.Name, err)
		}
		return nil
	})
}

func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}
