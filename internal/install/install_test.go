package install

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	releasecommon "helm.sh/helm/v4/pkg/release/common"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage"
	"helm.sh/helm/v4/pkg/storage/driver"
	"helm.sh/helm/v4/pkg/strvals"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/weft-cni/weft/internal/version"
)

func TestJudge(t *testing.T) {
	eks := facts{version: "v1.31.2-eks-7f9249a", nodes: 2, awsNodes: 2, awsNode: -1}
	with := func(change func(*facts)) facts { f := eks; change(&f); return f }
	for _, test := range []struct {
		name     string
		facts    facts
		narrowed bool
		want     string
	}{
		{"eks", eks, false, ""},
		{"eks by its nodes alone", with(func(f *facts) { f.version = "v1.36.3" }), false, ""},
		{"eks without nodes", with(func(f *facts) { f.nodes, f.awsNodes = 0, 0 }), false, ""},
		{"oldest", with(func(f *facts) { f.version = "v1.27.16-eks-aeac579" }), false, ""},
		{"too old", with(func(f *facts) { f.version = "v1.26.15-eks-aeac579" }), false, "found v1.26.15-eks-aeac579, expected 1.27 or later"},
		{"no version", with(func(f *facts) { f.version = "main" }), false, `found "main"`},
		{"kind", facts{version: "v1.33.1", nodes: 3}, false, "the cluster is not EKS: of 3 nodes none has a provider ID"},
		{"no nodes", facts{version: "v1.33.1"}, false, "has no nodes"},
		{"cilium", with(func(f *facts) { f.cilium = true }), false, "DaemonSet kube-system/cilium"},
		{"cilium elsewhere", with(func(f *facts) { f.cilium = true }), true, ""},
		{"the same name again", with(func(f *facts) { f.recorded = "c1" }), false, ""},
		{"another name", with(func(f *facts) { f.recorded = "c0" }), false, `cluster.name is "c1", but this cluster was installed as "c0"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := judge(test.facts, "c1", test.narrowed)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("found %v, expected %q in it", err, test.want)
			}
		})
	}
}

func TestCheckVersion(t *testing.T) {
	for _, fine := range []string{"", version.Version, strings.TrimPrefix(version.Version, "v")} {
		if err := checkVersion(fine); err != nil {
			t.Error(err)
		}
	}
	if err := checkVersion("1.16.0"); err == nil || !strings.Contains(err.Error(), version.Version) {
		t.Errorf("found %v, expected an error that names %s", err, version.Version)
	}
}

func TestValueFlags(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first := file("a.yaml", "cluster: {name: a, id: 1}\nMTU: 1500\n")
	second := file("b.yaml", "cluster: {name: b}\n")
	got, err := ValueFlags{Files: []string{first, second}, Set: []string{"cluster.id=2"}, SetText: []string{"image.tag=12"}}.Read()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"cluster": map[string]any{"name": "b", "id": int64(2)}, "MTU": float64(1500), "image": map[string]any{"tag": "12"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("found %#v, expected %#v", got, want)
	}
	for name, flags := range map[string]ValueFlags{
		"there is no such file": {Files: []string{filepath.Join(dir, "none")}},
		"expected YAML":         {Files: []string{file("c.yaml", "a: [")}},
		"expected NAME=VALUE":   {Set: []string{"a"}},
	} {
		if _, err := flags.Read(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("found %v, expected %q in it", err, name)
		}
	}
	if _, err := (ValueFlags{Files: []string{dir}}).Read(); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory: %v", err)
	}
}

// TestHelmCommand: helm, given the command that was printed, has the same values.
func TestHelmCommand(t *testing.T) {
	in := map[string]any{
		"cluster":      map[string]any{"name": "c1", "id": int64(3)},
		"image":        map[string]any{"tag": "12"},
		"nodeSelector": map[string]any{"kubernetes.io/os": "linux"},
		"operator":     map[string]any{"extraEnv": []any{map[string]any{"name": "A", "value": "x,y"}}},
		"extraArgs":    []any{"--a=b c", `it's`},
	}
	command := HelmCommand("kube-system", "v0.1.0", in)
	if !strings.HasPrefix(command, "helm install weft oci://ghcr.io/weft-cni/charts/weft --version 0.1.0 --namespace kube-system --set") {
		t.Errorf("found %s", command)
	}
	got := map[string]any{}
	flatten("", in, func(name, value string, isText bool) {
		parse := strvals.ParseInto
		if isText {
			parse = strvals.ParseIntoString
		}
		if err := parse(name+"="+value, got); err != nil {
			t.Fatalf("%s=%s: %v", name, value, err)
		}
	})
	if !reflect.DeepEqual(got, in) {
		t.Errorf("found %#v, expected %#v", got, in)
	}
	for word, want := range map[string]string{"a=b": "a=b", "a b": "'a b'", "it's": `'it'\''s'`, `a\.b=1`: `'a\.b=1'`} {
		if got := shellWord(word); got != want {
			t.Errorf("found %s, expected %s", got, want)
		}
	}
}

func TestClusterName(t *testing.T) {
	given := map[string]any{"cluster": map[string]any{"name": "v"}}
	for _, test := range []struct {
		given      map[string]any
		label      string
		configured string
		want       string
	}{
		{given, "l", "k", "v"}, {map[string]any{}, "l", "k", "k"}, {map[string]any{}, "l", "", "l"}, {map[string]any{}, "", "", ""},
	} {
		if got, _ := clusterName(test.given, facts{name: test.label}, test.configured); got != test.want {
			t.Errorf("found %q, expected %q", got, test.want)
		}
	}
}

func TestNotInstalled(t *testing.T) {
	memory := driver.NewMemory()
	memory.SetNamespace("kube-system")
	cfg := action.NewConfiguration()
	cfg.Releases = storage.Init(memory)
	if err := notInstalled(cfg, "kube-system"); err != nil {
		t.Fatal(err)
	}
	c, err := Chart()
	if err != nil {
		t.Fatal(err)
	}
	r := &releasev1.Release{Name: ReleaseName, Namespace: "kube-system", Version: 1, Chart: c, Info: &releasev1.Info{Status: releasecommon.StatusDeployed}}
	if err := cfg.Releases.Create(r); err != nil {
		t.Fatal(err)
	}
	err = notInstalled(cfg, "kube-system")
	if err == nil || !strings.Contains(err.Error(), "installed already") || !strings.Contains(err.Error(), "revision 1") {
		t.Errorf("a second install: %v", err)
	}
}

// TestMissingImage: an image that isn't there ends a Job's wait; one that is being pulled doesn't.
func TestMissingImage(t *testing.T) {
	for reason, want := range map[string]string{"ImagePullBackOff": "r/agent:v9", "InvalidImageName": "r/agent:v9", "ErrImagePull": "", "ContainerCreating": ""} {
		p := &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Image: "r/agent:v9", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}}}}
		if got := missingImage(p); got != want {
			t.Errorf("%s: found %q, expected %q", reason, got, want)
		}
	}
}

