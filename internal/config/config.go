// Package config is what the chart hands to the agent and the operator: one YAML document, mounted from
// the ConfigMap weft-config. An unknown key is an error, so that a typo never becomes a default.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/masquerade"
)

// Names of the ConfigMap, its key, and where the chart mounts it.
const (
	ConfigMap = "weft-config"
	Key       = "config.yaml"
	Path      = "/etc/weft/config.yaml"
	// IPMasqAgentPath is where the chart mounts the ConfigMap ip-masq-agent, which people change while
	// the agent runs.
	IPMasqAgentPath = "/etc/weft-ip-masq-agent/config"
)

// Config is the whole document. Field names are the chart's value names.
type Config struct {
	Cluster               Cluster         `json:"cluster"`
	IPAM                  IPAM            `json:"ipam"`
	ENI                   ENI             `json:"eni"`
	CNI                   CNI             `json:"cni"`
	RoutingMode           string          `json:"routingMode"`                // "native"
	MTU                   int             `json:"MTU"`                        // 0: the ENI's own
	EnableIPv4Masquerade  bool            `json:"enableIPv4Masquerade"`       // for what leaves the VPC
	IPv4NativeRoutingCIDR string          `json:"ipv4NativeRoutingCIDR"`      // never masqueraded, beside the VPC's
	MasqueradeInterfaces  []string        `json:"egressMasqueradeInterfaces"` // empty: every ENI
	BPF                   BPF             `json:"bpf"`
	IPMasqAgent           IPMasqAgent     `json:"ipMasqAgent"`
	BandwidthManager      Bandwidth       `json:"bandwidthManager"`
	Events                Events          `json:"events"`
	PodMetadataAccess     bool            `json:"podMetadataAccess"`               // false: pods get nothing from the instance's metadata
	HealthChecking        bool            `json:"healthChecking"`                  // nodes probe each other
	ICMPFailureThreshold  int             `json:"healthCheckICMPFailureThreshold"` // failures in a row, of TCP too
	NodeHealth            NodeHealth      `json:"nodeHealth"`
	ExtraConfig           ExtraConfig     `json:"extraConfig"`
	AgentNotReadyTaintKey string          `json:"agentNotReadyTaintKey"`
	RemoveTaints          bool            `json:"removeNodeTaints"`
	SyncInterval          metav1.Duration `json:"syncInterval"` // operator: full read of EC2
	LogLevel              string          `json:"logLevel"`     // debug, info, warn, error

	// KubeProxyReplacement has weft serve every kind of service, for the node's own sockets and for whoever
	// comes from outside too. Otherwise pods' sockets are connected to services, and kube-proxy does the rest.
	KubeProxyReplacement     bool         `json:"kubeProxyReplacement"`
	LoadBalancer             LoadBalancer `json:"loadBalancer"`
	Maglev                   Maglev       `json:"maglev"`
	NodePort                 NodePort     `json:"nodePort"`
	SocketLB                 SocketLB     `json:"socketLB"`
	ServiceNoBackendResponse string       `json:"serviceNoBackendResponse"`
}

// Cluster names the cluster.
type Cluster struct {
	Name string `json:"name"`
	ID   int    `json:"id"` // 0 to 255
}

// IPAM holds the mode and the watermarks, with Cilium's meaning.
type IPAM struct {
	Mode string `json:"mode"` // "eni"
	// MinAllocate addresses are wanted when a node appears, PreAllocate free ones at any time,
	// MaxAllocate at most (0: no limit).
	MinAllocate       int `json:"minAllocate"`
	PreAllocate       int `json:"preAllocate"`
	MaxAllocate       int `json:"maxAllocate"`
	MaxAboveWatermark int `json:"maxAboveWatermark"`
}

// ENI holds what the operator needs for EC2.
type ENI struct {
	// FirstInterfaceIndex is the first device index whose addresses endpoints get.
	FirstInterfaceIndex int               `json:"firstInterfaceIndex"`
	DeleteOnTermination bool              `json:"deleteOnTermination"`
	Tags                map[string]string `json:"eniTags,omitempty"`
	GCInterval          metav1.Duration   `json:"gcInterval"`
}

