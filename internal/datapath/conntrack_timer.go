package datapath

import (
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// timerTries: newer kernels take a timer's memory from a small reserve and fail when it is empty for a
// moment.
const timerTries = 50

// startTimer starts the timer that removes expired entries, or has the one that runs go on with this
// version's program.
func startTimer(start *ebpf.Program) error {
	if start == nil {
		return fmt.Errorf("program %s is missing from the object", weftProgCtStart)
	}
	var ret uint32
	for range timerTries {
		var err error
		ret, err = start.Run(&ebpf.RunOptions{Data: make([]byte, 64)})
		if err != nil {
			return fmt.Errorf("run %s: %w", weftProgCtStart, err)
		}
		if ret != uint32(unix.ENOMEM) {
			break
		}
	}
	if ret != 0 {
		return fmt.Errorf("start the timer of the connection tables: %w", unix.Errno(ret))
	}
	return nil
}
