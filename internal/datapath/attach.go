package datapath

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// An attachment is a program of ours on a device.
type attachment struct {
	hook    Hook
	ifindex int
}

// An attacher puts programs on devices so that they stay when this process ends.
type attacher interface {
	// attach runs prog at the hook of the device, in place of an earlier one without a gap.
	attach(hook Hook, ifindex int, prog *ebpf.Program) error
	// detach takes our program away; that there is none, or no device, is no error.
	detach(hook Hook, ifindex int) error
	// attached lists our programs that run, and removes what vanished devices left.
	attached() ([]attachment, error)
	// close lets go of what it holds; programs stay where they are.
	close() error
}

// A DeviceError says that a device that the datapath was told of isn't there.
type DeviceError struct {
	Ifindex int
	Err     error
}

func (e *DeviceError) Error() string {
	return fmt.Sprintf("no device with interface index %d: %v", e.Ifindex, e.Err)
}

func (e *DeviceError) Unwrap() error { return e.Err }
