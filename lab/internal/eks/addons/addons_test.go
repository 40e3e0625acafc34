package addons

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/scheme"
	kubetesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"
)

func options() Options {
	return Options{
		Region:      "us-west-2",
		Endpoint:    "https://0123456789ABCDEF.gr7.us-west-2.eks.amazonaws.com",
		ServiceCIDR: netip.MustParsePrefix("10.100.0.0/16"),
	}
}

// typed returns the objects of the API's own types, decoded so that an unknown field is an error.
func typed(t *testing.T, opts Options) map[string]runtime.Object {
	t.Helper()
	objects, err := Objects(opts)
	if err != nil {
		t.Fatal(err)
	}
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	out := map[string]runtime.Object{}
	for _, o := range objects {
		raw, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		decoded, _, err := strict.Decode(raw, nil, nil)
		if err != nil {
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
			continue
		}
		out[o.GetKind()+"/"+o.GetName()] = decoded
	}
	return out
}

func TestObjects(t *testing.T) {
	all := typed(t, options())
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{
		"ClusterRole/system:coredns", "ClusterRoleBinding/eks:kube-proxy", "ClusterRoleBinding/system:coredns",
		"ConfigMap/coredns", "ConfigMap/kube-proxy", "ConfigMap/kube-proxy-config", "DaemonSet/kube-proxy",
		"Deployment/coredns", "PodDisruptionBudget/coredns", "Service/kube-dns", "ServiceAccount/coredns", "ServiceAccount/kube-proxy",
	}
	if d := cmp.Diff(want, names); d != "" {
		t.Errorf("objects (-want +got):\n%s", d)
	}
	if got := all["Service/kube-dns"].(*corev1.Service).Spec.ClusterIP; got != "10.100.0.10" {
		t.Errorf("kube-dns is %s, expected 10.100.0.10", got)
	}
	kubeconfig := all["ConfigMap/kube-proxy"].(*corev1.ConfigMap).Data["kubeconfig"]
	if !strings.Contains(kubeconfig, "server: "+options().Endpoint+"\n") {
		t.Errorf("kube-proxy's kubeconfig doesn't name the endpoint:\n%s", kubeconfig)
	}
	var config map[string]any
	if err := yaml.UnmarshalStrict([]byte(all["ConfigMap/kube-proxy-config"].(*corev1.ConfigMap).Data["config"]), &config); err != nil {
		t.Fatal(err)
	}
	conntrack, _ := config["conntrack"].(map[string]any)
	if config["mode"] != "iptables" || conntrack["maxPerCore"] != float64(0) {
		t.Errorf("mode %v, conntrack %v; expected iptables, and no limit set on the machine", config["mode"], conntrack)
	}
}

func TestCoreDNSWaitsForTheNetwork(t *testing.T) {
	spec := typed(t, options())["Deployment/coredns"].(*appsv1.Deployment).Spec.Template.Spec
	startup := corev1.Taint{Key: "node.cilium.io/agent-not-ready", Value: "true", Effect: corev1.TaintEffectNoExecute}
	notReady := corev1.Taint{Key: "node.kubernetes.io/not-ready", Effect: corev1.TaintEffectNoSchedule}
	for _, taint := range []corev1.Taint{startup, notReady} {
		for _, toleration := range spec.Tolerations {
			if toleration.ToleratesTaint(klog.Background(), &taint, false) {
				t.Errorf("coredns tolerates %s by %+v, so it would start before there is a network", taint.Key, toleration)
			}
		}
	}
	proxy := typed(t, options())["DaemonSet/kube-proxy"].(*appsv1.DaemonSet).Spec.Template.Spec
	for _, taint := range []corev1.Taint{startup, notReady} {
		if !proxy.Tolerations[0].ToleratesTaint(klog.Background(), &taint, false) {
			t.Errorf("kube-proxy doesn't tolerate %s", taint.Key)
		}
	}
}

