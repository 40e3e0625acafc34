package clusterconfig

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const head = "apiVersion: eksctl.io/v1alpha5\nkind: ClusterConfig\nmetadata: {name: c}\n"

func TestGuideWithPoolsAndTaints(t *testing.T) {
	text := read(t, "eks-config.yaml")
	_, err := Parse([]byte(text))
	if err == nil {
		t.Fatal("placeholders were accepted")
	}
	for _, want := range []string{"metadata.name: is still the placeholder <cluster-name>", "metadata.region: is still the placeholder <cluster-region>"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q doesn't say %q", err, want)
		}
	}
	text = strings.NewReplacer("<cluster-name>", "apigee", "<cluster-region>", "eu-central-1").Replace(text)
	c, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "apigee" || c.Region != "eu-central-1" || c.Version != "1.31" || !c.WithOIDC || c.Nodes() != 3 {
		t.Errorf("config = %+v", c)
	}
	var addons []string
	for _, a := range c.Addons {
		addons = append(addons, a.Name)
	}
	if want := []string{"vpc-cni", "coredns", "kube-proxy", "eks-pod-identity-agent", "aws-ebs-csi-driver"}; !reflect.DeepEqual(addons, want) {
		t.Errorf("add-ons = %v, want %v", addons, want)
	}
	want := NodeGroup{
		Name: "apigee-runtime", InstanceType: "m5.xlarge", Desired: 2, Min: 2, Max: 5, Private: true, Managed: true,
		Labels: map[string]string{"apigee.com/node-pool": "runtime"},
		Taints: []Taint{{"node.cilium.io/agent-not-ready", "true", "NoExecute"}},
	}
	if !reflect.DeepEqual(c.NodeGroups[0], want) {
		t.Errorf("first group = %+v\nwant %+v", c.NodeGroups[0], want)
	}
}

func TestBasicGuideGetsEksctlsDefaults(t *testing.T) {
	c, err := Parse([]byte(read(t, "basic-cluster.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	g := c.NodeGroups[0]
	if c.Name != "basic-cilium" || c.Region != "us-east-1" || g.InstanceType != "t3.medium" || g.Desired != 2 || g.Min != 2 || g.Max != 2 || g.Private {
		t.Errorf("config = %+v", c)
	}
	if !c.Has("vpc-cni") || !c.Has("coredns") || !c.Has("kube-proxy") || len(c.Addons) != 3 || !c.Addons[0].Default {
		t.Errorf("add-ons = %+v", c.Addons)
	}
	if c.VPC.String() != "192.168.0.0/16" || c.ServiceCIDR.String() != "10.100.0.0/16" {
		t.Errorf("networks = %s, %s", c.VPC, c.ServiceCIDR)
	}
}

func TestSilence(t *testing.T) {
	c, err := Parse([]byte(head))
	if err != nil {
		t.Fatal(err)
	}
	if c.Region != DefaultRegion || c.WithOIDC || len(c.NodeGroups) != 0 {
		t.Errorf("config = %+v", c)
	}
}

func TestSizes(t *testing.T) {
	for _, tt := range []struct {
		text                 string
		desired, least, most int
	}{
		{"", 2, 2, 2},
		{"desiredCapacity: 3", 3, 3, 3},
		{"minSize: 1", 1, 1, 1},
		{"minSize: 1, maxSize: 4", 1, 1, 4},
		{"maxSize: 5", 2, 2, 5},
		{"maxSize: 1", 1, 1, 1},
		{"desiredCapacity: 2, minSize: 1, maxSize: 3", 2, 1, 3},
		{"desiredCapacity: 0, minSize: 0, maxSize: 3", 0, 0, 3},
	} {
		text := head + "managedNodeGroups: [{name: a"
		if tt.text != "" {
			text += ", " + tt.text
		}
		c, err := Parse([]byte(text + "}]\n"))
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		g := c.NodeGroups[0]
		if g.Desired != tt.desired || g.Min != tt.least || g.Max != tt.most || g.InstanceType != "m5.large" {
			t.Errorf("%q: %d, %d to %d of %s; want %d, %d to %d of m5.large", tt.text, g.Desired, g.Min, g.Max, g.InstanceType, tt.desired, tt.least, tt.most)
		}
	}
}

func TestProblemsNameTheirPath(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"unknown at top":      {head + "nodegroups: []\n", "nodegroups"},
		"unknown deep":        {head + "managedNodeGroups: [{name: a}, {name: b, instancetype: m5.large}]\n", "managedNodeGroups[1].instancetype"},
		"unknown in addon":    {head + "addons: [{name: coredns, verison: v1}]\n", "addons[0].verison"},
		"unknown in taint":    {head + "managedNodeGroups: [{name: a, taints: [{key: k, efect: NoSchedule}]}]\n", "taints[0].efect"},
		"twice":               {head + "iam: {withOIDC: true, withOIDC: false}\n", "withOIDC"},
		"wrong type":          {head + "managedNodeGroups: [{name: a, desiredCapacity: two}]\n", "desiredCapacity"},
		"no name":             {"apiVersion: eksctl.io/v1alpha5\nkind: ClusterConfig\n", "metadata.name"},
		"other kind":          {strings.Replace(head, "kind: ClusterConfig", "kind: Cluster", 1), "kind"},
		"other version":       {strings.Replace(head, "v1alpha5", "v1", 1), "apiVersion"},
		"bad name":            {strings.Replace(head, "name: c", "name: 'a b'", 1), "metadata.name"},
		"bad region":          {strings.Replace(head, "name: c", "name: c, region: mars", 1), "metadata.region"},
		"bad kubernetes":      {strings.Replace(head, "name: c", "name: c, version: latest", 1), "metadata.version"},
		"same group twice":    {head + "managedNodeGroups: [{name: a}]\nnodeGroups: [{name: a}]\n", "nodeGroups[0].name"},
		"group without name":  {head + "managedNodeGroups: [{}]\n", "managedNodeGroups[0].name"},
		"more than max":       {head + "managedNodeGroups: [{name: a, desiredCapacity: 3, maxSize: 2}]\n", "managedNodeGroups[0].desiredCapacity"},
		"max below min":       {head + "managedNodeGroups: [{name: a, minSize: 3, maxSize: 2}]\n", "managedNodeGroups[0].maxSize"},
		"far too many":        {head + "managedNodeGroups: [{name: a, desiredCapacity: 1000}]\n", "managedNodeGroups[0].desiredCapacity"},
		"forbidden label":     {head + "managedNodeGroups: [{name: a, labels: {node-role.kubernetes.io/x: ''}}]\n", "node-role.kubernetes.io/x"},
		"bad label value":     {head + "managedNodeGroups: [{name: a, labels: {a: 'x y'}}]\n", "managedNodeGroups[0].labels.a"},
		"bad effect":          {head + "managedNodeGroups: [{name: a, taints: [{key: k, effect: Never}]}]\n", "managedNodeGroups[0].taints[0].effect"},
		"add-on twice":        {head + "addons: [{name: coredns}, {name: coredns}]\n", "addons[1].name"},
		"public VPC":          {head + "vpc: {cidr: 8.8.0.0/16}\n", "vpc.cidr"},
		"VPC too large":       {head + "vpc: {cidr: 10.0.0.0/8}\n", "vpc.cidr"},
		"host bits":           {head + "vpc: {cidr: 10.0.0.1/16}\n", "10.0.0.0/16"},
		"services in the VPC": {head + "vpc: {cidr: 10.100.0.0/16}\nkubernetesNetworkConfig: {serviceIPv4CIDR: 10.100.0.0/16}\n", "kubernetesNetworkConfig.serviceIPv4CIDR"},
		"a list":              {"[1]", "a list"},
		"nothing":             {"", "nothing"},
		"not YAML":            {"a: [", "not YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(tt.text))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q doesn't say %q", err, tt.want)
			}
		})
	}
}

