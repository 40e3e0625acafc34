package operator

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/api/crds"
)

// installCRDs applies the definitions until the API server serves them all. It gives up only with ctx: an
// API server that is away is no reason to crash.
func installCRDs(ctx context.Context, c client.Client, log *slog.Logger) error {
	all, err := crds.All()
	if err != nil {
		return err
	}
	delay := 100 * time.Millisecond
	for {
		err := applyCRDs(ctx, c, all)
		if err == nil {
			return nil
		}
		log.Warn("resource definitions are not in place", "retry", delay, "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(delay):
		}
		delay = min(2*delay, 15*time.Second)
	}
}

func applyCRDs(ctx context.Context, c client.Client, all []*unstructured.Unstructured) error {
	for _, crd := range all {
		u := crd.DeepCopy()
		unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
		unstructured.RemoveNestedField(u.Object, "status")
		if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.ForceOwnership, client.FieldOwner(fieldManager)); err != nil {
			return fmt.Errorf("%s: %w", crd.GetName(), err)
		}
	}
	for _, crd := range all {
		u := crd.DeepCopy()
		if err := c.Get(ctx, client.ObjectKeyFromObject(crd), u); err != nil {
			return fmt.Errorf("%s: %w", crd.GetName(), err)
		}
		if !established(u) {
			return fmt.Errorf("%s: it isn't established yet", crd.GetName())
		}
	}
	return nil
}

func established(crd *unstructured.Unstructured) bool {
	list, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
	for _, c := range list {
		m, ok := c.(map[string]any)
		if ok && m["type"] == "Established" && m["status"] == "True" {
			return true
		}
	}
	return false
}
