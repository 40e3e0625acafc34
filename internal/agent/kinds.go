package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"

	"github.com/weft-cni/weft/api/v1alpha1"
)

// kindsEvery is how often the API server is asked for kinds that it doesn't have yet. On a fresh install
// the operator brings them within a second or two, and every node waits for that.
const kindsEvery = 250 * time.Millisecond

// waitForKinds returns once the API server serves the kinds that the agent watches. An agent that ended
// instead would be started again after a back-off that grows.
func (k *Kubernetes) waitForKinds(ctx context.Context, waits func(string)) error {
	d, err := discovery.NewDiscoveryClientForConfig(k.config)
	if err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	for {
		list, err := d.ServerResourcesForGroupVersionWithContext(ctx, v1alpha1.GroupVersion.String())
		reason := missingKinds(list, err)
		if reason == "" {
			return nil
		}
		waits(reason)
		if err := pause(ctx, kindsEvery); err != nil {
			return err
		}
	}
}

// missingKinds says what keeps the agent from watching, or nothing.
func missingKinds(list *metav1.APIResourceList, err error) string {
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Sprintf("the API server doesn't answer: %v", err)
	}
	want := []string{"NodeNetwork", "ClusterNetwork"}
	if list != nil && err == nil {
		for _, r := range list.APIResources {
			want = slices.DeleteFunc(want, func(kind string) bool { return kind == r.Kind })
		}
	}
	if len(want) == 0 {
		return ""
	}
	return fmt.Sprintf("the API server has no %s of %s yet; the operator installs the definitions", strings.Join(want, " and "), v1alpha1.GroupVersion)
}