func TestKnownButWithoutMeaning(t *testing.T) {
	c, err := Parse([]byte(head + `
cloudWatch: {clusterLogging: {enableTypes: ["*"]}}
accessConfig: {authenticationMode: API}
karpenter: {version: "1.0"}
fargateProfiles: [{name: f}]
vpc: {nat: {gateway: HighlyAvailable}, clusterEndpoints: {privateAccess: true}}
managedNodeGroups:
- name: a
  ssh: {allow: true}
  volumeSize: 80
  iam: {attachPolicyARNs: [x]}
  availabilityZones: [us-west-2a]
  disablePodIMDS: true
nodeGroups:
- name: b
  taints: {one: "v:NoSchedule", two: NoExecute}
  kubeletExtraConfig: {maxPods: 3}
`))
	if err != nil {
		t.Fatal(err)
	}
	if g := c.NodeGroups[0]; g.HopLimit != 1 || len(g.Zones) != 1 || !g.Managed {
		t.Errorf("first group = %+v", g)
	}
	if g := c.NodeGroups[1]; g.Managed || !reflect.DeepEqual(g.Taints, []Taint{{"one", "v", "NoSchedule"}, {"two", "", "NoExecute"}}) {
		t.Errorf("second group = %+v", g)
	}
	all := strings.Join(c.Notices, "\n")
	for _, want := range []string{"fargateProfiles", "karpenter", "nodeGroups[0].kubeletExtraConfig"} {
		if !strings.Contains(all, want) {
			t.Errorf("notices %q don't name %s", all, want)
		}
	}
}

func TestServicesKeepClearOfTheVPC(t *testing.T) {
	c, err := Parse([]byte(head + "vpc: {cidr: 10.0.0.0/16}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.ServiceCIDR.String() != "172.20.0.0/16" {
		t.Errorf("services = %s", c.ServiceCIDR)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(head))
	f.Add([]byte(read(f, "eks-config.yaml")))
	f.Add([]byte(read(f, "basic-cluster.yaml")))
	f.Add([]byte(head + "nodeGroups: [{name: b, taints: {one: 'v:NoSchedule'}}]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			return
		}
		if c.Name == "" || c.Region == "" || !c.VPC.IsValid() || !c.ServiceCIDR.IsValid() || c.VPC.Overlaps(c.ServiceCIDR) {
			t.Errorf("accepted %q as %+v", b, c)
		}
		for _, g := range c.NodeGroups {
			if g.Desired < g.Min || g.Desired > g.Max || g.Min < 0 || g.InstanceType == "" || g.Name == "" {
				t.Errorf("accepted %q with group %+v", b, g)
			}
		}
	})
}
