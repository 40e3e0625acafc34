package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/api/v1alpha1"
	"github.com/weft-cni/weft/internal/agent"
	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/datapath/next"
	"github.com/weft-cni/weft/internal/netkit"
	"github.com/weft-cni/weft/internal/nodehealth"
	"github.com/weft-cni/weft/internal/runtimeservice"
	"github.com/weft-cni/weft/internal/socklb"
)

// Assignment is what an operator would give the node: one ENI and its addresses.
type Assignment struct {
	MAC, Address, SubnetCIDR string
	Pods                     []string
}

// Spec says what an agent is started with. Everything it writes is below Dir.
type Spec struct {
	Name, Dir string
	// Plugin is the built weft-cni.
	Plugin     string
	Assignment Assignment
	// More are further ENIs of the node, in the same subnet.
	More []Assignment
	// Sizes of the datapath's maps; zero: the defaults.
	Sizes datapath.Sizes
	// Next has the agent run the programs of a later version, with other layouts.
	Next    bool
	AddWait time.Duration
	// Config is the agent's configuration; nil: the defaults.
	Config *config.Config
	// Metrics is the address that the agent serves its metrics on; empty: none.
	Metrics string
	// Program is one whose main calls Child; empty: this one.
	Program string
	// Cgroup is the directory of a control group whose sockets are connected to services; empty: no sockets are.
	Cgroup string
	// API is where the agent watches services; nil: see PutServices.
	API *API
}

// ConfDir, BinDir and SocketPath are the node's, as the runtime would know them.
func (s Spec) ConfDir() string    { return filepath.Join(s.Dir, "conf") }
func (s Spec) BinDir() string     { return filepath.Join(s.Dir, "bin") }
func (s Spec) RunDir() string     { return filepath.Join(s.Dir, "run") }
func (s Spec) Conflist() string   { return filepath.Join(s.ConfDir(), "05-weft.conflist") }
func (s Spec) BPFFS() string      { return filepath.Join(s.Dir, "bpf") }
func (s Spec) PinDir() string     { return filepath.Join(s.BPFFS(), "weft") }
func (s Spec) APISocket() string  { return filepath.Join(s.RunDir(), filepath.Base(contract.APISocket)) }
func (s Spec) LogFile() string    { return filepath.Join(s.Dir, "agent.log") }
func (s Spec) sandboxes() string  { return filepath.Join(s.Dir, "sandboxes") }
func (s Spec) stateDir() string   { return filepath.Join(s.Dir, "state") }
func (s Spec) specFile() string   { return filepath.Join(s.Dir, "spec.json") }
func (s Spec) statusFile() string { return filepath.Join(s.Dir, "status.json") }

