package kube

import "testing"

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
