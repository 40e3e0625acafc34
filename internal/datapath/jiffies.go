package datapath

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// jiffiesPerSecond asks for the resolution of the coarse clock, which is one tick of the kernel.
func jiffiesPerSecond() (uint32, error) {
	var res unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_REALTIME_COARSE, &res); err != nil {
		return 0, fmt.Errorf("resolution of the coarse clock: %w", err)
	}
	tick := time.Duration(res.Nano())
	if tick <= 0 || tick > time.Second {
		return 0, fmt.Errorf("resolution of the coarse clock is %s, expected that of a tick (1 to 10 ms)", tick)
	}
	return uint32((time.Second + tick/2) / tick), nil
}
