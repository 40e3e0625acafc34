// Package labstate is where a lab keeps what it knows on disk and how everything of it is named, so that
// it can be found, and removed, by name alone.
package labstate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// DefaultName is the lab that is meant when nobody says which.
const DefaultName = "lab"

// A dash would make the names of one lab a prefix of another's.
var validName = regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)

// Lab names everything that belongs to one lab.
type Lab struct {
	Name string
	// Root and RunRoot hold the state and the sockets of every lab.
	Root, RunRoot string
}

// New returns the lab of that name. It need not exist.
func New(name string) (Lab, error) {
	if !validName.MatchString(name) {
		return Lab{}, fmt.Errorf("lab name %q: expected a lower-case letter and then at most 11 letters and digits, without dashes", name)
	}
	return Lab{Name: name, Root: "/var/lib/weft-lab", RunRoot: "/run/weft-lab"}, nil
}

// Prefix begins the name of each network namespace and control group of the lab, with a dash after it.
func (l Lab) Prefix() string { return "weft-" + l.Name }

// Netns is the name of one of the lab's network namespaces: vpc, inet, cp, xeni or an instance's id.
func (l Lab) Netns(suffix string) string { return l.Prefix() + "-" + suffix }

// Cgroup is the name of one of the lab's control groups: daemon, cp, run or an instance's id.
func (l Lab) Cgroup(suffix string) string { return l.Prefix() + "-" + suffix }

// Dir holds the lab's state.
func (l Lab) Dir() string { return filepath.Join(l.Root, l.Name) }

// RunDir holds the lab's sockets. It is short because a unix socket's path is limited to 107 bytes.
func (l Lab) RunDir() string { return filepath.Join(l.RunRoot, l.Name) }

// EtcdDir is on a tmpfs: the lab's etcd never needs to survive the machine.
func (l Lab) EtcdDir() string { return filepath.Join("/dev/shm", l.Prefix()+"-etcd") }

// LogDir holds one log for each component outside the nodes.
func (l Lab) LogDir() string { return filepath.Join(l.Dir(), "log") }

// BinDir is what `lab env` puts first into PATH.
func (l Lab) BinDir() string { return filepath.Join(l.Dir(), "bin") }

// PKIDir holds certificates and keys.
func (l Lab) PKIDir() string { return filepath.Join(l.Dir(), "pki") }

// NodeDir holds one instance's disk.
func (l Lab) NodeDir(instanceID string) string { return filepath.Join(l.Dir(), "nodes", instanceID) }

// AdminSocket is where the daemon listens for the lab command.
func (l Lab) AdminSocket() string { return filepath.Join(l.RunDir(), "admin.sock") }

// Kubeconfig is the person's kubeconfig.
func (l Lab) Kubeconfig() string { return filepath.Join(l.Dir(), "kubeconfig") }

// CABundle is the machine's certificate bundle with the lab's authority added.
func (l Lab) CABundle() string { return filepath.Join(l.Dir(), "ca-bundle.crt") }

// ResolvConf is resolv.conf of the workstation's namespace.
func (l Lab) ResolvConf() string { return filepath.Join(l.Dir(), "resolv.conf") }

// Exists says whether the lab has state on disk.
func (l Lab) Exists() bool {
	_, err := os.Stat(l.Dir())
	return err == nil
}

// Phase is how far a lab is.
type Phase string

// The phases of a lab's life.
const (
	Creating Phase = "creating"
	Ready    Phase = "ready"
	Failed   Phase = "failed"
)

// Record is what commands need to know of a lab without asking its daemon.
type Record struct {
	Lab     string    `json:"lab"`
	Phase   Phase     `json:"phase"`
	Problem string    `json:"problem,omitempty"`
	Created time.Time `json:"created"`
	// Cluster, Region and ClusterID are EKS's; Version is what the lab runs.
	Cluster   string `json:"cluster"`
	Region    string `json:"region"`
	ClusterID string `json:"clusterID"`
	Version   string `json:"version"`
	// Assets is the directory of built binaries that this lab runs from.
	Assets string `json:"assets"`
	// Relay is the machine's own address of the API server.
	Relay string `json:"relay,omitempty"`
	// Admin are the emulator's credentials for the person at the workstation.
	Admin Credentials `json:"admin,omitzero"`
	Nodes []Node      `json:"nodes,omitempty"`
	// DaemonPID is of the lab's daemon at its start.
	DaemonPID int `json:"daemonPID,omitempty"`
}

// Credentials are an access key of the emulated AWS account.
type Credentials struct {
	AccessKeyID     string `json:"accessKeyID"`
	SecretAccessKey string `json:"secretAccessKey"`
}

// Node is an instance that is a node.
type Node struct {
	Name       string `json:"name"`
	InstanceID string `json:"instanceID"`
	NodeGroup  string `json:"nodeGroup"`
	Type       string `json:"type"`
	Zone       string `json:"zone"`
	PrivateIP  string `json:"privateIP"`
	PublicIP   string `json:"publicIP,omitempty"`
}

// Find returns the node of that name or instance id.
func (r Record) Find(nameOrID string) (Node, bool) {
	i := slices.IndexFunc(r.Nodes, func(n Node) bool { return n.Name == nameOrID || n.InstanceID == nameOrID })
	if i < 0 {
		return Node{}, false
	}
	return r.Nodes[i], true
}

func (l Lab) recordPath() string { return filepath.Join(l.Dir(), "lab.json") }

// Save writes the record so that a reader sees the old one or the new one.
func (l Lab) Save(r Record) error {
	if err := os.MkdirAll(l.Dir(), 0o755); err != nil {
		return fmt.Errorf("lab %s: %w", l.Name, err)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("lab %s: %w", l.Name, err)
	}
	return WriteFile(l.recordPath(), append(b, '\n'), 0o600)
}

// ErrNoLab says that there is no lab of that name.
var ErrNoLab = errors.New("no such lab")

// Load reads the record.
func (l Lab) Load() (Record, error) {
	b, err := os.ReadFile(l.recordPath())
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, fmt.Errorf("lab %q: %w (create it with: lab create cluster -f eks-config.yaml --name %s)", l.Name, ErrNoLab, l.Name)
	}
	if err != nil {
		return Record{}, fmt.Errorf("lab %s: %w", l.Name, err)
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, fmt.Errorf("lab %s: %s: %w", l.Name, l.recordPath(), err)
	}
	return r, nil
}

// List returns the names of the labs that have state on this machine.
func List() ([]string, error) {
	l, err := New(DefaultName)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(l.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && validName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// WriteFile replaces a file at once: nobody reads half of it.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
