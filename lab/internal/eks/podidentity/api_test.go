package podidentity

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-cni/weft/lab/internal/eks/kubetest"
)

func TestARealAPIServerCallsTheWebhook(t *testing.T) {
	s := kubetest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for restart := range 2 { // the second has another certificate, and finds the first one's configuration
		w, err := New(Config{Client: s.Client, Region: "us-west-2", Listen: s.Listen, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		running, stop := context.WithCancel(ctx)
		var g errgroup.Group
		g.Go(func() error { return w.Run(running) })
		select {
		case <-w.Ready():
		case <-ctx.Done():
			t.Fatal("not ready")
		}
		// Account and pod at once, as one `kubectl apply` makes them.
		sa := account(RoleARN, role)
		sa.Namespace, sa.Name = "default", "sa-"+string(rune('a'+restart))
		if _, err := s.Client.CoreV1().ServiceAccounts("default").Create(ctx, sa, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		in := pod(func(p *corev1.Pod) {
			p.Name, p.Spec.ServiceAccountName = sa.Name, sa.Name
			p.Spec.Containers[0].Image = "pause"
			p.Spec.HostNetwork = true
		})
		got, err := s.Client.CoreV1().Pods("default").Create(ctx, in, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Spec.Containers[0].Env) != 5 || len(got.Spec.Volumes) != 1 || len(got.Spec.Containers[0].VolumeMounts) != 1 {
			t.Errorf("pod %+v, expected 5 variables, a volume and its mount", got.Spec)
		}
		skip := pod(func(p *corev1.Pod) {
			p.Name, p.Spec.ServiceAccountName = sa.Name+"-skip", sa.Name
			p.Labels = map[string]string{skipWebhookLabel: "true"}
			p.Spec.Containers[0].Image = "pause"
		})
		got, err = s.Client.CoreV1().Pods("default").Create(ctx, skip, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Spec.Volumes) != 0 {
			t.Errorf("pod with the label %s was mutated: %+v", skipWebhookLabel, got.Spec)
		}
		stop()
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	// Away: pods are created, without the role.
	away := pod(func(p *corev1.Pod) {
		p.Name, p.Spec.ServiceAccountName, p.Spec.Containers[0].Image = "away", "sa-a", "pause"
	})
	got, err := s.Client.CoreV1().Pods("default").Create(ctx, away, metav1.CreateOptions{})
	if err != nil || len(got.Spec.Volumes) != 0 {
		t.Errorf("with the webhook away: %+v, %v; expected the pod as it is", got.Spec, err)
	}
}