// BPF holds the datapath's own settings.
type BPF struct {
	// Masquerade has the programs translate what leaves the VPC; otherwise nftables does.
	Masquerade bool `json:"masquerade"`
	// MasqueradePorts are the source ports that the programs give, such as 1024-29999. Empty: the node's
	// largest range outside its ephemeral ports and the node ports.
	MasqueradePorts string `json:"masqueradePorts"`
	// MapDynamicSizeRatio is the part of the node's memory that the tables of connections take together. 0:
	// none, their sizes are fixed.
	MapDynamicSizeRatio float64 `json:"mapDynamicSizeRatio"`
	// CTTCPMax and CTAnyMax bound the tables of connections: TCP, and all others. 0: by the
	// ratio, or what the programs were built with.
	CTTCPMax int `json:"ctTcpMax"`
	CTAnyMax int `json:"ctAnyMax"`
	// ProgramStatistics has the kernel measure every program always.
	ProgramStatistics bool `json:"programStatistics"`
	// DatapathMode is what devices pods get.
	DatapathMode string `json:"datapathMode"`
	// LBExternalClusterIP has cluster addresses of services answered for clients from outside the node, too.
	LBExternalClusterIP bool `json:"lbExternalClusterIP"`
}

// Values of DatapathMode, by Cilium's names. Auto is netkit where it works and weft's tests have tried it,
// else veth.
const (
	DatapathVeth     = "veth"
	DatapathNetkit   = "netkit"
	DatapathNetkitL2 = "netkit-l2"
	DatapathAuto     = "auto"
)

// MinConnections and MaxConnections bound the sizes of the tables of connections, MaxSizeRatio their part
// of the node's memory.
const (
	MinConnections = 1024
	MaxConnections = 1 << 24
	MaxSizeRatio   = 0.5
)

// ExtraConfig holds what Cilium's agent takes as options only, under their names.
type ExtraConfig struct {
	// How long a flow is remembered after its last packet: an established TCP connection, one that is
	// beginning, one that is closed, and a flow of any other protocol.
	CTTimeoutTCP metav1.Duration `json:"bpf-ct-timeout-regular-tcp"`
	CTTimeoutSYN metav1.Duration `json:"bpf-ct-timeout-regular-tcp-syn"`
	CTTimeoutFIN metav1.Duration `json:"bpf-ct-timeout-regular-tcp-fin"`
	CTTimeoutAny metav1.Duration `json:"bpf-ct-timeout-regular-any"`
}

// MinLifetime and MaxLifetime bound how long a flow is remembered.
const (
	MinLifetime = time.Second
	MaxLifetime = 14 * 24 * time.Hour
)

// IPMasqAgent says whether destinations that aren't masqueraded are read from IPMasqAgentPath.
type IPMasqAgent struct {
	Enabled bool `json:"enabled"`
}

// Bandwidth says how what limited pods send is kept to its limit.
type Bandwidth struct {
	// Enabled has the agent set fq on ENIs whose queue nobody chose; otherwise what is there is used.
	Enabled bool `json:"enabled"`
}

// Events bounds what the datapath tells and the agent remembers.
type Events struct {
	// PerSecond bounds each type of event on each CPU; what is above is only counted. 0: none are told.
	PerSecond int `json:"perSecond"`
	// Keep is how many of the last ones the agent keeps.
	Keep int `json:"keep"`
	// RingBytes is the size of the ring between programs and agent, a power of two.
	RingBytes int `json:"ringBytes"`
}

// NodeHealth says how nodes probe each other.
type NodeHealth struct {
	Interval metav1.Duration `json:"interval"` // of rounds
	Timeout  metav1.Duration `json:"timeout"`  // of a probe
	Sample   int             `json:"sample"`   // of peers in a round; a cluster with no more is probed whole
}

// CNI says where the agent installs the plugin, as paths on the host.
type CNI struct {
	ConfPath string `json:"confPath"`
	BinPath  string `json:"binPath"`
}

