package kube

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

func TestConfigErrorsSayWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := `{apiVersion: v1, kind: Config, current-context: a, clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}],
contexts: [{name: a, context: {cluster: c}}, {name: b, context: {cluster: c}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]Flags{
		"check the path":                      {Kubeconfig: path + ".absent"},
		`"x" does not exist; there are: a, b`: {Kubeconfig: path, Context: "x"},
	} {
		if _, err := f.Config(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("found %v, expected %q in it", err, want)
		}
	}
	if _, err := (&Flags{Kubeconfig: path, Context: "b"}).Config(); err != nil {
		t.Error(err)
	}
	t.Setenv("KUBECONFIG", path)
	if _, err := (&Flags{Context: "x"}).Config(); err == nil || !strings.Contains(err.Error(), "there are: a, b") {
		t.Errorf("by $KUBECONFIG: found %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	for want, err := range map[string]error{
		"refuses the kubeconfig's credentials":   apierrors.NewUnauthorized("x"),
		"no cluster reachable at https://h: why": errors.New("why"),
	} {
		if got := Unreachable("https://h", err); !errors.Is(got, err) || !strings.Contains(got.Error(), want) {
			t.Errorf("found %v, expected %q in it", got, want)
		}
	}
}

func TestClusterName(t *testing.T) {
	for entry, want := range map[string]string{
		"arn:aws:eks:us-west-2:111122223333:cluster/my-cluster_1": "my-cluster_1",
		"arn:aws-cn:eks:cn-north-1:111122223333:cluster/c":        "c",
		"demo.us-west-2.eksctl.io":                                "demo",
		"kind-kind":                                               "",
		"arn:aws:iam::111122223333:role/x":                        "",
		"":                                                        "",
	} {
		if got := clusterName(entry); got != want {
			t.Errorf("%s: found %q, expected %q", entry, got, want)
		}
	}
}
