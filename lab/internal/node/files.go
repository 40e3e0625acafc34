package node

import (
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/weft-cni/weft/lab/internal/node/boot"
	"github.com/weft-cni/weft/lab/internal/pki"
)

const containerdSocket = "/run/containerd/containerd.sock"

type file struct {
	content []byte
	mode    fs.FileMode
}

// files lists what bootstrap writes onto a node's disk, by path.
func (c Config) files() (map[string]file, error) {
	kubeconfig, err := pki.Kubeconfig(c.Cluster, c.Endpoint, c.ClusterCA, c.Client)
	if err != nil {
		return nil, err
	}
	kubelet, err := c.kubeletConfig()
	if err != nil {
		return nil, err
	}
	out := map[string]file{
		"etc/containerd/config.toml":                       {c.containerdConfig(), 0o644},
		"etc/containerd/certs.d/_default/hosts.toml":       {c.mirror(), 0o644},
		"etc/kubernetes/kubelet/config.json":               {kubelet, 0o644},
		"etc/kubernetes/pki/ca.crt":                        {c.ClusterCA, 0o644},
		"etc/kubernetes/pki/kubelet.crt":                   {c.Serving.Cert, 0o644},
		"etc/kubernetes/pki/kubelet.key":                   {c.Serving.Key, 0o600},
		"var/lib/kubelet/kubeconfig":                       {kubeconfig, 0o600},
		"etc/resolv.conf":                                  {fmt.Appendf(nil, "nameserver %s\nsearch %s\n", c.Resolver, c.domain()), 0o644},
		"etc/ssl/certs/ca-certificates.crt":                {c.Bundle, 0o644},
		"etc/ssl/certs/ca-bundle.crt":                      {c.Bundle, 0o644},
		"etc/pki/tls/certs/ca-bundle.crt":                  {c.Bundle, 0o644},
		"etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem": {c.Bundle, 0o644},
	}
	if len(c.CNI) > 0 {
		out["etc/cni/net.d/10-lab.conflist"] = file{c.CNI, 0o644}
	}
	return out, nil
}

// domain is what DHCP of a VPC says: the private names' own.
func (c Config) domain() string {
	_, domain, _ := strings.Cut(c.Name, ".")
	return domain
}

func (c Config) containerdConfig() []byte {
	return fmt.Appendf(nil, `version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = %q
[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = %q
[plugins."io.containerd.cri.v1.images".registry]
config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/opt/cni/bin"]
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = %q
SystemdCgroup = false
`, containerdSocket, c.Sandbox, boot.BinDir+"/runc-lab")
}

// mirror sends the pulls of every registry to the lab's: nothing is pulled from outside.
func (c Config) mirror() []byte {
	return fmt.Appendf(nil, "server = %q\n[host.%q]\ncapabilities = [\"pull\", \"resolve\"]\n", c.Registry, c.Registry)
}

func (c Config) kubeletConfig() ([]byte, error) {
	taints := []any{}
	for _, t := range c.Taints {
		taints = append(taints, map[string]any{"key": t.Key, "value": t.Value, "effect": t.Effect})
	}
	b, err := yaml.Marshal(map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"kind":       "KubeletConfiguration",
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": "/etc/kubernetes/pki/ca.crt"},
		},
		"authorization":            map[string]any{"mode": "Webhook"},
		"tlsCertFile":              "/etc/kubernetes/pki/kubelet.crt",
		"tlsPrivateKeyFile":        "/etc/kubernetes/pki/kubelet.key",
		"clusterDomain":            "cluster.local",
		"clusterDNS":               []string{c.ClusterDNS.String()},
		"resolvConf":               "/etc/resolv.conf",
		"containerRuntimeEndpoint": "unix://" + containerdSocket,
		"maxPods":                  c.MaxPods,
		"providerID":               c.ProviderID(),
		"registerWithTaints":       taints,
		"cgroupDriver":             "cgroupfs",
		"failCgroupV1":             false,
		// The node's control group may have no controllers. Groups per quality of service would be made
		// without them, but a kubelet that starts again updates them, and that fails.
		"cgroupsPerQOS":          false,
		"enforceNodeAllocatable": []string{},
		"oomScoreAdj":            0,
		"failSwapOn":             false,
		// The disk is the machine's: how full it is says nothing of the node.
		"evictionHard":                map[string]string{},
		"imageGCHighThresholdPercent": 100,
		"serializeImagePulls":         false,
		"nodeStatusUpdateFrequency":   "5s",
		"nodeLeaseDurationSeconds":    8,
		"rotateCertificates":          false,
	})
	if err != nil {
		return nil, fmt.Errorf("kubelet's configuration: %w", err)
	}
	return b, nil
}

func (c Config) kubeletArgs() []string {
	return []string{
		boot.BinDir + "/kubelet",
		"--config=/etc/kubernetes/kubelet/config.json",
		"--kubeconfig=/var/lib/kubelet/kubeconfig",
		"--cloud-provider=external",
		"--node-ip=" + c.Address.String(),
		"--hostname-override=" + c.Name,
		"--node-labels=" + joinLabels(c.nodeLabels()),
		"--v=2",
	}
}

// nodeLabels are those that EKS' bootstrap gives, and the node group's own.
func (c Config) nodeLabels() map[string]string {
	labels := map[string]string{
		"alpha.eksctl.io/cluster-name":     c.Cluster,
		"alpha.eksctl.io/nodegroup-name":   c.NodeGroup,
		"node.kubernetes.io/instance-type": c.InstanceType,
	}
	if c.Managed {
		labels["eks.amazonaws.com/nodegroup"] = c.NodeGroup
		labels["eks.amazonaws.com/capacityType"] = "ON_DEMAND"
		if c.Spot {
			labels["eks.amazonaws.com/capacityType"] = "SPOT"
		}
	} else {
		labels["alpha.eksctl.io/instance-id"] = c.InstanceID
		labels["node-lifecycle"] = "on-demand"
	}
	maps.Copy(labels, c.Labels)
	return labels
}

func joinLabels(labels map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, k+"="+labels[k])
	}
	return strings.Join(list, ",")
}

// PTP is a network of one node's pods by the ptp plugin, without weft: what others are measured against. The
// pods have addresses of the node's own prefixes, so the VPC routes them.
func PTP(prefixes []netip.Prefix, mtu int) []byte {
	var ranges []string
	for _, p := range prefixes {
		ranges = append(ranges, `{"subnet": "`+p.String()+`"}`)
	}
	return []byte(`{
  "cniVersion": "1.0.0",
  "name": "lab-ptp",
  "plugins": [
    {"type": "ptp", "ipMasq": false, "mtu": ` + strconv.Itoa(mtu) + `,
     "ipam": {"type": "host-local", "ranges": [[` + strings.Join(ranges, ", ") + `]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`)
}