// Default is the configuration of an empty document.
func Default() Config {
	return Config{
		IPAM:                 IPAM{Mode: "eni", PreAllocate: 8},
		ENI:                  ENI{DeleteOnTermination: true, GCInterval: metav1.Duration{Duration: 5 * time.Minute}},
		CNI:                  CNI{ConfPath: contract.CNIConfDir, BinPath: contract.CNIBinDir},
		RoutingMode:          "native",
		EnableIPv4Masquerade: true,
		BPF:                  BPF{Masquerade: true, DatapathMode: DatapathVeth},
		Events:               Events{PerSecond: 1000, Keep: 16384, RingBytes: 4 << 20},
		PodMetadataAccess:    true,
		HealthChecking:       true,
		ICMPFailureThreshold: 3,
		NodeHealth:           NodeHealth{Interval: metav1.Duration{Duration: 10 * time.Second}, Timeout: metav1.Duration{Duration: 2 * time.Second}, Sample: 32},
		ExtraConfig: ExtraConfig{
			CTTimeoutTCP: metav1.Duration{Duration: 8000 * time.Second}, CTTimeoutSYN: metav1.Duration{Duration: time.Minute},
			CTTimeoutFIN: metav1.Duration{Duration: 10 * time.Second}, CTTimeoutAny: metav1.Duration{Duration: time.Minute},
		},
		AgentNotReadyTaintKey: contract.DefaultTaintKey,
		RemoveTaints:          true,
		SyncInterval:          metav1.Duration{Duration: time.Minute},
		LogLevel:              "info",

		LoadBalancer: LoadBalancer{Algorithm: AlgorithmRandom, ServiceTopology: true}, Maglev: Maglev{TableSize: DefaultMaglevSize},
		NodePort: NodePort{Range: defaultNodePorts, BindProtection: true}, ServiceNoBackendResponse: NoBackendReject,
	}
}