func TestObjectsOfOneAddon(t *testing.T) {
	opts := options()
	opts.Addons, opts.ProxyMode = []string{KubeProxy}, "nftables"
	all := typed(t, opts)
	if len(all) != 5 {
		t.Errorf("%d objects, expected kube-proxy's 5", len(all))
	}
	if config := all["ConfigMap/kube-proxy-config"].(*corev1.ConfigMap).Data["config"]; !strings.Contains(config, "mode: nftables\n") {
		t.Errorf("configuration without the mode:\n%s", config)
	}
	opts.Addons = []string{}
	if got := typed(t, opts); len(got) != 0 {
		t.Errorf("objects of no add-ons: %v", got)
	}
}

func TestObjectsRefuses(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"unknown add-on":        func(o *Options) { o.Addons = []string{"vpc-cni"} },
		"no region":             func(o *Options) { o.Region = "" },
		"no endpoint":           func(o *Options) { o.Endpoint = "" },
		"no service network":    func(o *Options) { o.ServiceCIDR = netip.Prefix{} },
		"service network small": func(o *Options) { o.ServiceCIDR = netip.MustParsePrefix("10.100.0.0/29") },
	} {
		opts := options()
		change(&opts)
		if _, err := Objects(opts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestClusterDNS(t *testing.T) {
	for in, want := range map[string]string{"10.100.0.0/16": "10.100.0.10", "172.20.0.0/16": "172.20.0.10", "10.100.3.4/16": "10.100.0.10", "fd00::/108": "fd00::a"} {
		if got, err := ClusterDNS(netip.MustParsePrefix(in)); err != nil || got.String() != want {
			t.Errorf("%s: %s, %v; expected %s", in, got, err, want)
		}
	}
}

// server answers applies as told and remembers them.
type server struct {
	mu      sync.Mutex
	answers []error // the first ones; then all succeed
	applied []string
}

func (s *server) client() *dynamicfake.FakeDynamicClient {
	client := dynamicfake.NewSimpleDynamicClient(runtime.NewScheme())
	client.PrependReactor("patch", "*", func(a kubetesting.Action) (bool, runtime.Object, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		p := a.(kubetesting.PatchActionImpl)
		if len(s.answers) > 0 {
			err := s.answers[0]
			s.answers = s.answers[1:]
			return true, nil, err
		}
		s.applied = append(s.applied, strings.Join([]string{string(p.GetPatchType()), p.GetNamespace(), p.GetResource().Resource, p.GetName()}, " "))
		return true, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "X"}}, nil
	})
	return client
}

func TestApplyWaitsForTheAPIServer(t *testing.T) {
	s := &server{answers: []error{
		apierrors.NewForbidden(schema.GroupResource{}, "x", errors.New("no roles yet")),
		apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "kube-system"),
		&apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusServiceUnavailable, Reason: metav1.StatusReasonServiceUnavailable}},
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := Apply(ctx, s.client(), options()); err != nil {
		t.Fatal(err)
	}
	if len(s.applied) != 12 {
		t.Errorf("%d objects applied, expected 12: %v", len(s.applied), s.applied)
	}
	for _, want := range []string{
		"application/apply-patch+yaml kube-system daemonsets kube-proxy",
		"application/apply-patch+yaml kube-system poddisruptionbudgets coredns",
		"application/apply-patch+yaml  clusterroles system:coredns",
	} {
		if !slices.Contains(s.applied, want) {
			t.Errorf("not applied: %q; applied: %q", want, s.applied)
		}
	}
}

func TestApplyGivesUpOnWhatIsInvalid(t *testing.T) {
	invalid := apierrors.NewInvalid(schema.GroupKind{Kind: "ServiceAccount"}, "x", nil)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := Apply(ctx, (&server{answers: []error{invalid}}).client(), options())
	if !apierrors.IsInvalid(err) || ctx.Err() != nil {
		t.Errorf("apply: %v, expected at once that the object is invalid", err)
	}
}

func TestApplySaysWhyTimeRanOut(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{}, "x", errors.New("no roles"))
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	err := Apply(ctx, (&server{answers: slices.Repeat([]error{forbidden}, 100)}).client(), options())
	if !apierrors.IsForbidden(err) {
		t.Errorf("apply: %v, expected the last answer", err)
	}
}
