// Package node starts and stops the machines of a lab: an instance's disk, what EKS' bootstrap writes onto
// it, and the process that is the instance.
package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/weft-cni/weft/lab/internal/cgroup"
	"github.com/weft-cni/weft/lab/internal/labstate"
	"github.com/weft-cni/weft/lab/internal/node/boot"
	"github.com/weft-cni/weft/lab/internal/pki"
	"github.com/weft-cni/weft/lab/internal/process"
)

// Config is everything that makes one node different from another.
type Config struct {
	Lab labstate.Lab
	// Assets is the folder of built programs.
	Assets string

	InstanceID   string
	InstanceType string
	NodeGroup    string
	Cluster      string
	Region       string
	Zone         string
	// Name is the Node's name, EKS' private DNS name; Address is the primary interface's.
	Name    string
	Address netip.Addr
	MaxPods int
	Labels  map[string]string
	Taints  []Taint
	// Spot and Managed are the kind of capacity.
	Spot, Managed bool

	// Endpoint is the API server's URL as nodes know it.
	Endpoint  string
	ClusterCA []byte
	// Client is the kubelet's certificate for the API server, Serving what it serves with.
	Client, Serving pki.Pair
	// Resolver is the VPC's resolver, ClusterDNS the cluster's.
	Resolver   netip.Addr
	ClusterDNS netip.Addr
	// Registry takes the pulls of every registry.
	Registry string
	// Sandbox is the image of every pod's sandbox.
	Sandbox string
	// Bundle is the machine's certificate bundle with the lab's authority.
	Bundle []byte
	// CNI is written to the node if it is to have a network without weft; empty leaves /etc/cni/net.d empty.
	CNI []byte
}

// Taint is one that the kubelet registers with.
type Taint struct{ Key, Value, Effect string }

// ProviderID is the instance as the Node object names it.
func (c Config) ProviderID() string {
	return "aws:///" + c.Zone + "/" + c.InstanceID
}

func (c Config) dir() string  { return c.Lab.NodeDir(c.InstanceID) }
func (c Config) disk() string { return filepath.Join(c.dir(), "disk") }

// Prepare writes the instance's disk. A disk that is there keeps what isn't configuration.
func Prepare(c Config) error {
	files, err := c.files()
	if err != nil {
		return fmt.Errorf("node %s: %w", c.Name, err)
	}
	for path, f := range files {
		full := filepath.Join(c.disk(), path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return fmt.Errorf("node %s: %w", c.Name, err)
		}
		if err := os.WriteFile(full, f.content, f.mode); err != nil {
			return fmt.Errorf("node %s: %w", c.Name, err)
		}
	}
	for _, d := range []string{"etc/cni/net.d", "var/lib/kubelet", "var/log"} {
		if err := os.MkdirAll(filepath.Join(c.disk(), d), 0o755); err != nil {
			return fmt.Errorf("node %s: %w", c.Name, err)
		}
	}
	if err := c.installPlugins(); err != nil {
		return fmt.Errorf("node %s: CNI plugins: %w", c.Name, err)
	}
	spec, err := json.MarshalIndent(c.spec(), "", "  ")
	if err != nil {
		return fmt.Errorf("node %s: %w", c.Name, err)
	}
	return labstate.WriteFile(filepath.Join(c.dir(), "boot.json"), spec, 0o644)
}

// installPlugins copies rather than links: an installer on the node may write into /opt/cni/bin, and what it
// overwrites must not be the cache.
func (c Config) installPlugins() error {
	dir := filepath.Join(c.disk(), "opt/cni/bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range plugins {
		target := filepath.Join(dir, name)
		if _, err := os.Stat(target); err == nil {
			continue
		}
		content, err := os.ReadFile(filepath.Join(c.Assets, name))
		if err != nil {
			return err
		}
		if err := labstate.WriteFile(target, content, 0o755); err != nil {
			return err
		}
	}
	return nil
}

var plugins = []string{"host-local", "bridge", "loopback", "ptp", "portmap"}

func (c Config) spec() boot.Spec {
	return boot.Spec{
		Hostname:  c.Name,
		MachineID: "ec2" + strings.Repeat("0", max(0, 29-len(hexOf(c.InstanceID)))) + hexOf(c.InstanceID),
		Root:      filepath.Join(c.dir(), "root"),
		Disk:      c.disk(),
		Bin:       c.Assets,
		Services: []boot.Service{
			{
				Name:   "containerd",
				Args:   []string{boot.BinDir + "/containerd", "-c", "/etc/containerd/config.toml"},
				Socket: containerdSocket,
			},
			{Name: "kubelet", Args: c.kubeletArgs()},
		},
	}
}

