package node

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/weft-cni/weft/lab/internal/labstate"
	"github.com/weft-cni/weft/lab/internal/node/boot"
)

func config(t *testing.T) Config {
	t.Helper()
	lab := labstate.Lab{Name: "x", Root: t.TempDir(), RunRoot: t.TempDir()}
	assets := t.TempDir()
	for _, p := range plugins {
		if err := os.WriteFile(filepath.Join(assets, p), []byte("program "+p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return Config{
		Lab: lab, Assets: assets, InstanceID: "i-0123456789abcdef0", InstanceType: "m5.xlarge", NodeGroup: "runtime", Cluster: "c",
		Region: "us-west-2", Zone: "us-west-2b", Name: "ip-192-168-1-2.us-west-2.compute.internal", Address: netip.MustParseAddr("192.168.1.2"),
		MaxPods: 58, Managed: true, Labels: map[string]string{"apigee.com/node-pool": "runtime"},
		Taints:   []Taint{{"node.cilium.io/agent-not-ready", "true", "NoExecute"}},
		Endpoint: "https://api.example", Resolver: netip.MustParseAddr("192.168.0.2"), ClusterDNS: netip.MustParseAddr("10.100.0.10"),
		Registry: "http://192.168.0.2:5000", Sandbox: "x/pause:1", Bundle: []byte("bundle"),
	}
}

func TestPrepareWritesWhatEKSBootstrapWrites(t *testing.T) {
	c := config(t)
	if err := Prepare(c); err != nil {
		t.Fatal(err)
	}
	read := func(path string) string {
		b, err := os.ReadFile(filepath.Join(c.disk(), path))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var kubelet struct {
		MaxPods             int      `json:"maxPods"`
		ProviderID          string   `json:"providerID"`
		CgroupsPerQOS       bool     `json:"cgroupsPerQOS"`
		EnforceNode         []string `json:"enforceNodeAllocatable"`
		ClusterDNS          []string `json:"clusterDNS"`
		RegisterWithTaints  []Taint  `json:"registerWithTaints"`
		ContainerRuntimeURL string   `json:"containerRuntimeEndpoint"`
	}
	if err := yaml.Unmarshal([]byte(read("etc/kubernetes/kubelet/config.json")), &kubelet); err != nil {
		t.Fatal(err)
	}
	if kubelet.MaxPods != 58 || kubelet.ProviderID != "aws:///us-west-2b/i-0123456789abcdef0" || kubelet.CgroupsPerQOS || len(kubelet.EnforceNode) != 0 ||
		!slices.Equal(kubelet.ClusterDNS, []string{"10.100.0.10"}) || !slices.Equal(kubelet.RegisterWithTaints, c.Taints) {
		t.Errorf("kubelet's configuration = %+v", kubelet)
	}
	if got := read("etc/resolv.conf"); got != "nameserver 192.168.0.2\nsearch us-west-2.compute.internal\n" {
		t.Errorf("resolv.conf = %q", got)
	}
	if got := read("etc/containerd/certs.d/_default/hosts.toml"); !strings.Contains(got, `[host."http://192.168.0.2:5000"]`) {
		t.Errorf("mirror = %q", got)
	}
	entries, err := os.ReadDir(filepath.Join(c.disk(), "etc/cni/net.d"))
	if err != nil || len(entries) != 0 {
		t.Errorf("/etc/cni/net.d = %v, %v; want it empty: the CNI is what is tested", entries, err)
	}
	args := strings.Join(c.kubeletArgs(), " ")
	for _, want := range []string{
		"--cloud-provider=external", "--node-ip=192.168.1.2", "--hostname-override=ip-192-168-1-2.us-west-2.compute.internal",
		"eks.amazonaws.com/nodegroup=runtime", "eks.amazonaws.com/capacityType=ON_DEMAND", "alpha.eksctl.io/cluster-name=c",
		"alpha.eksctl.io/nodegroup-name=runtime", "node.kubernetes.io/instance-type=m5.xlarge", "apigee.com/node-pool=runtime",
	} {
		if !strings.Contains(args, want) {
			t.Errorf("kubelet's arguments %q lack %s", args, want)
		}
	}
	b, err := os.ReadFile(filepath.Join(c.dir(), "boot.json"))
	if err != nil {
		t.Fatal(err)
	}
	var spec boot.Spec
	if err := json.Unmarshal(b, &spec); err != nil {
		t.Fatal(err)
	}
	if len(spec.MachineID) != 32 || len(spec.Services) != 2 || spec.Services[0].Socket == "" {
		t.Errorf("boot.json = %+v", spec)
	}
}

func TestPrepareAgainKeepsWhatTheNodeChanged(t *testing.T) {
	c := config(t)
	if err := Prepare(c); err != nil {
		t.Fatal(err)
	}
	changed := filepath.Join(c.disk(), "opt/cni/bin/ptp")
	conflist := filepath.Join(c.disk(), "etc/cni/net.d/05-weft.conflist")
	for _, f := range []string{changed, conflist} {
		if err := os.WriteFile(f, []byte("installed"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := Prepare(c); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{changed, conflist} {
		if b, err := os.ReadFile(f); err != nil || string(b) != "installed" {
			t.Errorf("%s = %q, %v", f, b, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(c.Assets, "ptp")); err != nil || string(b) != "program ptp" {
		t.Errorf("the node wrote into the cache: %q, %v", b, err)
	}
}

func TestCrashLoop(t *testing.T) {
	c := config(t)
	if err := CrashLoop(c.Lab, c.InstanceID); err != nil {
		t.Errorf("a node that hasn't booted: %v", err)
	}
	status := filepath.Join(c.disk(), boot.StatusFile)
	if err := os.MkdirAll(filepath.Dir(status), 0o755); err != nil {
		t.Fatal(err)
	}
	for text, loops := range map[string]bool{
		`{"kubelet":{"restarts":1,"crashes":1}}`:                        false,
		`{"kubelet":{"restarts":9,"crashes":0}}`:                        false,
		`{"kubelet":{"restarts":3,"crashes":3,"last":"exit status 1"}}`: true,
	} {
		if err := os.WriteFile(status, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := CrashLoop(c.Lab, c.InstanceID); (err != nil) != loops {
			t.Errorf("%s: %v, want an error: %v", text, err, loops)
		}
	}
}

func TestPTP(t *testing.T) {
	b := PTP([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/28"), netip.MustParsePrefix("10.0.0.16/28")}, 9001)
	var conf struct {
		Plugins []struct {
			Type string
			MTU  int
			IPAM struct{ Ranges [][]struct{ Subnet string } }
		}
	}
	if err := json.Unmarshal(b, &conf); err != nil {
		t.Fatal(err)
	}
	if p := conf.Plugins[0]; p.Type != "ptp" || p.MTU != 9001 || len(p.IPAM.Ranges[0]) != 2 {
		t.Errorf("conflist = %s", b)
	}
}
