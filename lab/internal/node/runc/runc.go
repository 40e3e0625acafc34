// Package runc is a wrapper around runc that trims a container's configuration to what a lab's node can
// do: resources whose controllers the node's control group hasn't, and a capability that the machine
// doesn't give.
package runc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Real is the runc that is executed.
const Real = "/opt/weft-lab/runc"

// Node is what the node can do.
type Node struct {
	// Controllers: the control group enforces resources.
	Controllers bool
	// SysResource: a container may have CAP_SYS_RESOURCE.
	SysResource bool
}

// Main edits what runc is about to read and becomes runc.
func Main(args []string) error {
	node, err := inspect()
	if err != nil {
		return fmt.Errorf("runc-lab: %w", err)
	}
	bundle, process := Files(args[1:])
	if bundle != "" {
		err = edit(filepath.Join(bundle, "config.json"), node.TrimConfig)
	}
	if err == nil && process != "" {
		err = edit(process, node.TrimProcess)
	}
	if err != nil {
		return fmt.Errorf("runc-lab: %w", err)
	}
	return fmt.Errorf("runc-lab: %s: %w", Real, unix.Exec(Real, append([]string{"runc"}, args[1:]...), os.Environ()))
}

// Files says which files a command line of runc makes it read: the bundle's folder for create and run,
// the process' description for exec.
func Files(args []string) (bundle, process string) {
	creates := false
	bundle = "."
	value := func(i int, arg string, names ...string) (string, bool) {
		for _, n := range names {
			if arg == n && i+1 < len(args) {
				return args[i+1], true
			}
			if v, ok := strings.CutPrefix(arg, n+"="); ok {
				return v, true
			}
		}
		return "", false
	}
	for i, a := range args {
		if a == "create" || a == "run" {
			creates = true
		}
		if v, ok := value(i, a, "--bundle", "-b"); ok {
			bundle = v
		}
		if v, ok := value(i, a, "--process", "-p"); ok {
			process = v
		}
	}
	if !creates {
		bundle = ""
	}
	return bundle, process
}

func inspect() (Node, error) {
	b, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	if err != nil {
		return Node{}, err
	}
	has := map[string]bool{}
	for _, c := range strings.Fields(string(b)) {
		has[c] = true
	}
	bounded, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0)
	if err != nil {
		return Node{}, fmt.Errorf("read the capability bounding set: %w", err)
	}
	return Node{Controllers: has["cpu"] && has["memory"] && has["pids"], SysResource: bounded == 1}, nil
}

// TrimConfig trims a bundle's config.json.
func (n Node) TrimConfig(c map[string]any) {
	if l, ok := c["linux"].(map[string]any); ok && !n.Controllers {
		if r, ok := l["resources"].(map[string]any); ok {
			// The device list needs no controller: version 2 does it by a program.
			l["resources"] = map[string]any{"devices": r["devices"]}
		}
	}
	if p, ok := c["process"].(map[string]any); ok {
		n.TrimProcess(p)
	}
}

// TrimProcess trims a process' description.
func (n Node) TrimProcess(p map[string]any) {
	caps, ok := p["capabilities"].(map[string]any)
	if !ok || n.SysResource {
		return
	}
	for set, v := range caps {
		list, ok := v.([]any)
		if !ok {
			continue
		}
		kept := make([]any, 0, len(list))
		for _, c := range list {
			if c != "CAP_SYS_RESOURCE" {
				kept = append(kept, c)
			}
		}
		caps[set] = kept
	}
}

func edit(path string, change func(map[string]any)) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // runc says it better
	}
	if err != nil {
		return err
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber() // a number that went through a float would be written differently
	var c map[string]any
	if err := d.Decode(&c); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	change(c)
	if b, err = json.Marshal(c); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, b, 0o600)
}
