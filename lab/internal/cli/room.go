package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// inotifyLimit is how many inotify instances one user may have, over all namespaces.
const inotifyLimit = "/proc/sys/fs/inotify/max_user_instances"

// What a lab takes of them, as counted on running ones: kubelet, containerd and their shims on each node, the
// control plane once.
const (
	inotifyPerNode  = 13
	inotifyPerPlane = 4
)

// room refuses a cluster for which the machine has too few inotify instances left: kubelets would end with
// "too many open files" minutes later. A machine that doesn't tell is not asked twice.
func room(nodes int) error {
	b, err := os.ReadFile(inotifyLimit)
	if err != nil {
		return nil
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return nil
	}
	return roomFor(nodes, limit, inotifyInUse())
}

func roomFor(nodes, limit, used int) error {
	need := nodes*inotifyPerNode + inotifyPerPlane
	if used+need <= limit {
		return nil
	}
	return fmt.Errorf("found %d of %d inotify instances in use, expected %d free for %d nodes: delete a lab, or raise the limit: sysctl fs.inotify.max_user_instances=%d",
		used, limit, need, nodes, max(512, 2*(used+need)))
}

// inotifyInUse counts those of all processes that can be looked into.
func inotifyInUse() int {
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0
	}
	n := 0
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil && to == "anon_inode:inotify" {
			n++
		}
	}
	return n
}
