package addons

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/weft-cni/weft/lab/internal/eks/kubetest"
)

func TestApplyToARealAPIServer(t *testing.T) {
	s := kubetest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	client, err := dynamic.NewForConfig(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := Apply(ctx, client, options()); err != nil {
		t.Fatal(err)
	}
	deployments := s.Client.AppsV1().Deployments("kube-system")
	service, err := s.Client.CoreV1().Services("kube-system").Get(ctx, "kube-dns", metav1.GetOptions{})
	if err != nil || service.Spec.ClusterIP != "10.100.0.10" {
		t.Errorf("kube-dns: %+v, %v; expected 10.100.0.10", service.Spec, err)
	}
	// A person's patch, in EKS's fields and in one of their own.
	patch := []byte(`{"metadata":{"labels":{"mine":"yes"}},"spec":{"replicas":5}}`)
	if _, err := deployments.Patch(ctx, "coredns", types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "person"}); err != nil {
		t.Fatal(err)
	}
	if err := Apply(ctx, client, options()); err != nil {
		t.Fatalf("a second time: %v", err)
	}
	coredns, err := deployments.Get(ctx, "coredns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if *coredns.Spec.Replicas != 2 || coredns.Labels["mine"] != "yes" {
		t.Errorf("replicas %d, labels %v; expected 2 again, and the person's label kept", *coredns.Spec.Replicas, coredns.Labels)
	}
	if coredns.Generation != 3 {
		t.Errorf("generation %d, expected 3: an apply without change would roll the pods", coredns.Generation)
	}
}
