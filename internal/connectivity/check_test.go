package connectivity

import (
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
)

// TestCheckWaitsForAKubelet: a node whose network has just come up is Ready a moment later; that is no failure.
func TestCheckWaitsForAKubelet(t *testing.T) {
	var asked atomic.Int32
	client := fake.NewClientset()
	client.PrependReactor("list", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
		state := corev1.ConditionFalse
		if asked.Add(1) > 1 {
			state = corev1.ConditionTrue
		}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: state}}
		return true, &corev1.NodeList{Items: []corev1.Node{n}}, nil
	})
	c := &Cluster{config: &rest.Config{Host: "https://h"}, client: client}
	if err := c.check(t.Context()); err != nil || asked.Load() != 2 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
	empty := &Cluster{config: &rest.Config{}, client: fake.NewClientset()}
	if err := empty.check(t.Context()); err == nil || !strings.Contains(err.Error(), "has no nodes") {
		t.Errorf("found %v", err)
	}
}
