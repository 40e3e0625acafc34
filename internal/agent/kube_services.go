package agent

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-cni/weft/internal/loadbalancer"
	"github.com/weft-cni/weft/internal/service"
)

// WatchServices implements Cluster. Ranges of services are objects since Kubernetes 1.33; before, and where
// there are none, the addresses in use are known.
func (k *Kubernetes) WatchServices(ctx context.Context, t *service.Table, lb *loadbalancer.Table, synced func()) error {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, networkingv1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(s); err != nil {
			return err
		}
	}
	ranges, err := k.haveServiceCIDRs(ctx)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	c, err := cache.New(k.config, cache.Options{Scheme: s, ByObject: map[client.Object]cache.ByObject{
		&corev1.Service{}: {Transform: func(o any) (any, error) {
			if s, ok := o.(*corev1.Service); ok {
				return service.Strip(s), nil
			}
			return o, nil
		}},
		&discoveryv1.EndpointSlice{}: {Label: loadbalancer.SliceSelector(), Transform: func(o any) (any, error) {
			if s, ok := o.(*discoveryv1.EndpointSlice); ok {
				return loadbalancer.Strip(s), nil
			}
			return o, nil
		}},
		&networkingv1.ServiceCIDR{}: {Transform: cache.TransformStripManagedFields()},
	}})
	if err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	watched := []client.Object{&corev1.Service{}, &discoveryv1.EndpointSlice{}}
	if ranges {
		watched = append(watched, &networkingv1.ServiceCIDR{})
	}
	var handlers []toolscache.InformerSynced
	for _, o := range watched {
		inf, err := c.GetInformer(ctx, o, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("kubernetes: watch %T: %w", o, err)
		}
		h, err := inf.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { tableService(t, lb, o, false) },
			UpdateFunc: func(_, o any) { tableService(t, lb, o, false) },
			DeleteFunc: func(o any) { tableService(t, lb, o, true) },
		})
		if err != nil {
			return fmt.Errorf("kubernetes: watch %T: %w", o, err)
		}
		handlers = append(handlers, h.HasSynced)
	}
	return runWatch(ctx, c, handlers, synced)
}

// haveServiceCIDRs asks until the API server answers.
func (k *Kubernetes) haveServiceCIDRs(ctx context.Context) (bool, error) {
	d, err := discovery.NewDiscoveryClientForConfig(k.config)
	if err != nil {
		return false, fmt.Errorf("kubernetes: %w", err)
	}
	for {
		list, err := d.ServerResourcesForGroupVersionWithContext(ctx, networkingv1.SchemeGroupVersion.String())
		if err == nil {
			for _, r := range list.APIResources {
				if r.Kind == "ServiceCIDR" {
					return true, nil
				}
			}
			return false, nil
		}
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if pause(ctx, kindsEvery) != nil {
			return false, nil
		}
	}
}

// tableService enters a service, its endpoints, or a range of services.
func tableService(t *service.Table, lb *loadbalancer.Table, o any, gone bool) {
	switch v := lastKnown(o).(type) {
	case *corev1.Service:
		owner := "service " + v.Namespace + "/" + v.Name
		if gone {
			t.Set(owner, nil)
			lb.DeleteService(loadbalancer.Name{Namespace: v.Namespace, Name: v.Name})
			return
		}
		t.Set(owner, service.Hosts(service.Addresses(v)))
		lb.SetService(v)
	case *discoveryv1.EndpointSlice:
		if gone {
			lb.DeleteSlice(loadbalancer.Name{Namespace: v.Namespace, Name: v.Name})
			return
		}
		lb.SetSlice(v)
	case *networkingv1.ServiceCIDR:
		owner := "servicecidr " + v.Name
		if gone {
			t.Set(owner, nil)
			return
		}
		t.Set(owner, service.Ranges(v))
	}
}
