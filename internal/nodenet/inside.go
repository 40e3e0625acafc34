package nodenet

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// inside runs f on a thread that is in the namespace. A thread that can't be brought back ends with its
// goroutine.
func inside(ns *os.File, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("own network namespace: %w", err)
			return
		}
		defer home.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter the pod's network namespace: %w", err)
			return
		}
		err = f()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// sameNamespace says whether ns is the one that this process is in: that of any thread outside of
// inside, which the main thread need not be.
func sameNamespace(ns *os.File) (bool, error) {
	a, err := ns.Stat()
	if err != nil {
		return false, err
	}
	b, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return false, err
	}
	return os.SameFile(a, b), nil
}

// NewNamespace makes a network namespace that goes when the file and everything in it are closed.
func NewNamespace() (*os.File, error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("own network namespace: %w", err)
	}
	defer home.Close()
	var made *os.File
	err = inside(home, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		var err error
		made, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return made, err
}