// Prepare makes the directories of the node.
func (s Spec) Prepare() error {
	for _, d := range []string{s.ConfDir(), s.BinDir(), s.RunDir(), s.stateDir(), s.sandboxes()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(s.specFile(), b, 0o644)
}

// PutSandbox tells the agent's runtime that a container is there, DropSandbox that it is gone.
func (s Spec) PutSandbox(id string) error {
	return os.WriteFile(filepath.Join(s.sandboxes(), id), nil, 0o644)
}

// DropSandbox is the opposite of PutSandbox.
func (s Spec) DropSandbox(id string) error {
	err := os.Remove(filepath.Join(s.sandboxes(), id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// childArg makes the program an agent: see Child.
const childArg = "rig-agent"

// Agent is a running agent: a process of its own in its node's network namespace and in a mount namespace
// of its own, so that what it mounts and pins is gone with it. What it pins stays for the next one if a BPF
// file system is mounted on Spec.BPFFS before.
type Agent struct {
	spec  Spec
	cmd   *exec.Cmd
	stdin io.Closer
	log   *os.File
}

// Start launches the agent and waits until it has told the runtime that pods can be made.
func Start(ctx context.Context, node Space, s Spec) (*Agent, error) {
	a, err := Launch(node, s)
	if err != nil {
		return nil, err
	}
	if err := a.Ready(ctx); err != nil {
		return nil, errors.Join(err, a.Kill())
	}
	return a, nil
}

// Ready waits until a launched agent has told the runtime that pods can be made.
func (a *Agent) Ready(ctx context.Context) error {
	err := a.awaitReady(ctx)
	if err == nil {
		return nil
	}
	tail, _ := os.ReadFile(a.spec.LogFile())
	return fmt.Errorf("agent %s: %w; the end of its log:\n%s", a.spec.Name, err, tail[max(0, len(tail)-2000):])
}

// Launch starts the agent inside the node's namespace.
func Launch(node Space, s Spec) (*Agent, error) {
	if err := s.Prepare(); err != nil {
		return nil, err
	}
	if err := os.Remove(s.statusFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	log, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	program := s.Program
	if program == "" {
		program = "/proc/self/exe"
	}
	a := &Agent{spec: s, log: log, cmd: exec.Command(program, childArg, s.specFile())}
	a.cmd.Stdout, a.cmd.Stderr = log, log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	// The child ends when this pipe does, however this process ends.
	if a.stdin, err = a.cmd.StdinPipe(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	if err := node.Do(a.cmd.Start); err != nil {
		return nil, errors.Join(fmt.Errorf("start agent %s: %w", s.Name, err), log.Close())
	}
	return a, nil
}

// Status is what the agent last told.
func (a *Agent) Status() (st v1alpha1.NodeNetworkStatus, err error) {
	b, err := os.ReadFile(a.spec.statusFile())
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal(b, &st)
}

func (a *Agent) awaitReady(ctx context.Context) error {
	return Await(ctx, 5*time.Minute, "ready", func() error {
		st, err := a.Status()
		if err != nil {
			return err
		}
		for _, c := range st.Conditions {
			if c.Type == v1alpha1.ConditionReady && c.Status == metav1.ConditionTrue {
				_, err := os.Stat(a.spec.Conflist())
				return err
			}
		}
		return fmt.Errorf("conditions are %v", st.Conditions)
	})
}

// Await asks until there is no error or the time is over.
func Await(ctx context.Context, within time.Duration, what string, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s in vain until %s: %w", within, what, err)
		case <-tick.C:
		}
	}
}

// Kill ends the agent as a crash does.
func (a *Agent) Kill() error {
	err := a.cmd.Process.Kill()
	var exit *exec.ExitError
	if werr := a.cmd.Wait(); !errors.As(werr, &exit) {
		err = errors.Join(err, werr)
	}
	return errors.Join(err, a.log.Close())
}

// Stop ends the agent as the kubelet does.
func (a *Agent) Stop() error {
	return errors.Join(a.stdin.Close(), a.cmd.Wait(), a.log.Close())
}

// Used is the processor time that an agent took that has ended.
func (a *Agent) Used() time.Duration {
	return a.cmd.ProcessState.UserTime() + a.cmd.ProcessState.SystemTime()
}

// Process is the agent's, as /proc knows it.
func (a *Agent) Process() int { return a.cmd.Process.Pid }

// Child runs the agent if the arguments ask for it, and says whether they did. A main calls it first.
func Child(args []string) (bool, error) {
	if len(args) != 3 || args[1] != childArg {
		return false, nil
	}
	b, err := os.ReadFile(args[2])
	if err != nil {
		return true, err
	}
	var s Spec
	if err := json.Unmarshal(b, &s); err != nil {
		return true, err
	}
	if err := syscall.SetNonblock(0, true); err != nil {
		return true, fmt.Errorf("standard input: %w", err)
	}
	stdin := os.NewFile(0, "stdin") // one whose Close ends a Read
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { stdin.Close() })
	defer stop()
	g.Go(func() error {
		defer cancel()
		if _, err := io.Copy(io.Discard, stdin); err != nil && !errors.Is(err, os.ErrClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error { return agent.Run(ctx, s.options()) })
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return true, err
	}
	return true, nil
}

func (s Spec) options() agent.Options {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	conf := config.Default()
	if s.Config != nil {
		conf = *s.Config
	}
	conf.Cluster.Name = "rig"
	bpf := s.BPFFS()
	return agent.Options{
		Config: conf, Node: s.Name, RunDir: s.RunDir(), StateDir: s.stateDir(), ProcSysNet: "/proc/sys/net",
		Install: agent.Install{Plugin: s.Plugin, BinDir: s.BinDir(), ConfDir: s.ConfDir()},
		Cluster: given{s, log}, Runtime: given{s, log},
		Instance: func(context.Context) (string, error) { return instance, nil },
		Balancer: func() (agent.Balancer, error) {
			if s.Cgroup == "" {
				return nil, errors.New("this node of the rig has no control group")
			}
			return socklb.Open(socklb.Config{PinDir: s.PinDir(), Cgroup: s.Cgroup})
		},
		Datapath: func() (agent.Datapath, error) {
			cfg := datapath.Config{Log: log, BPFFS: bpf, PinDir: s.PinDir(), Sizes: s.Sizes}
			if s.Next {
				cfg.Object = datapath.ThisVersion().Successor(next.Load, next.Changed(), next.Previous())
			}
			return datapath.Open(cfg)
		},
		ProbeNetkit:    netkit.Probe,
		MetricsAddress: s.Metrics, AddWait: s.AddWait, CollectEvery: time.Minute, GuardEvery: 10 * time.Second, Version: "rig", Log: log,
	}
}

const instance = "i-0123456789abcdef0"

// given stands for the API server and the container runtime: one assignment that never changes, and the
// sandboxes that the driver says there are.
type given struct {
	Spec
	log *slog.Logger
}

var (
	_ agent.Cluster = given{}
	_ agent.Runtime = given{}
)

// Watch tells of the one assignment.
func (g given) Watch(ctx context.Context, changed func(*v1alpha1.NodeNetwork, *v1alpha1.ClusterNetwork), _ func(string)) error {
	nn := &v1alpha1.NodeNetwork{ObjectMeta: metav1.ObjectMeta{Name: g.Name, Generation: 1}}
	nn.Spec = v1alpha1.NodeNetworkSpec{InstanceID: instance, InstanceType: "m5.large"}
	for i, a := range append([]Assignment{g.Assignment}, g.More...) {
		in := v1alpha1.Interface{ID: fmt.Sprintf("eni-%d", i), MAC: a.MAC, DeviceIndex: int32(i), SubnetID: "subnet-a", SubnetCIDR: a.SubnetCIDR,
			PrimaryAddress: a.Address, Managed: true}
		for _, pod := range a.Pods {
			nn.Spec.Generation++
			in.Addresses = append(in.Addresses, v1alpha1.Address{Address: pod, Generation: nn.Spec.Generation})
		}
		nn.Spec.MaxInterfaces++
		nn.Spec.MaxAddressesPerInterface = max(nn.Spec.MaxAddressesPerInterface, int32(len(a.Pods)+1))
		nn.Spec.Interfaces = append(nn.Spec.Interfaces, in)
	}
	cn := &v1alpha1.ClusterNetwork{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClusterNetworkName}}
	cn.Status.VPCCIDRs = []string{g.Assignment.SubnetCIDR}
	cn.Status.Subnets = []v1alpha1.Subnet{{ID: "subnet-a", CIDR: g.Assignment.SubnetCIDR, DefaultRoute: v1alpha1.RouteInternetGateway}}
	changed(nn, cn)
	<-ctx.Done()
	return nil
}

// WatchPeers knows of none.
func (g given) WatchPeers(ctx context.Context, changed func([]nodehealth.Peer)) error {
	changed(nil)
	<-ctx.Done()
	return nil
}

// ApplyStatus leaves the status where the driver reads it.
func (g given) ApplyStatus(_ context.Context, s v1alpha1.NodeNetworkStatus) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	tmp := g.statusFile() + ".new"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, g.statusFile())
}

// Warn logs.
func (g given) Warn(reason, message string) {
	g.log.Warn("event", "reason", reason, "message", message)
}

// WarnAbout tells it to the log.
func (g given) WarnAbout(_ context.Context, object corev1.ObjectReference, reason, message string) error {
	g.log.Warn("event", "object", object.Name, "reason", reason, "message", message)
	return nil
}

// Sandboxes are the files in a directory.
func (g given) Sandboxes(context.Context) (map[string]runtimeservice.Sandbox, error) {
	files, err := os.ReadDir(g.sandboxes())
	if err != nil {
		return nil, err
	}
	out := map[string]runtimeservice.Sandbox{}
	for _, f := range files {
		out[f.Name()] = runtimeservice.Sandbox{ID: f.Name(), Namespace: "rig", Name: f.Name(), UID: "uid-" + f.Name()}
	}
	return out, nil
}
