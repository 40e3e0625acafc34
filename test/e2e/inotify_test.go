package e2e

import (
	"os"
	"strconv"
	"strings"
)

const inotifyLimit = "/proc/sys/fs/inotify/max_user_instances"

// A node of a lab holds about 13 inotify instances, a script has up to six nodes, and the kernel's default is 128.
const inotifyPerLane = 100

// raiseInotify lets so many labs run at once, and returns how many may, and what takes it back.
func raiseInotify(lanes int) (int, func()) {
	nothing := func() {}
	before, err := os.ReadFile(inotifyLimit)
	if err != nil {
		return min(lanes, 2), nothing
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(before)))
	if err == nil && limit >= lanes*inotifyPerLane {
		return lanes, nothing
	}
	if err := os.WriteFile(inotifyLimit, []byte(strconv.Itoa(lanes*inotifyPerLane)), 0o644); err != nil {
		return min(lanes, 2), nothing
	}
	return lanes, func() { _ = os.WriteFile(inotifyLimit, before, 0o644) } // as it was: nothing else depends on it
}