func TestJobs(t *testing.T) {
	objects := decodeAll(t, render(t, effective(t, guide(t, "cilium-config")), "v1.31.0", served))
	release := operatorJob(deployment(t, objects), 90e9)
	spec := release.Spec.Template.Spec
	if got := strings.Join(spec.Containers[0].Args, " "); got != "release --config=/etc/weft/config.yaml --timeout=1m30s" {
		t.Errorf("the operator is asked to %s", got)
	}
	if spec.ServiceAccountName != "cilium-operator" || !spec.HostNetwork || spec.RestartPolicy != corev1.RestartPolicyNever {
		t.Error("the Job's pod is not the operator's")
	}
	if spec.Containers[0].StartupProbe != nil || len(spec.Containers[0].Ports) > 0 {
		t.Error("a Job has no probes, and its host ports may be taken")
	}
	d := daemonSet(t, objects)
	before := d.DeepCopy()
	cleanup := agentJob(d, "node-1").Spec.Template.Spec
	if cleanup.NodeName != "node-1" || cleanup.Affinity != nil || cleanup.NodeSelector != nil {
		t.Error("the cleanup is not on its node")
	}
	if len(cleanup.Volumes) != len(d.Spec.Template.Spec.Volumes) || strings.Join(cleanup.Containers[0].Args, " ") != "cleanup --wait" {
		t.Error("the cleanup has other mounts or arguments")
	}
	for _, job := range []map[string]string{release.Spec.Template.Labels, agentJob(d, "node-1").Spec.Template.Labels} {
		for key, value := range (&appsv1.DaemonSet{Spec: d.Spec}).Spec.Selector.MatchLabels {
			if job[key] == value {
				t.Error("the DaemonSet would take the Job's pod for its own")
			}
		}
	}
	if !reflect.DeepEqual(before, d) {
		t.Error("the DaemonSet was changed")
	}
}

