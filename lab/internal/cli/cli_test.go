package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weft-cni/weft/lab/internal/clusterconfig"
	"github.com/weft-cni/weft/lab/internal/labstate"
)

func TestTellNamesWhatDiffers(t *testing.T) {
	c := clusterconfig.Config{
		Version: "1.31",
		Addons:  []clusterconfig.Addon{{Name: "vpc-cni"}, {Name: "coredns"}, {Name: "aws-ebs-csi-driver"}, {Name: "other"}},
	}
	var out bytes.Buffer
	a := &app{out: &out}
	if err := a.tell(c, createOptions{}); err != nil {
		t.Fatal(err)
	}
	said := out.String()
	for _, want := range []string{"asks for Kubernetes 1.31, the lab runs 1.36", "add-on vpc-cni: ", "add-on aws-ebs-csi-driver: ", "add-on other: "} {
		if strings.Count(said, want) != 1 {
			t.Errorf("%q isn't said once: %s", want, said)
		}
	}
	if strings.Contains(said, "coredns") {
		t.Errorf("says something of an add-on that runs: %s", said)
	}
	if err := a.tell(c, createOptions{strictVersion: true}); err == nil || !strings.Contains(err.Error(), "1.31") {
		t.Errorf("strict: %v", err)
	}
	c.Version = "1.36"
	if err := a.tell(c, createOptions{strictVersion: true}); err != nil {
		t.Errorf("the lab's own version: %v", err)
	}
}

// TestMistakes: a mistake on the command line has an exit code of its own and says what was expected.
func TestMistakes(t *testing.T) {
	for line, want := range map[string]string{
		"create clustr":        `unknown command "lab create clustr"`,
		"delete":               "",
		"nosuch":               `unknown command "lab nosuch"`,
		"node rename x":        `unknown command "lab node rename"`,
		"image load":           "expected an archive",
		"exec":                 "expected NODE -- COMMAND",
		"create cluster":       "expected -f FILE",
		"create cluster extra": "expected no argument",
		"create cluster --x":   "unknown flag",
	} {
		var out bytes.Buffer
		root := (&app{out: &out, err: &out}).root()
		root.SetArgs(strings.Fields(line))
		err := root.ExecuteContext(t.Context())
		if want == "" {
			if err != nil || !strings.Contains(out.String(), "Available Commands") {
				t.Errorf("lab %s: expected help, found %v: %s", line, err, out.String())
			}
			continue
		}
		var usage usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("lab %s: found %v, expected a usage error with %q", line, err, want)
		}
	}
}

func TestWorkstationEnv(t *testing.T) {
	lab := labstate.Lab{Name: "x", Root: "/r", RunRoot: "/run/r"}
	r := labstate.Record{Region: "us-west-2", Admin: labstate.Credentials{AccessKeyID: "AKIALAB", SecretAccessKey: "s"}}
	for _, tt := range []struct {
		name       string
		env        []string
		have, miss []string
	}{
		{"nothing given", []string{"HOME=/root"}, []string{"AWS_ACCESS_KEY_ID=AKIALAB", "AWS_REGION=us-west-2", "AWS_CA_BUNDLE=/r/x/ca-bundle.crt", "HOME=/root"}, nil},
		{"other credentials", []string{"AWS_ACCESS_KEY_ID=ASIAROLE"}, []string{"AWS_ACCESS_KEY_ID=ASIAROLE"}, []string{"AWS_SECRET_ACCESS_KEY=s"}},
		{"other region", []string{"AWS_REGION=eu-west-1"}, []string{"AWS_REGION=eu-west-1"}, []string{"AWS_REGION=us-west-2"}},
		{"a proxy and another trust", []string{"HTTPS_PROXY=http://p", "AWS_CA_BUNDLE=/mine"}, []string{"AWS_CA_BUNDLE=/r/x/ca-bundle.crt"}, []string{"HTTPS_PROXY=http://p", "AWS_CA_BUNDLE=/mine"}},
	} {
		got := workstationEnv(tt.env, lab, r)
		for _, want := range tt.have {
			if !slices.Contains(got, want) {
				t.Errorf("%s: %v lacks %s", tt.name, got, want)
			}
		}
		for _, not := range tt.miss {
			if slices.Contains(got, not) {
				t.Errorf("%s: %v has %s", tt.name, got, not)
			}
		}
	}
}

func TestLogPath(t *testing.T) {
	lab := labstate.Lab{Name: "x", Root: "/r", RunRoot: "/run/r"}
	r := labstate.Record{Nodes: []labstate.Node{{Name: "ip-1", InstanceID: "i-1"}}}
	for component, want := range map[string]string{
		"apiserver":       "/r/x/log/kube-apiserver.log",
		"kcm":             "/r/x/log/kube-controller-manager.log",
		"daemon":          "/r/x/log/daemon.log",
		"ip-1/kubelet":    "/r/x/nodes/i-1/disk/var/log/kubelet.log",
		"i-1/console":     "/r/x/nodes/i-1/console.log",
		"ip-2/kubelet":    "",
		"ip-1/nosuch":     "",
		"nosuch":          "",
		"ip-1/../../etc":  "",
		"../../etc/shado": "",
	} {
		got, err := logPath(lab, r, component)
		if got != want || (want == "") != (err != nil) {
			t.Errorf("logPath(%q) = %q, %v; want %q", component, got, err, want)
		}
	}
}

func TestMistakesEndWithTheirExitCodes(t *testing.T) {
	config := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(config, []byte("kind: Cluster\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		want int
	}{
		{"--help", 0},
		{"create cluster --help", 0},
		{"completion bash", 0},
		{"create cluster", exitUsage},
		{"create cluster --nosuch", exitUsage},
		{"create cluster -f " + config, 1},
		{"create cluster -f /nosuch.yaml", 1},
		{"create cluster -f " + config + " --cni flannel", exitUsage},
		{"status --name nosuchlab", exitNoLab},
		{"env --name nosuchlab", exitNoLab},
		{"delete cluster --name Not-A-Name", exitUsage},
		{"node reboot --name nosuchlab", exitUsage},
	} {
		if got := Main(strings.Fields(tt.args)); got != tt.want {
			t.Errorf("lab %s: exit code %d, want %d", tt.args, got, tt.want)
		}
	}
}
