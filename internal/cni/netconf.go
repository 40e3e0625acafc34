package cni

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/weft-cni/weft/internal/contract"
)

// Version is the newest CNI version that the plugin speaks; the conflist carries it, or the runtime
// never asks STATUS and GC.
const Version = "1.1.0"

// SupportedVersions are all versions that the plugin speaks.
func SupportedVersions() []string {
	return []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}
}

// NetConf is the plugin's own part of the conflist.
type NetConf struct {
	types.PluginConf

	// Socket is the agent's. The files beside it belong to the same boot.
	Socket string `json:"socket,omitempty"`
	// Deletes is the directory for DELs that come while the agent is away.
	Deletes string `json:"deletes,omitempty"`
	// RuntimeConfig is what the runtime knows of the pod.
	RuntimeConfig RuntimeConfig `json:"runtimeConfig,omitzero"`
}

// RuntimeConfig holds the capabilities that the conflist asks for.
type RuntimeConfig struct {
	// Bandwidth is made of the pod's annotations kubernetes.io/ingress-bandwidth and egress-bandwidth by the
	// runtime, which refuses bad values before it asks for a network.
	Bandwidth *Bandwidth `json:"bandwidth,omitempty"`
	// PortMappings are the host ports of the pod's containers.
	PortMappings []PortMapping `json:"portMappings,omitempty"`
}

// PortMapping is a port of the node that leads to one of the pod's.
type PortMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"` // tcp, udp or sctp; runtimes write it in either case
	HostIP        string `json:"hostIP,omitempty"`
}

// Bandwidth are limits in bits a second, 0 for none. The bursts that come with them are no wish of
// anybody's: runtimes fill in the largest number.
type Bandwidth struct {
	IngressRate uint64 `json:"ingressRate,omitempty"`
	EgressRate  uint64 `json:"egressRate,omitempty"`
}

// ParseNetConf reads what the runtime hands to the plugin on stdin.
func ParseNetConf(b []byte) (NetConf, error) {
	c := NetConf{Socket: contract.CNISocket, Deletes: contract.DeletesDir}
	if err := json.Unmarshal(b, &c); err != nil {
		return NetConf{}, fmt.Errorf("network configuration: %w", err)
	}
	if !filepath.IsAbs(c.Socket) {
		return NetConf{}, fmt.Errorf("network configuration: socket is %q, expected an absolute path such as %s", c.Socket, contract.CNISocket)
	}
	if !filepath.IsAbs(c.Deletes) {
		return NetConf{}, fmt.Errorf("network configuration: deletes is %q, expected an absolute path such as %s", c.Deletes, contract.DeletesDir)
	}
	return c, nil
}

// ReadyFile stands beside the socket and is touched by an agent that is ready.
func (c NetConf) ReadyFile() string {
	return filepath.Join(filepath.Dir(c.Socket), filepath.Base(contract.ReadyFile))
}

// Conflist renders what the agent writes into the runtime's configuration directory. portmap says whether the
// plugin for host ports does them: it must be present, because a conflist that names an absent plugin breaks every
// pod. The agent is told of host ports either way, so that it can take them over.
func Conflist(socket, deletes string, portmap bool) ([]byte, error) {
	type plugin struct {
		Type         string          `json:"type"`
		Socket       string          `json:"socket,omitempty"`
		Deletes      string          `json:"deletes,omitempty"`
		Capabilities map[string]bool `json:"capabilities,omitempty"`
	}
	list := struct {
		CNIVersion string   `json:"cniVersion"`
		Name       string   `json:"name"`
		Plugins    []plugin `json:"plugins"`
	}{CNIVersion: Version, Name: contract.CNINetwork}
	list.Plugins = append(list.Plugins, plugin{Type: contract.CNIBinName, Socket: socket, Deletes: deletes, Capabilities: map[string]bool{"bandwidth": true, "portMappings": true}})
	if portmap {
		list.Plugins = append(list.Plugins, plugin{Type: "portmap", Capabilities: map[string]bool{"portMappings": true}})
	}
	b, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("conflist: %w", err)
	}
	return append(b, '\n'), nil
}
