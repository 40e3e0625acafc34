// Package addons is what EKS puts into every cluster: coredns and kube-proxy, as EKS ships them.
package addons

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/template"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"

	"github.com/weft-cni/weft/lab/internal/eks/images"
)

//go:embed coredns.yaml kube-proxy.yaml
var manifests embed.FS

// The add-ons that the lab runs, by their names in EKS.
const (
	CoreDNS   = "coredns"
	KubeProxy = "kube-proxy"
)

// fieldManager is the one that EKS applies add-ons as.
const fieldManager = "eks"

// Names lists the add-ons that Apply knows.
func Names() []string { return []string{KubeProxy, CoreDNS} }

// Options are what the manifests depend on.
type Options struct {
	// Addons are those to apply; nil means all of Names.
	Addons []string
	Region string
	// Endpoint is the API server's URL as nodes see it.
	Endpoint string
	// ServiceCIDR is the cluster's; its tenth address is kube-dns.
	ServiceCIDR netip.Prefix
	// ProxyMode is kube-proxy's: iptables, as EKS's, if empty.
	ProxyMode string
}

// ClusterDNS is the address of the service kube-dns: the tenth of the service network.
func ClusterDNS(services netip.Prefix) (netip.Addr, error) {
	a := services.Masked().Addr()
	for range 10 {
		a = a.Next()
	}
	if !services.IsValid() || !services.Contains(a) {
		return netip.Addr{}, fmt.Errorf("service network %s has no tenth address for kube-dns: expected one like 10.100.0.0/16", services)
	}
	return a, nil
}

// Objects returns the objects of the add-ons, in the order to apply them in.
func Objects(opts Options) ([]*unstructured.Unstructured, error) {
	dns, err := ClusterDNS(opts.ServiceCIDR)
	if err != nil {
		return nil, err
	}
	if opts.Region == "" || !strings.HasPrefix(opts.Endpoint, "https://") {
		return nil, fmt.Errorf("add-ons: region %q and endpoint %q: expected a region and an https URL", opts.Region, opts.Endpoint)
	}
	if opts.ProxyMode == "" {
		opts.ProxyMode = "iptables"
	}
	names := opts.Addons
	if names == nil {
		names = Names()
	}
	var out []*unstructured.Unstructured
	for _, name := range names {
		if !slices.Contains(Names(), name) {
			return nil, fmt.Errorf("add-on %q isn't one that the lab runs: expected one of %s", name, strings.Join(Names(), ", "))
		}
		t, err := template.New(name+".yaml").Option("missingkey=error").ParseFS(manifests, name+".yaml")
		if err != nil {
			return nil, fmt.Errorf("add-on %s: %w", name, err)
		}
		var text bytes.Buffer
		if err := t.Execute(&text, map[string]any{
			"ClusterDNS": dns, "Endpoint": opts.Endpoint, "ProxyMode": opts.ProxyMode, "Images": images.RefsFor(opts.Region),
		}); err != nil {
			return nil, fmt.Errorf("add-on %s: %w", name, err)
		}
		objects, err := decode(&text)
		if err != nil {
			return nil, fmt.Errorf("add-on %s: %w", name, err)
		}
		out = append(out, objects...)
	}
	return out, nil
}

func decode(r io.Reader) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(r, 4096)
	var out []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		out = append(out, object)
	}
}

// Apply makes the add-ons be as EKS has them, by server-side apply: what others set in fields of their own stays,
// what they changed in EKS's is put back. It goes on until the context ends while the API server isn't up to it
// (just started, it has no namespaces and roles yet), and gives up on an object that is refused as invalid.
func Apply(ctx context.Context, client dynamic.Interface, opts Options) error {
	objects, err := Objects(opts)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if err := applyOne(ctx, client, object); err != nil {
			return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

func applyOne(ctx context.Context, client dynamic.Interface, object *unstructured.Unstructured) error {
	// The plural is the usual one for every kind in the manifests; a test holds that against the API.
	resource, _ := meta.UnsafeGuessKindToResource(object.GroupVersionKind())
	var last error
	err := wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		last = apply(ctx, client, resource, object)
		switch {
		case last == nil:
			return true, nil
		case apierrors.IsInvalid(last), apierrors.IsBadRequest(last), apierrors.IsMethodNotSupported(last), apierrors.IsUnauthorized(last):
			return false, last
		}
		return false, nil
	})
	if err != nil && last != nil {
		return last // why it didn't succeed says more than that the time is up
	}
	return err
}

func apply(ctx context.Context, client dynamic.Interface, resource schema.GroupVersionResource, object *unstructured.Unstructured) error {
	var target dynamic.ResourceInterface = client.Resource(resource)
	if ns := object.GetNamespace(); ns != "" {
		target = client.Resource(resource).Namespace(ns)
	}
	_, err := target.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	return err
}
