package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/tools/clientcmd"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/weft-cni/weft/internal/apiserver"
	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/datapath"
	"github.com/weft-cni/weft/internal/netkit"
	"github.com/weft-cni/weft/internal/runtimeservice"
	"github.com/weft-cni/weft/internal/version"
)

// flags of weft-agent. Host paths have prefixes because a container sees the host's directories under
// other names.
type flags struct {
	config, node, kubeconfig      string
	runDir, stateDir, procSysNet  string
	criSocket, cgroups            string
	install                       Install
	healthAddress, metricsAddress string
}

// NewCommand returns weft-agent's command line.
func NewCommand() *cobra.Command {
	f := &flags{}
	root := &cobra.Command{
		Use: "weft-agent", Short: "weft's process on a node", Args: cobra.NoArgs,
		Example:      "  weft-agent --config=/etc/weft/config.yaml",
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c.Context()) },
	}
	p := root.PersistentFlags()
	p.StringVar(&f.install.BinDir, "host-cni-bin", "/host/opt/cni/bin", "the host's directory of CNI plugins")
	p.StringVar(&f.install.ConfDir, "host-cni-conf", "/host/etc/cni/net.d", "the host's directory of CNI configurations")
	p.StringVar(&f.runDir, "run-dir", contract.RunDir, "directory that a boot empties")
	p.StringVar(&f.stateDir, "state-dir", contract.StateDir, "directory that survives a boot")
	r := root.Flags()
	r.StringVar(&f.config, "config", config.Path, "configuration file")
	r.StringVar(&f.node, "node-name", os.Getenv("NODE_NAME"), "name of this node (default $NODE_NAME)")
	r.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig file (default: the pod's service account)")
	r.StringVar(&f.procSysNet, "proc-sys-net", "/host/proc/sys/net", "where the host's /proc/sys/net is writable")
	r.StringVar(&f.criSocket, "cri-socket", "/run/containerd/containerd.sock", "the container runtime's socket")
	r.StringVar(&f.cgroups, "host-cgroups", "/host/sys/fs/cgroup", "the host's control groups")
	r.StringVar(&f.install.Plugin, "cni-plugin", "/weft-cni", "the CNI plugin to install on the host")
	r.StringVar(&f.healthAddress, "health-address", fmt.Sprintf("127.0.0.1:%d", contract.AgentHealthPort), "address of /healthz, /readyz and /status")
	r.StringVar(&f.metricsAddress, "metrics-address", fmt.Sprintf(":%d", contract.AgentMetricsPort), "address of /metrics; empty: none")
	root.AddCommand(versionCommand(), f.cleanupCommand(), f.apiCommand())
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs, Example: "  weft-agent version",
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), version.String())
			return err
		},
	}
}

func (f *flags) cleanupCommand() *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use: "cleanup", Short: "Remove from this node what weft put there; pods' devices stay", Args: cobra.NoArgs,
		Example: "  weft-agent cleanup --wait",
		RunE: func(c *cobra.Command, _ []string) error {
			log := newLogger("info")
			err := Cleanup(c.Context(), CleanupOptions{
				Install: f.install, RunDir: f.runDir, StateDir: f.stateDir, PinDir: contract.PinDir, Wait: wait, Log: log,
				Datapath: openDatapath(log, datapath.Sizes{}),
			})
			if err == nil {
				fmt.Fprintln(c.OutOrStdout(), "removed the CNI configuration, the plugin, the programs, routes, rules and masquerading")
			}
			return err
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait for a running agent to end")
	return c
}

func openDatapath(log *slog.Logger, sizes datapath.Sizes) func() (Datapath, error) {
	return func() (Datapath, error) { return datapath.Open(datapath.Config{Log: log, Sizes: sizes}) }
}

// tableSizes are the configured ones, in a share of the node's memory where it names one.
func tableSizes(cfg config.Config) (datapath.Sizes, error) {
	sizes := datapath.Sizes{ConntrackTCP: cfg.BPF.CTTCPMax, ConntrackAny: cfg.BPF.CTAnyMax, Events: cfg.Events.RingBytes}
	var node unix.Sysinfo_t
	if err := unix.Sysinfo(&node); err != nil {
		return sizes, fmt.Errorf("read the node's memory: %w", err)
	}
	return sizes.Share(uint64(node.Totalram)*uint64(node.Unit), cfg.BPF.MapDynamicSizeRatio), nil
}

func newLogger(level string) *slog.Logger {
	l := slog.LevelInfo
	switch level {
	case "debug":
		l = slog.LevelDebug
	case "warn":
		l = slog.LevelWarn
	case "error":
		l = slog.LevelError
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: l}))
}

func (f *flags) run(ctx context.Context) error {
	cfg, err := config.Load(f.config)
	if err != nil {
		return err
	}
	if f.node == "" {
		return errors.New("the node's name is empty: set NODE_NAME or --node-name")
	}
	log := newLogger(cfg.LogLevel)
	ctrllog.SetLogger(logr.FromSlogHandler(log.Handler()))
	rc, err := clientcmd.BuildConfigFromFlags("", f.kubeconfig)
	if err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	rc.UserAgent = "weft-agent/" + version.Version
	rc.Dial = apiserver.Dial(nil)
	cluster, err := NewKubernetes(rc, f.node)
	if err != nil {
		return err
	}
	defer cluster.Close()
	runtime, err := runtimeservice.New(f.criSocket)
	if err != nil {
		return err
	}
	defer runtime.Close()
	sizes, err := tableSizes(cfg)
	if err != nil {
		return err
	}
	f.install.HostPorts = cfg.KubeProxyReplacement
	log.Info("weft-agent begins", "version", version.String(), "node", f.node)
	return Run(ctx, Options{
		Config: cfg, Node: f.node, RunDir: f.runDir, StateDir: f.stateDir, ProcSysNet: f.procSysNet,
		Exceptions: config.IPMasqAgentPath,
		Install:    f.install, Cluster: cluster, Runtime: runtime, Instance: InstanceID,
		Datapath:      openDatapath(log, sizes),
		Balancer:      func() (Balancer, error) { return openBalancer(f.cgroups, cfg) },
		KubeProxy:     nodesKubeProxy{},
		ProbeNetkit:   netkit.Probe,
		HealthAddress: f.healthAddress, MetricsAddress: f.metricsAddress,
		AddWait: 40 * time.Second, CollectEvery: time.Minute, GuardEvery: 10 * time.Second, Version: version.Version, Log: log,
	})
}