func TestChooseServices(t *testing.T) {
	for _, test := range []struct {
		name    string
		given   any
		proxy   bool
		remove  bool
		replace bool
		want    string
		value   any
	}{
		{"nothing said, kube-proxy there", nil, true, false, false, "found, it keeps the services and weft", "false"},
		{"nothing said, no kube-proxy", nil, false, false, true, "not found, so weft serves all services", "true"},
		{"empty is nothing", "", false, false, true, "not found, so weft", "true"},
		{"taken over", "true", true, false, true, "aws eks delete-addon --cluster-name c1 --addon-name kube-proxy, or kubectl", "true"},
		{"taken over, and removed", "true", true, true, true, "removed when all of weft is ready", "true"},
		{"without", "true", false, false, true, "weft serves all services", "true"},
		{"left", "false", true, false, false, "it keeps the services", "false"},
		{"nobody", "false", false, false, false, "warning: kube-proxy: not found", "false"},
	} {
		t.Run(test.name, func(t *testing.T) {
			given := map[string]any{}
			if test.given != nil {
				given["kubeProxyReplacement"] = test.given
			}
			replace, lines := chooseServices(given, facts{kubeProxy: test.proxy}, "c1", test.remove)
			if replace != test.replace || given["kubeProxyReplacement"] != test.value {
				t.Errorf("replace is %t, the value %v", replace, given["kubeProxyReplacement"])
			}
			if len(lines) != 1 || !strings.Contains(lines[0], test.want) {
				t.Errorf("said %q, expected %q in it", lines, test.want)
			}
		})
	}
}

func TestAPIServerOfAURL(t *testing.T) {
	for server, want := range map[string][3]string{
		"https://ABC.gr7.us-west-2.eks.amazonaws.com":      {"ABC.gr7.us-west-2.eks.amazonaws.com", "443", ""},
		"https://ABC.gr7.us-west-2.eks.amazonaws.com:8443": {"ABC.gr7.us-west-2.eks.amazonaws.com", "8443", ""},
		"https://127.0.0.1:6443":                           {"", "", "this machine alone"},
		"https://[::1]:6443":                               {"", "", "this machine alone"},
		"https://localhost":                                {"", "", "this machine alone"},
		"https://52.1.2.3":                                 {"", "", "those of an EKS API server change"},
		"https://rancher.example.com/k8s/clusters/c-1":     {"", "", "a path of its own"},
		"http://api.example.com":                           {"", "", "isn't https"},
		"api.example.com":                                  {"", "", "no URL"},
		"%":                                                {"", "", "no URL"},
	} {
		host, port, why := apiServer(server)
		if host != want[0] || port != want[1] || !strings.Contains(why, want[2]) || (why == "") != (want[2] == "") {
			t.Errorf("%s: found %q, %q, %q, expected %q", server, host, port, why, want)
		}
	}
}
