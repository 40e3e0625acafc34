package cloudcontroller

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/weft-cni/weft/lab/internal/eks/kubetest"
)

func TestNodesOfARealAPIServer(t *testing.T) {
	s := kubetest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	node := registered()
	node.UID, node.Spec.ProviderID = "", ""
	made, err := s.Client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made.Status = node.Status
	if _, err := s.Client.CoreV1().Nodes().UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	cloud := &simulated{instance: running()}
	c, err := New(Config{Client: s.Client, Cloud: cloud, Resync: time.Second, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	life, stop := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error { return c.Run(life) })
	until := func(what string, holds func(*corev1.Node) bool) {
		t.Helper()
		var last *corev1.Node
		if err := wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			n, err := s.Client.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				n, err = nil, nil
			}
			last = n
			return err == nil && holds(n), err
		}); err != nil {
			t.Fatalf("%s: %v; the node is %+v", what, err, last)
		}
	}
	until("initialized", initialized)
	cloud.set(with(func(i *Instance) { i.ExternalIP, i.PublicDNS = i.InternalIPs[0], "" }), nil)
	until("another public address, the old ones gone", func(n *corev1.Node) bool {
		return len(n.Status.Addresses) == 4 && n.Status.Addresses[1].Address == "192.168.1.10"
	})
	cloud.set(with(func(i *Instance) { i.State = Terminated }), nil)
	until("deleted", func(n *corev1.Node) bool { return n == nil })
	stop()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}
