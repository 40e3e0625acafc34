package netkit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A MissingError says what the kernel lacks for pods to have such devices.
type MissingError struct {
	What, Needs string
	Err         error
}

func (e *MissingError) Error() string {
	s := fmt.Sprintf("the kernel lacks %s, which needs %s", e.What, e.Needs)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *MissingError) Unwrap() error { return e.Err }

// Probe makes a pair in namespaces of its own, as a pod's, and attaches to it. A *MissingError is the kernel's
// no; nil its yes.
func Probe(l2 bool) error {
	done := make(chan error, 1)
	go func() {
		// The thread ends with the goroutine, and with it its namespace.
		runtime.LockOSThread()
		done <- probe(l2)
	}()
	return <-done
}

func probe(l2 bool) error {
	pod, err := newNamespace()
	if err != nil {
		return err
	}
	defer pod.Close()
	node, err := newNamespace()
	if err != nil {
		return err
	}
	defer node.Close()
	h, err := netlink.NewHandleAt(netns.NsHandle(int(node.Fd())), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	p := Pair{Name: "probe", PodName: "eth0", Index: 1<<20 + 1, MTU: 9001, L2: l2, Pod: pod,
		HostMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, PodMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}}
	if err := Add(h, p); errors.Is(err, unix.EOPNOTSUPP) {
		return &MissingError{What: "netkit devices", Needs: "CONFIG_NETKIT=y and kernel 6.7 or later", Err: err}
	} else if err != nil {
		return err
	}
	if err := look(h, p); err != nil {
		return err
	}
	return attach(p.Index)
}

// newNamespace leaves the thread in it.
func newNamespace() (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return os.Open("/proc/thread-self/ns/net")
}

// look compares the pair with what was asked for: kernels ignore attributes that they don't know.
func look(h *netlink.Handle, p Pair) error {
	l, err := h.LinkByIndex(p.Index)
	if err != nil {
		return fmt.Errorf("netkit device of index %d: %w", p.Index, err)
	}
	nk, ok := l.(*netlink.Netkit)
	if !ok {
		return fmt.Errorf("device of index %d is a %s, expected a %s", p.Index, l.Type(), Type)
	}
	if !nk.SupportsScrub() || nk.Scrub != netlink.NETKIT_SCRUB_NONE {
		return &MissingError{What: "the setting of netkit devices that leaves marks on what is sent into a pod (scrub)", Needs: "kernel 6.12 or later"}
	}
	if !nk.IsPrimary() || nk.Policy != netlink.NETKIT_POLICY_BLACKHOLE || nk.PeerPolicy != netlink.NETKIT_POLICY_BLACKHOLE {
		return fmt.Errorf("a netkit device has policies %d and %d, expected that it lets nothing pass by itself", nk.Policy, nk.PeerPolicy)
	}
	pod, err := netlink.NewHandleAt(netns.NsHandle(int(p.Pod.Fd())), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer pod.Close()
	peer, err := pod.LinkByName(p.PodName)
	if err != nil {
		return fmt.Errorf("the pod's side of a netkit pair: %w", err)
	}
	if a := peer.Attrs(); a.Index != p.Index || a.MTU != p.MTU {
		return fmt.Errorf("the pod's side of a netkit pair has index %d and MTU %d, expected %d and %d", a.Index, a.MTU, p.Index, p.MTU)
	}
	return nil
}

// attach has both sides run a program, in the calling thread's namespace.
func attach(ifindex int) error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "weft_probe",
		Type:         ebpf.SchedCLS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		License:      "GPL",
	})
	if err != nil {
		return fmt.Errorf("program for a netkit device: %w", err)
	}
	defer prog.Close()
	for _, at := range []ebpf.AttachType{ebpf.AttachNetkitPrimary, ebpf.AttachNetkitPeer} {
		l, err := link.AttachNetkit(link.NetkitOptions{Interface: ifindex, Program: prog, Attach: at})
		if errors.Is(err, ebpf.ErrNotSupported) {
			return &MissingError{What: "programs on netkit devices", Needs: "CONFIG_NETKIT=y and CONFIG_BPF_SYSCALL=y, and kernel 6.7 or later", Err: err}
		}
		if err != nil {
			return fmt.Errorf("attach to a netkit device: %w", err)
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}
