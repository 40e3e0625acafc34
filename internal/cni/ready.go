package cni

import (
	"os"
	"time"
)

// AwayBound is for how long an agent that was ready in this boot may be away before STATUS says so. The
// runtime asks STATUS all the time, an error makes the node NotReady, and five minutes later Kubernetes
// evicts its pods, which lack nothing: so it is longer than people need to mend an upgrade that is stuck.
const AwayBound = 2 * time.Hour

// ReadyLately says whether an agent was ready in this boot and not longer than AwayBound ago: it touches
// the file while it is, and a boot empties the directory.
func ReadyLately(readyFile string, now time.Time) bool {
	fi, err := os.Stat(readyFile)
	return err == nil && now.Sub(fi.ModTime()) <= AwayBound
}
