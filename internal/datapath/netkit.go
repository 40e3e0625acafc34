package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// netkitType is what the kernel calls the devices.
const netkitType = "netkit"

// netkitLinks hold the programs of pods whose devices are netkit's. Both are attached by the host's side: what
// the pod's side sends meets from_pod before it leaves the pod's namespace, what the host's side sends to_pod.
func netkitLinks() linkKind {
	return linkKind{
		prefix: "netkit_",
		hooks:  []Hook{FromPod, ToPod},
		fits:   func(l netlink.Link) bool { return l.Type() == netkitType },
		place:  netkitPlace,
		create: func(ifindex int, prog *ebpf.Program, at ebpf.AttachType) (link.Link, error) {
			return link.AttachNetkit(link.NetkitOptions{Interface: ifindex, Program: prog, Attach: at})
		},
		ifindex: func(i *link.Info) (uint32, bool) {
			if nk := i.Netkit(); nk != nil {
				return nk.Ifindex, true
			}
			return 0, false
		},
	}
}

func netkitPlace(hook Hook) ebpf.AttachType {
	if hook == FromPod {
		return ebpf.AttachNetkitPeer
	}
	return ebpf.AttachNetkitPrimary
}

// ofPods tells whether a hook is on pods' devices.
func (h Hook) ofPods() bool { return h == FromPod || h == ToPod }

// A mixedAttacher has netkit's links on netkit's devices, whatever it has on others: pods of both kinds live
// on one node, as a pod keeps the device that it was made with.
type mixedAttacher struct {
	others attacher
	netkit *linkAttacher
}

func (m *mixedAttacher) attach(hook Hook, ifindex int, prog *ebpf.Program) error {
	is, err := m.isNetkit(hook, ifindex)
	if err != nil {
		return err
	}
	if !is {
		return m.others.attach(hook, ifindex, prog)
	}
	if err := m.netkit.attach(hook, ifindex, prog); err != nil {
		return err
	}
	// A version that doesn't know netkit has attached here as on any device.
	return m.others.detach(hook, ifindex)
}

// isNetkit leaves it to the others to say that there is no device.
func (m *mixedAttacher) isNetkit(hook Hook, ifindex int) (bool, error) {
	if !hook.ofPods() {
		return false, nil
	}
	l, err := netlink.LinkByIndex(ifindex)
	var absent netlink.LinkNotFoundError
	if errors.As(err, &absent) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("interface index %d: %w", ifindex, err)
	}
	return l.Type() == netkitType, nil
}

func (m *mixedAttacher) detach(hook Hook, ifindex int) error {
	err := m.others.detach(hook, ifindex)
	if hook.ofPods() {
		err = errors.Join(m.netkit.detach(hook, ifindex), err)
	}
	return err
}

func (m *mixedAttacher) attached() ([]attachment, error) {
	out, err := m.others.attached()
	if err != nil {
		return nil, err
	}
	more, err := m.netkit.attached()
	if err != nil {
		return nil, err
	}
	have := map[attachment]bool{}
	for _, a := range out {
		have[a] = true
	}
	for _, a := range more {
		if !have[a] {
			out = append(out, a)
		}
	}
	return out, nil
}

func (m *mixedAttacher) close() error { return errors.Join(m.netkit.close(), m.others.close()) }

// askNetkit attaches to a device that can't exist, as askTCX does. That there are links for netkit means that
// there are the devices: they are built together.
func askNetkit() error {
	return askLink(func(prog *ebpf.Program) (link.Link, error) {
		return link.AttachNetkit(link.NetkitOptions{Interface: noDevice, Program: prog, Attach: ebpf.AttachNetkitPrimary})
	})
}

// noDevice is an interface index that no device has.
const noDevice = 1<<31 - 1

// askLink attaches to a device that can't exist: a kernel that has such links misses the device, one without
// doesn't know the attach type.
func askLink(attach func(*ebpf.Program) (link.Link, error)) error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "weft_probe",
		Type:         ebpf.SchedCLS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		License:      "GPL",
	})
	if err != nil {
		return err
	}
	defer prog.Close()
	l, err := attach(prog)
	switch {
	case err == nil:
		return errors.Join(fmt.Errorf("interface index %d exists", noDevice), l.Close())
	case errors.Is(err, unix.ENODEV):
		return nil
	}
	return err
}
