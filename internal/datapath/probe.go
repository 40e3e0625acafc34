package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Features is what the kernel offers, and so which variant runs.
type Features struct {
	Kernel        string
	TCX           bool // else clsact
	RedirectNeigh bool
}

// A FeatureError says that the kernel lacks something that weft needs.
type FeatureError struct {
	Kernel, What, Needs string
	Err                 error
}

func (e *FeatureError) Error() string {
	return fmt.Sprintf("kernel %s: %s is missing; weft needs %s: %v", e.Kernel, e.What, e.Needs, e.Err)
}

func (e *FeatureError) Unwrap() error { return e.Err }

// probe asks the kernel. What can't be told is an error, never a "no".
func probe() (Features, error) {
	f := Features{Kernel: kernelRelease()}
	if err := features.HaveProgramType(ebpf.SchedCLS); err != nil {
		return f, &FeatureError{Kernel: f.Kernel, What: "eBPF for traffic control", Needs: "kernel 6.1 and the capabilities BPF and NET_ADMIN", Err: err}
	}
	if err := features.HaveProgramHelper(ebpf.SchedCLS, asm.FnRedirectNeigh); err != nil {
		return f, &FeatureError{Kernel: f.Kernel, What: "the helper redirect_neigh", Needs: "kernel 6.1", Err: err}
	}
	f.RedirectNeigh = true
	tcx, err := haveTCX()
	if err != nil {
		return f, fmt.Errorf("find out whether the kernel has tcx: %w", err)
	}
	f.TCX = tcx
	return f, nil
}

// haveTCX attaches to a device that can't exist: a kernel with tcx misses the device, one without doesn't
// know the attach type.
func haveTCX() (bool, error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "weft_probe",
		Type:         ebpf.SchedCLS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		License:      "GPL",
	})
	if err != nil {
		return false, err
	}
	defer prog.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: 1<<31 - 1, Program: prog, Attach: ebpf.AttachTCXIngress})
	switch {
	case err == nil:
		return false, errors.Join(errors.New("interface index 2147483647 exists"), l.Close())
	case errors.Is(err, unix.ENODEV):
		return true, nil
	case errors.Is(err, ebpf.ErrNotSupported):
		return false, nil
	}
	return false, err
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
