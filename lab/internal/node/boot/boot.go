// Package boot is pid 1 of a node: it makes the node's file system, starts containerd and kubelet, and
// restarts what ends. It runs with new mount, process, host name and IPC namespaces, inside the node's
// network namespace and control group.
package boot

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Spec is what the lab tells a node's pid 1.
type Spec struct {
	Hostname  string `json:"hostname"`
	MachineID string `json:"machineID"`
	// Root is an empty directory that becomes the node's root; Disk is what survives a reboot.
	Root string `json:"root"`
	Disk string `json:"disk"`
	// Bin is mounted at BinDir.
	Bin      string    `json:"bin"`
	Services []Service `json:"services"`
}

// BinDir is where a node finds the lab's programs.
const BinDir = "/opt/weft-lab"

// StatusFile is where, on the node's disk, pid 1 writes how its services are.
const StatusFile = "/var/lib/weft-lab/services.json"

// Service is a daemon of the node.
type Service struct {
	Name string   `json:"name"`
	Args []string `json:"args"`
	// Socket is waited for before the next service starts.
	Socket string `json:"socket,omitempty"`
}

// Status is how a service is.
type Status struct {
	Restarts int `json:"restarts"`
	// Crashes counts ends in a row that came soon after a start.
	Crashes int    `json:"crashes"`
	Last    string `json:"last,omitempty"`
}

// Main is the process: stage one enters a control group namespace whose root is the node's own group and
// executes itself, because only the calling thread changes namespace; stage two never returns but with an
// error.
func Main(stage, specPath string) error {
	if stage == "enter" {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			return fmt.Errorf("node: cgroup namespace: %w", err)
		}
		return unix.Exec("/proc/self/exe", []string{"nodebox", "boot", specPath}, os.Environ())
	}
	b, err := os.ReadFile(specPath)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	var spec Spec
	if err := json.Unmarshal(b, &spec); err != nil {
		return fmt.Errorf("node: %s: %w", specPath, err)
	}
	if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
		return fmt.Errorf("node %s: hostname: %w", spec.Hostname, err)
	}
	if err := makeRoot(spec); err != nil {
		return fmt.Errorf("node %s: %w", spec.Hostname, err)
	}
	if err := enterSystemGroup(); err != nil {
		return fmt.Errorf("node %s: %w", spec.Hostname, err)
	}
	return supervise(spec)
}
