package install

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/yaml"

	"github.com/weft-cni/weft/internal/config"
	"github.com/weft-cni/weft/internal/contract"
	"github.com/weft-cni/weft/internal/kube"
	"github.com/weft-cni/weft/internal/masquerade"
	"github.com/weft-cni/weft/internal/status"
	"github.com/weft-cni/weft/internal/values"
)

var update = flag.Bool("update", false, "write the golden files anew")

// guides are the values files of the walkthroughs, with their placeholders filled in.
var guides = []string{"cilium-config", "cilium-values", "first-steps"}

func effective(t *testing.T, v map[string]any) map[string]any {
	t.Helper()
	catalogue, err := values.Load()
	if err != nil {
		t.Fatal(err)
	}
	r := catalogue.Check(v, values.Options{})
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return r.Values
}

func doc(t *testing.T, text string) map[string]any {
	t.Helper()
	v := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func guide(t *testing.T, name string) map[string]any {
	t.Helper()
	v, err := ValueFlags{Files: []string{filepath.Join("testdata", name+".yaml")}}.Read()
	if err != nil {
		t.Fatal(err)
	}
	if name == "cilium-values" {
		v["cluster"] = map[string]any{"name": "c1"}
	}
	return v
}

func render(t *testing.T, v map[string]any, kubernetes string, apis []string) string {
	t.Helper()
	r, err := Render(v, "kube-system", kubernetes, apis)
	if err != nil {
		t.Fatal(err)
	}
	return r.Manifest
}

// decodeAll decodes every object as the API server would with strict field validation.
func decodeAll(t *testing.T, manifest string) []runtime.Object {
	t.Helper()
	scheme, err := kube.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	objects, err := Objects(manifest)
	if err != nil {
		t.Fatal(err)
	}
	var out []runtime.Object
	for _, o := range objects {
		b, err := yaml.Marshal(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		decoded, _, err := decoder.Decode(b, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", label(o), err)
		}
		out = append(out, decoded)
	}
	return out
}

func one[T runtime.Object](t *testing.T, objects []runtime.Object, want func(T) bool) T {
	t.Helper()
	for _, o := range objects {
		if typed, ok := o.(T); ok && want(typed) {
			return typed
		}
	}
	var zero T
	t.Fatalf("no such %T in the manifest", zero)
	return zero
}

func daemonSet(t *testing.T, objects []runtime.Object) *appsv1.DaemonSet {
	return one(t, objects, func(d *appsv1.DaemonSet) bool { return d.Name == "weft" })
}

func deployment(t *testing.T, objects []runtime.Object) *appsv1.Deployment {
	return one(t, objects, func(d *appsv1.Deployment) bool { return d.Name == "weft-operator" })
}

func configOf(t *testing.T, objects []runtime.Object) config.Config {
	t.Helper()
	cm := one(t, objects, func(c *corev1.ConfigMap) bool { return c.Name == config.ConfigMap })
	c, err := config.Parse([]byte(cm.Data[config.Key]))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGuides(t *testing.T) {
	for _, name := range guides {
		t.Run(name, func(t *testing.T) {
			got := render(t, effective(t, guide(t, name)), "v1.31.2-eks-7f9249a", served)
			decodeAll(t, got)
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal([]byte(got), want) {
				t.Errorf("differs from %s; see what changed, then run go test -update", golden)
			}
			// Plain helm takes the guide's file as it is and makes the same.
			if plain := render(t, guide(t, name), "v1.31.2-eks-7f9249a", served); plain != got {
				t.Error("plain helm renders something else than weft install")
			}
		})
	}
}

func TestKubernetesVersions(t *testing.T) {
	v := doc(t, `{cluster: {name: c1}}`)
	for version, want := range map[string]bool{"v1.27.16-eks-aeac579": false, "v1.29.9": false, "v1.30.0": true, "v1.31.2-eks-7f9249a": true, "v1.36.3": true} {
		manifest := render(t, v, version, served)
		decodeAll(t, manifest)
		if got := strings.Contains(manifest, "kind: ValidatingAdmissionPolicy\n"); got != want {
			t.Errorf("%s: admission policy is %v, expected %v", version, got, want)
		}
		if got := strings.Contains(manifest, "appArmorProfile:"); got != want {
			t.Errorf("%s: the field appArmorProfile is %v, expected %v", version, got, want)
		}
		if got := strings.Contains(manifest, "container.apparmor.security.beta.kubernetes.io/agent: unconfined"); got == want {
			t.Errorf("%s: AppArmor's annotation is %v, expected %v", version, got, !want)
		}
	}
	if manifest := render(t, v, "v1.31.0", nil); strings.Contains(manifest, "ValidatingAdmissionPolicy") {
		t.Error("an admission policy for a cluster that doesn't serve them")
	}
	if _, err := Render(v, "kube-system", "v1.26.9", served); err == nil {
		t.Error("Kubernetes 1.26 was taken")
	}
}

func TestConfig(t *testing.T) {
	objects := decodeAll(t, render(t, effective(t, doc(t, `
cluster: {name: c1, id: 9}
eni: {eniTags: {team: net, cost: 12}, gcInterval: 10m, nodeSpec: {firstInterfaceIndex: 1, deleteOnTermination: false}}
ipam: {nodeSpec: {ipamMinAllocate: 3, ipamPreAllocate: 0, ipamMaxAllocate: 40}}
ipv4NativeRoutingCIDR: 10.0.0.0/8
enableIPv4Masquerade: false
egressMasqueradeInterfaces: "eth0, ens6"
bpf: {masquerade: false, masqueradePorts: 1024-9999, programStatistics: true, ctTcpMax: 65536, ctAnyMax: 32768, mapDynamicSizeRatio: 0.01, datapathMode: auto}
bandwidthManager: {enabled: true}
ipMasqAgent: {enabled: true}
extraConfig: {bpf-ct-timeout-regular-tcp: 2h, bpf-ct-timeout-regular-any: 30s}
podMetadataAccess: false
MTU: 1500
cni: {confPath: /etc/other, binPath: /opt/other}
agentNotReadyTaintKey: example.org/wait
debug: {enabled: true}
operator: {removeNodeTaints: false, syncInterval: 30s}
`)), "v1.31.0", served))
	c := configOf(t, objects)
	want := config.Default()
	want.Cluster = config.Cluster{Name: "c1", ID: 9}
	want.ENI.Tags = map[string]string{"team": "net", "cost": "12"}
	want.ENI.FirstInterfaceIndex, want.ENI.DeleteOnTermination = 1, false
	want.ENI.GCInterval.Duration *= 2
	want.IPAM.MinAllocate, want.IPAM.PreAllocate, want.IPAM.MaxAllocate = 3, 0, 40
	want.IPv4NativeRoutingCIDR, want.EnableIPv4Masquerade, want.MTU = "10.0.0.0/8", false, 1500
	want.MasqueradeInterfaces = []string{"eth0", "ens6"}
	want.BPF, want.IPMasqAgent.Enabled = config.BPF{MasqueradePorts: "1024-9999", ProgramStatistics: true, CTTCPMax: 65536, CTAnyMax: 32768, MapDynamicSizeRatio: 0.01, DatapathMode: "auto"}, true
	want.ExtraConfig.CTTimeoutTCP.Duration, want.ExtraConfig.CTTimeoutAny.Duration = 2*time.Hour, 30*time.Second
	want.PodMetadataAccess, want.BandwidthManager.Enabled = false, true
	want.CNI = config.CNI{ConfPath: "/etc/other", BinPath: "/opt/other"}
	want.AgentNotReadyTaintKey, want.RemoveTaints, want.LogLevel = "example.org/wait", false, "debug"
	want.SyncInterval.Duration /= 2
	got, _ := yaml.Marshal(c)
	expected, _ := yaml.Marshal(want)
	if !bytes.Equal(got, expected) {
		t.Errorf("found\n%s\nexpected\n%s", got, expected)
	}
	for _, v := range daemonSet(t, objects).Spec.Template.Spec.Volumes {
		if v.Name == "cni-bin" && v.HostPath.Path != "/opt/other" || v.Name == "cni-conf" && v.HostPath.Path != "/etc/other" {
			t.Errorf("volume %s is %s", v.Name, v.HostPath.Path)
		}
	}
	// Nothing set is internal/config's own default.
	plain := configOf(t, decodeAll(t, render(t, doc(t, `{cluster: {name: c1}}`), "v1.31.0", served)))
	want = config.Default()
	want.Cluster.Name = "c1"
	got, _ = yaml.Marshal(plain)
	expected, _ = yaml.Marshal(want)
	if !bytes.Equal(bytes.ReplaceAll(got, []byte("egressMasqueradeInterfaces: []"), []byte("egressMasqueradeInterfaces: null")), expected) {
		t.Errorf("the chart's defaults differ from the program's: found\n%s\nexpected\n%s", got, expected)
	}
}

// The ConfigMap ip-masq-agent is ours only where its content is given; it is mounted wherever it is read.
func TestIPMasqAgent(t *testing.T) {
	for _, test := range []struct {
		in            string
		mounted, made bool
	}{
		{in: `{cluster: {name: c1}}`},
		{in: `{cluster: {name: c1}, ipMasqAgent: {config: {masqLinkLocal: true}}}`},
		{in: `{cluster: {name: c1}, ipMasqAgent: {enabled: true}}`, mounted: true},
		{in: `{cluster: {name: c1}, ipMasqAgent: {enabled: true, config: {nonMasqueradeCIDRs: [10.0.0.0/8, 192.0.2.0/24], masqLinkLocal: true}}}`, mounted: true, made: true},
	} {
		objects := decodeAll(t, render(t, effective(t, doc(t, test.in)), "v1.31.0", served))
		mounted := false
		for _, v := range daemonSet(t, objects).Spec.Template.Spec.Volumes {
			mounted = mounted || v.ConfigMap != nil && v.ConfigMap.Name == "ip-masq-agent" && *v.ConfigMap.Optional
		}
		made := false
		for _, o := range objects {
			c, ok := o.(*corev1.ConfigMap)
			if !ok || c.Name != "ip-masq-agent" {
				continue
			}
			made = true
			e, err := masquerade.ParseExceptions([]byte(c.Data["config"]))
			if err != nil || len(e.NonMasqueradeCIDRs) != 2 || !e.MasqLinkLocal {
				t.Errorf("%s makes %q, read as %+v, %v", test.in, c.Data["config"], e, err)
			}
		}
		if mounted != test.mounted || made != test.made {
			t.Errorf("%s: mounted %t, made %t, expected %t and %t", test.in, mounted, made, test.mounted, test.made)
		}
	}
}

// matches evaluates a required node affinity as the scheduler does, for the operators that occur here.
func matches(t *testing.T, a *corev1.Affinity, node map[string]string) bool {
	t.Helper()
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		all := true
		for _, e := range term.MatchExpressions {
			value, has := node[e.Key]
			in := false
			for _, v := range e.Values {
				in = in || has && v == value
			}
			switch e.Operator {
			case corev1.NodeSelectorOpIn:
				all = all && in
			case corev1.NodeSelectorOpNotIn:
				all = all && !in
			case corev1.NodeSelectorOpExists:
				all = all && has
			default:
				t.Fatalf("operator %s", e.Operator)
			}
		}
		if all {
			return true
		}
	}
	return false
}

func TestAffinity(t *testing.T) {
	node := func(more ...string) map[string]string {
		n := map[string]string{"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
		for i := 0; i < len(more); i += 2 {
			n[more[i]] = more[i+1]
		}
		return n
	}
	terms := func(s string) string {
		return "{cluster: {name: c1}, affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: " + s + "}}}}"
	}
	for _, test := range []struct {
		name, values string
		node         map[string]string
		want         bool
	}{
		{"plain", `{cluster: {name: c1}}`, node(), true},
		{"arm64", `{cluster: {name: c1}}`, node("kubernetes.io/arch", "arm64"), true},
		{"windows", `{cluster: {name: c1}}`, node("kubernetes.io/os", "windows"), false},
		{"riscv64", `{cluster: {name: c1}}`, node("kubernetes.io/arch", "riscv64"), false},
		{"fargate", `{cluster: {name: c1}}`, node("eks.amazonaws.com/compute-type", "fargate"), false},
		{"auto mode's ec2", `{cluster: {name: c1}}`, node("eks.amazonaws.com/compute-type", "ec2"), true},
		{"second of two terms", terms(`[{matchExpressions: [{key: a, operator: Exists}]}, {matchExpressions: [{key: b, operator: Exists}]}]`), node("b", ""), true},
		{"neither term", terms(`[{matchExpressions: [{key: a, operator: Exists}]}, {matchExpressions: [{key: b, operator: Exists}]}]`), node(), false},
		{"fargate by the second term", terms(`[{matchExpressions: [{key: a, operator: Exists}]}, {matchExpressions: [{key: b, operator: Exists}]}]`), node("b", "", "eks.amazonaws.com/compute-type", "fargate"), false},
		{"the guide's, labelled", "", node("cni-plugin", "aws"), false},
		{"the guide's, not labelled", "", node(), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := guide(t, "cilium-values")
			if test.values != "" {
				v = doc(t, test.values)
			}
			objects := decodeAll(t, render(t, effective(t, v), "v1.31.0", served))
			if got := matches(t, daemonSet(t, objects).Spec.Template.Spec.Affinity, test.node); got != test.want {
				t.Errorf("found %v, expected %v", got, test.want)
			}
			operator := deployment(t, objects).Spec.Template.Spec.Affinity
			if operator.PodAntiAffinity == nil {
				t.Error("the operator's replicas may share a node")
			}
			if matches(t, operator, node("eks.amazonaws.com/compute-type", "fargate")) {
				t.Error("the operator may run on Fargate")
			}
		})
	}
	// A preference is kept.
	objects := decodeAll(t, render(t, effective(t, doc(t, `{cluster: {name: c1}, affinity: {podAffinity: {}, nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 3, preference: {matchExpressions: [{key: a, operator: Exists}]}}]}}}`)), "v1.31.0", served))
	if a := daemonSet(t, objects).Spec.Template.Spec.Affinity; len(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) != 1 {
		t.Error("a preference was lost")
	}
}

func TestContracts(t *testing.T) {
	objects := decodeAll(t, render(t, effective(t, guide(t, "cilium-config")), "v1.31.0", served))
	d, o := daemonSet(t, objects), deployment(t, objects)
	agent, operator := d.Spec.Template.Spec, o.Spec.Template.Spec
	if d.Spec.Template.Labels[status.NameLabel] != status.AgentName || o.Spec.Template.Labels[status.NameLabel] != status.OperatorName {
		t.Error("status doesn't know weft's pods by these labels")
	}
	if !agent.HostNetwork || !operator.HostNetwork || *o.Spec.Replicas != 2 {
		t.Error("host network, or two replicas, is missing")
	}
	c := agent.Containers[0]
	if c.SecurityContext.Privileged == nil || *c.SecurityContext.Privileged {
		t.Error("the agent is privileged")
	}
	for _, capability := range c.SecurityContext.Capabilities.Add {
		if capability == "SYS_RESOURCE" || capability == "SYS_MODULE" || capability == "ALL" {
			t.Errorf("the agent has %s", capability)
		}
	}
	mounts := map[string]string{}
	for _, m := range c.VolumeMounts {
		mounts[m.MountPath] = m.Name
		if m.MountPropagation != nil && *m.MountPropagation == corev1.MountPropagationBidirectional {
			t.Errorf("%s: only a privileged container may propagate mounts to the host", m.Name)
		}
	}
	for _, path := range []string{contract.RunDir, contract.StateDir, "/sys/fs/bpf", "/etc/weft"} {
		if mounts[path] == "" {
			t.Errorf("the agent has no %s", path)
		}
	}
	if c.LivenessProbe.HTTPGet.Port.IntValue() != contract.AgentHealthPort || operator.Containers[0].LivenessProbe.HTTPGet.Port.IntValue() != contract.OperatorHealthPort {
		t.Error("a probe asks another port")
	}
	for _, s := range []corev1.PodSpec{agent, operator} {
		if len(s.Tolerations) != 1 || s.Tolerations[0].Operator != corev1.TolerationOpExists || s.Tolerations[0].Key != "" {
			t.Errorf("tolerations are %v, expected all", s.Tolerations)
		}
	}
	sa := one(t, objects, func(s *corev1.ServiceAccount) bool { return s.Name == "cilium-operator" })
	if got := sa.Annotations["eks.amazonaws.com/role-arn"]; got != "arn:aws:iam::111122223333:role/CiliumOperatorRole" {
		t.Errorf("the role is %q", got)
	}
	if operator.ServiceAccountName != sa.Name || agent.ServiceAccountName != "weft" {
		t.Error("a pod has another service account")
	}
	for _, object := range objects {
		if role, ok := object.(*rbacv1.ClusterRole); ok {
			for _, rule := range role.Rules {
				if all := strings.Join(append(append(rule.Verbs, rule.Resources...), rule.APIGroups...), ","); strings.Contains(all, "*") {
					t.Errorf("%s: everything is allowed by %v", role.Name, rule)
				}
			}
		}
	}
	for _, env := range operator.Containers[0].Env {
		if env.Name == "AWS_REGION" && env.Value != "us-west-2" {
			t.Errorf("AWS_REGION is %q", env.Value)
		}
	}
}

func TestChecksums(t *testing.T) {
	sum := func(text string) [2]string {
		objects := decodeAll(t, render(t, effective(t, doc(t, text)), "v1.31.0", served))
		return [2]string{daemonSet(t, objects).Spec.Template.Annotations["weft.dev/config-checksum"], deployment(t, objects).Spec.Template.Annotations["weft.dev/role-checksum"]}
	}
	a, b := sum(`{cluster: {name: c1}}`), sum(`{cluster: {name: c1}, MTU: 1500}`)
	if a[0] == b[0] || a[1] != b[1] {
		t.Error("a change of the configuration must restart agents, and only what depends on it")
	}
	if c := sum(`{cluster: {name: c1}, eni: {iamRole: "arn:aws:iam::111122223333:role/r"}}`); c[1] == a[1] {
		t.Error("a new role must restart the operator: it is injected when a pod is made")
	}
}

func TestImages(t *testing.T) {
	for text, want := range map[string]string{
		`{cluster: {name: c1}}`:                                                      "ghcr.io/weft-cni/agent:v0.1.0",
		`{cluster: {name: c1}, image: {tag: v9}}`:                                    "ghcr.io/weft-cni/agent:v9",
		`{cluster: {name: c1}, image: {digest: "sha256:ab"}}`:                        "ghcr.io/weft-cni/agent:v0.1.0@sha256:ab",
		`{cluster: {name: c1}, image: {digest: "sha256:ab", useDigest: false}}`:      "ghcr.io/weft-cni/agent:v0.1.0",
		`{cluster: {name: c1}, image: {override: "example.org/x:1", tag: ignored}}`:  "example.org/x:1",
		`{cluster: {name: c1}, image: {repository: "example.org/agent", tag: "12"}}`: "example.org/agent:12",
	} {
		objects := decodeAll(t, render(t, effective(t, doc(t, text)), "v1.31.0", served))
		if got := daemonSet(t, objects).Spec.Template.Spec.Containers[0].Image; got != want {
			t.Errorf("%s: found %s, expected %s", text, got, want)
		}
	}
}

// TestPlainHelmRefuses: what weft install refuses by name, the chart's schema or templates refuse too.
func TestPlainHelmRefuses(t *testing.T) {
	catalogue, err := values.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`{cluster: {name: c1}, opertor: {replicas: 1}}`, `{cluster: {name: c1}, eni: {iamrole: x}}`,
		`{cluster: {name: c1}, hubble: {relay: {enabled: true}}}`, `{cluster: {name: c1}, encryption: {enabled: true}}`,
		`{cluster: {name: c1}, tunnel: vxlan}`, `{cluster: {name: c1}, kubeProxyReplacement: maybe}`,
		`{cluster: {name: c1}, loadBalancer: {mode: dsr}}`, `{cluster: {name: c1}, loadBalancer: {acceleration: native}}`,
		`{cluster: {name: c1}, k8sServiceHost: 52.1.2.3}`, `{cluster: {name: c1}, k8sServiceHost: "fd00::1"}`,
		`{cluster: {name: c1}, nodePort: {enabled: true}}`, `{cluster: {name: c1}, serviceNoBackendResponse: ignore}`,
		`{cluster: {name: c1}, ipam: {mode: cluster-pool}}`, `{cluster: {name: c1}, routingMode: tunnel}`,
		`{cluster: {name: c1, id: 300}}`, `{cluster: {name: c1}, MTU: 100}`, `{cluster: {name: "<name>"}}`,
		`{cluster: {name: c1}, eni: {iamRole: role}}`, `{cluster: {name: c1}, operator: {replicas: many}}`,
		`{cluster: {name: c1}, eni: {enabled: false}}`, `{cluster: {name: ""}}`, `{cluster: c1}`,
		`{cluster: {name: c1}, eni: {gcTags: {a: b}}}`, `{cluster: {name: c1}, cni: {chainingMode: aws-cni}}`,
	} {
		if catalogue.Check(doc(t, text), values.Options{}).Err() == nil {
			t.Errorf("weft install takes %s", text)
		}
		if _, err := Render(doc(t, text), "kube-system", "v1.31.0", served); err == nil {
			t.Errorf("helm install takes %s", text)
		}
	}
	for _, text := range []string{
		`{cluster: {name: c1}, hubble: {enabled: false}}`, `{cluster: {name: c1}, kubeProxyReplacement: "false"}`,
		`{cluster: {name: c1}, encryption: {nodeEncryption: false}}`, `{cluster: {name: c1}, affinity: null}`,
		`{cluster: {name: c1}, k8sServicePort: 443}`, `{cluster: {name: c1}, kubeProxyReplacement: true, k8sServiceHost: ABC.gr7.us-west-2.eks.amazonaws.com}`,
		`{cluster: {name: c1}, kubeProxyReplacement: strict, k8sServiceHost: api.internal, nodePort: {enabled: true}}`, `{cluster: {name: c1}, global: {a: 1}}`,
	} {
		if _, err := Render(doc(t, text), "kube-system", "v1.31.0", served); err != nil {
			t.Errorf("helm install refuses %s: %v", text, err)
		}
	}
	_, err = Render(doc(t, `{cluster: {name: c1}, kubeProxyReplacement: true}`), "kube-system", "v1.31.0", served)
	if err == nil || !strings.Contains(err.Error(), "needs k8sServiceHost") {
		t.Errorf("without a way to the API server: %v", err)
	}
	_, err = Render(doc(t, `{}`), "kube-system", "v1.31.0", served)
	if err == nil || !strings.Contains(err.Error(), "set it with --set cluster.name=NAME") {
		t.Errorf("without a name: %v", err)
	}
}

// TestWithoutKubeProxy: the agent is told to serve all services, and agent and operator find the API server without.
func TestWithoutKubeProxy(t *testing.T) {
	for text, want := range map[string]bool{
		`{cluster: {name: c1}}`: false, `{cluster: {name: c1}, kubeProxyReplacement: partial}`: false,
		`{cluster: {name: c1}, kubeProxyReplacement: true, k8sServiceHost: api.example.com}`:                         true,
		`{cluster: {name: c1}, kubeProxyReplacement: strict, k8sServiceHost: api.example.com, k8sServicePort: 8443}`: true,
	} {
		objects := decodeAll(t, render(t, effective(t, doc(t, text)), "v1.31.0", served))
		m := one(t, objects, func(m *corev1.ConfigMap) bool { return m.Name == config.ConfigMap })
		c, err := config.Parse([]byte(m.Data[config.Key]))
		if err != nil {
			t.Fatal(err)
		}
		if c.KubeProxyReplacement != want || c.LoadBalancer.Algorithm != config.AlgorithmRandom || !c.LoadBalancer.ServiceTopology {
			t.Errorf("%s: the agent is told %v, %+v", text, c.KubeProxyReplacement, c.LoadBalancer)
		}
		for _, pod := range []corev1.PodSpec{daemonSet(t, objects).Spec.Template.Spec, deployment(t, objects).Spec.Template.Spec} {
			env := map[string]string{}
			for _, e := range pod.Containers[0].Env {
				env[e.Name] = e.Value
			}
			host, port := env["KUBERNETES_SERVICE_HOST"], env["KUBERNETES_SERVICE_PORT"]
			if want && (host != "api.example.com" || port != "443" && port != "8443") || !want && host+port != "" {
				t.Errorf("%s: a pod looks for the API server at %q, port %q", text, host, port)
			}
		}
	}
}

func TestServiceSettings(t *testing.T) {
	objects := decodeAll(t, render(t, effective(t, doc(t, `{cluster: {name: c1}, loadBalancer: {algorithm: maglev, serviceTopology: false}, maglev: {tableSize: 65521},
nodePort: {range: "31000,32000"}, serviceNoBackendResponse: drop, bpf: {lbExternalClusterIP: true}}`)), "v1.31.0", served))
	m := one(t, objects, func(m *corev1.ConfigMap) bool { return m.Name == config.ConfigMap })
	c, err := config.Parse([]byte(m.Data[config.Key]))
	if err != nil {
		t.Fatal(err)
	}
	if c.LoadBalancer != (config.LoadBalancer{Algorithm: "maglev"}) || c.Maglev.TableSize != 65521 || c.NodePort.Range != "31000,32000" ||
		c.ServiceNoBackendResponse != "drop" || !c.BPF.LBExternalClusterIP {
		t.Errorf("the agent is told %+v, %+v, %+v, %+v", c.LoadBalancer, c.Maglev, c.NodePort, c.BPF)
	}
}