// Parse reads a document over the defaults and validates it.
func Parse(b []byte) (Config, error) {
	c := Default()
	if err := yaml.UnmarshalStrict(b, &c); err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

// Load parses the file at path.
func Load(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	return Parse(b)
}

// Validate returns every problem at once, each with its field's path.
func (c Config) Validate() error {
	var errs []error
	bad := func(path, format string, a ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, a...)))
	}
	if c.Cluster.Name == "" {
		bad("cluster.name", "is empty: identities are made of it, so every cluster needs its own")
	}
	if len(c.Cluster.Name) > 63 {
		bad("cluster.name", "is %d characters, at most 63", len(c.Cluster.Name))
	}
	if c.Cluster.ID < 0 || c.Cluster.ID > 255 {
		bad("cluster.id", "is %d, expected 0 to 255", c.Cluster.ID)
	}
	if c.IPAM.Mode != "eni" {
		bad("ipam.mode", "is %q, this version has eni", c.IPAM.Mode)
	}
	if c.RoutingMode != "native" {
		bad("routingMode", "is %q, this version has native", c.RoutingMode)
	}
	for path, n := range map[string]int{
		"ipam.minAllocate": c.IPAM.MinAllocate, "ipam.preAllocate": c.IPAM.PreAllocate,
		"ipam.maxAllocate": c.IPAM.MaxAllocate, "ipam.maxAboveWatermark": c.IPAM.MaxAboveWatermark,
		"eni.firstInterfaceIndex": c.ENI.FirstInterfaceIndex,
	} {
		if n < 0 {
			bad(path, "is %d, expected 0 or more", n)
		}
	}
	if c.MTU != 0 && (c.MTU < 1280 || c.MTU > 9001) {
		bad("MTU", "is %d, expected 0 (the ENI's own) or 1280 to 9001", c.MTU)
	}
	if c.IPv4NativeRoutingCIDR != "" {
		if p, err := netip.ParsePrefix(c.IPv4NativeRoutingCIDR); err != nil || !p.Addr().Is4() {
			bad("ipv4NativeRoutingCIDR", "is %q, expected an IPv4 prefix such as 10.0.0.0/8", c.IPv4NativeRoutingCIDR)
		}
	}
	if c.Events.PerSecond < 0 || c.Events.PerSecond > 1_000_000 {
		bad("events.perSecond", "is %d, expected 0 (none) to 1000000", c.Events.PerSecond)
	}
	if c.Events.Keep < 1 || c.Events.Keep > 1<<20 {
		bad("events.keep", "is %d, expected 1 to %d", c.Events.Keep, 1<<20)
	}
	if n := c.Events.RingBytes; n < 64<<10 || n > 1<<30 || n&(n-1) != 0 {
		bad("events.ringBytes", "is %d, expected a power of two from 65536 to %d", n, 1<<30)
	}
	for path, n := range map[string]int{"bpf.ctTcpMax": c.BPF.CTTCPMax, "bpf.ctAnyMax": c.BPF.CTAnyMax} {
		if n != 0 && (n < MinConnections || n > MaxConnections) {
			bad(path, "is %d, expected %d to %d connections, or 0 (by bpf.mapDynamicSizeRatio, or the default)", n, MinConnections, MaxConnections)
		}
	}
	if r := c.BPF.MapDynamicSizeRatio; !(r >= 0 && r <= MaxSizeRatio) {
		bad("bpf.mapDynamicSizeRatio", "is %g, expected 0 (none) to %g of the node's memory", r, MaxSizeRatio)
	}
	for option, d := range map[string]metav1.Duration{
		"bpf-ct-timeout-regular-tcp": c.ExtraConfig.CTTimeoutTCP, "bpf-ct-timeout-regular-tcp-syn": c.ExtraConfig.CTTimeoutSYN,
		"bpf-ct-timeout-regular-tcp-fin": c.ExtraConfig.CTTimeoutFIN, "bpf-ct-timeout-regular-any": c.ExtraConfig.CTTimeoutAny,
	} {
		if d.Duration < MinLifetime || d.Duration > MaxLifetime {
			bad("extraConfig."+option, "is %s, expected %s to %s", d.Duration, MinLifetime, MaxLifetime)
		}
	}
	switch c.BPF.DatapathMode {
	case DatapathVeth, DatapathNetkit, DatapathNetkitL2, DatapathAuto:
	default:
		bad("bpf.datapathMode", "is %q, expected veth, netkit, netkit-l2 or auto", c.BPF.DatapathMode)
	}
	if c.BPF.MasqueradePorts != "" {
		if _, err := masquerade.ParsePorts(c.BPF.MasqueradePorts); err != nil {
			bad("bpf.masqueradePorts", "%v", err)
		}
	}
	c.validateServices(bad)
	if c.ICMPFailureThreshold < 1 || c.ICMPFailureThreshold > 100 {
		bad("healthCheckICMPFailureThreshold", "is %d, expected 1 to 100", c.ICMPFailureThreshold)
	}
	if h := c.NodeHealth; h.Interval.Duration < time.Second || h.Timeout.Duration < 10*time.Millisecond || h.Timeout.Duration > h.Interval.Duration {
		bad("nodeHealth", "has interval %s and timeout %s, expected an interval of 1s or more and a timeout of 10ms up to the interval", h.Interval.Duration, h.Timeout.Duration)
	}
	if c.NodeHealth.Sample < 2 || c.NodeHealth.Sample > 1000 {
		bad("nodeHealth.sample", "is %d, expected 2 to 1000", c.NodeHealth.Sample)
	}
	if c.AgentNotReadyTaintKey == "" || strings.ContainsAny(c.AgentNotReadyTaintKey, " =:") {
		bad("agentNotReadyTaintKey", "is %q, expected a taint's key such as %s", c.AgentNotReadyTaintKey, contract.DefaultTaintKey)
	}
	if c.SyncInterval.Duration < time.Second {
		bad("syncInterval", "is %s, expected 1s or more", c.SyncInterval.Duration)
	}
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		bad("logLevel", "is %q, expected debug, info, warn or error", c.LogLevel)
	}
	return errors.Join(errs...)
}