// hexOf keeps the digits of an instance id: a machine-id is 32 hexadecimal digits.
func hexOf(instanceID string) string {
	s := strings.TrimPrefix(instanceID, "i-")
	return s[max(0, len(s)-29):]
}

// Start powers the instance on inside its network namespace, which must exist. The caller waits for the
// command.
func Start(ctx context.Context, lab labstate.Lab, instanceID, assets string) (*exec.Cmd, error) {
	group, err := cgroup.Create(lab.Cgroup(instanceID))
	if err != nil {
		return nil, fmt.Errorf("instance %s: %w", instanceID, err)
	}
	// Groups that a former life left would make the kubelet look for containers that are gone, for seconds
	// each.
	if err := group.Remove(ctx); err != nil {
		return nil, fmt.Errorf("instance %s: %w", instanceID, err)
	}
	if group, err = cgroup.Create(lab.Cgroup(instanceID)); err != nil {
		return nil, fmt.Errorf("instance %s: %w", instanceID, err)
	}
	dir := lab.NodeDir(instanceID)
	cmd, err := process.Start(process.Command{
		Name:       "instance " + instanceID,
		Path:       filepath.Join(assets, "nodebox"),
		Args:       []string{"nodebox", "enter", filepath.Join(dir, "boot.json")},
		Env:        []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
		Netns:      lab.Netns(instanceID),
		Cgroup:     group,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Log:        filepath.Join(dir, "console.log"),
	})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "pid"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
		return nil, fmt.Errorf("instance %s: %w", instanceID, errors.Join(err, group.Remove(ctx), cmd.Wait()))
	}
	return cmd, nil
}

// Stop powers the instance off: everything in it is gone when Stop returns. The disk stays.
func Stop(ctx context.Context, lab labstate.Lab, instanceID string) error {
	groups, err := cgroup.List(lab.Cgroup(instanceID))
	if err != nil {
		return fmt.Errorf("instance %s: %w", instanceID, err)
	}
	for _, g := range groups {
		if err := g.Remove(ctx); err != nil {
			return fmt.Errorf("instance %s: power off: %w", instanceID, err)
		}
	}
	return nil
}

// Erase removes the disk of an instance that is off.
func Erase(lab labstate.Lab, instanceID string) error {
	if err := os.RemoveAll(lab.NodeDir(instanceID)); err != nil {
		return fmt.Errorf("instance %s: erase: %w", instanceID, err)
	}
	return nil
}

// Services returns how the instance's daemons are; nothing if it has not come so far yet.
func Services(lab labstate.Lab, instanceID string) (map[string]boot.Status, error) {
	b, err := os.ReadFile(filepath.Join(lab.NodeDir(instanceID), "disk", boot.StatusFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("instance %s: %w", instanceID, err)
	}
	var status map[string]boot.Status
	if err := json.Unmarshal(b, &status); err != nil {
		return nil, fmt.Errorf("instance %s: %w", instanceID, err)
	}
	return status, nil
}

// CrashLoop returns why the instance can't come up, if a daemon of it keeps ending.
func CrashLoop(lab labstate.Lab, instanceID string) error {
	status, err := Services(lab, instanceID)
	if err != nil {
		return err
	}
	for name, s := range status {
		if s.Crashes >= 3 {
			return &process.CrashError{
				Name: name + " on " + instanceID, Crashes: s.Crashes, Last: s.Last,
				Tail: process.Tail(LogPath(lab, instanceID, name), 15),
			}
		}
	}
	return nil
}

// LogPath is the log of a daemon of the instance, as seen from outside.
func LogPath(lab labstate.Lab, instanceID, service string) string {
	if service == "console" {
		return filepath.Join(lab.NodeDir(instanceID), "console.log")
	}
	return filepath.Join(lab.NodeDir(instanceID), "disk/var/log", service+".log")
}

// PID returns the instance's pid 1 as the machine sees it.
func PID(lab labstate.Lab, instanceID string) (int, error) {
	b, err := os.ReadFile(filepath.Join(lab.NodeDir(instanceID), "pid"))
	if err != nil {
		return 0, fmt.Errorf("instance %s is not running: %w", instanceID, err)
	}
	var pid int
	if _, err := fmt.Sscan(string(b), &pid); err != nil {
		return 0, fmt.Errorf("instance %s: its pid file: %w", instanceID, err)
	}
	// A pid is used again: it is the node's only if it is in the node's control group.
	group, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !strings.Contains(string(group), "/"+lab.Cgroup(instanceID)+"/") {
		return 0, fmt.Errorf("instance %s is not running: power it on with: lab node reboot", instanceID)
	}
	return pid, nil
}
