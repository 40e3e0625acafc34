package traffic

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Calls that wait in the kernel without telling Go's scheduler: its part in a call that blocks would be a
// good part of what is measured.

func socket(typ int) (int, error) {
	return unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, 0)
}

func raw(call, a, b, c uintptr) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(call, a, b, c)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

func read(fd int, b []byte) (int, error) {
	return raw(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
}

func write(fd int, b []byte) (int, error) {
	return raw(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
}

// accept uses the call that every architecture has.
func accept(fd int) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

func closeSocket(fd int) error {
	_, err := raw(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	return err
}
