package podidentity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	kubetesting "k8s.io/client-go/testing"
)

func webhook(t *testing.T, objects ...runtime.Object) *Webhook {
	t.Helper()
	w, err := New(Config{
		Client: fake.NewClientset(objects...),
		Region: "us-west-2",
		Listen: func(network, address string) (net.Listener, error) { return net.Listen(network, "127.0.0.1:0") },
		Log:    slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestRun plays the API server: it takes the configuration, then calls the webhook by it for every pod.
func TestRun(t *testing.T) {
	client := fake.NewClientset(account(RoleARN, role))
	listening := make(chan net.Addr, 1)
	var registrations, probes, gets atomic.Int32
	client.PrependReactor("patch", "mutatingwebhookconfigurations", func(kubetesting.Action) (bool, runtime.Object, error) {
		if registrations.Add(1) == 1 {
			return true, nil, apierrors.NewServiceUnavailable("starting")
		}
		return false, nil, nil
	})
	client.PrependReactor("get", "serviceaccounts", func(kubetesting.Action) (bool, runtime.Object, error) {
		gets.Add(1)
		return false, nil, nil
	})
	w, err := New(Config{
		Client: client, Region: "us-west-2", Log: slog.New(slog.DiscardHandler),
		Listen: func(network, address string) (net.Listener, error) {
			if address != Address {
				t.Errorf("listens on %s, expected %s", address, Address)
			}
			l, err := net.Listen(network, "127.0.0.1:0")
			if err == nil {
				listening <- l.Addr()
			}
			return l, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var g errgroup.Group
	runCtx, stop := context.WithCancel(ctx)
	probed := make(chan *corev1.Pod, 100)
	client.PrependReactor("create", "pods", func(a kubetesting.Action) (bool, runtime.Object, error) {
		create := a.(kubetesting.CreateActionImpl)
		if len(create.CreateOptions.DryRun) != 1 || create.CreateOptions.DryRun[0] != metav1.DryRunAll {
			t.Errorf("created a pod with %+v, expected a dry run", create.CreateOptions)
		}
		probes.Add(1)
		select {
		case probed <- create.GetObject().(*corev1.Pod):
		default:
		}
		return true, create.GetObject(), nil
	})
	g.Go(func() error { return w.Run(runCtx) })

	address := <-listening
	pool := x509.NewCertPool()
	call := func(p *corev1.Pod) (*admissionv1.AdmissionReview, error) {
		configuration, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, "pod-identity-webhook", metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		pool.AppendCertsFromPEM(configuration.Webhooks[0].ClientConfig.CABundle)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address.String())
		}}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Post(*configuration.Webhooks[0].ClientConfig.URL, "application/json", bytes.NewReader(body(t, p, nil)))
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		var out admissionv1.AdmissionReview
		return &out, json.NewDecoder(resp.Body).Decode(&out)
	}
	// The API server hears of its webhooks late: it admits the first pods without asking.
	for range 3 {
		select {
		case p := <-probed:
			select {
			case <-w.Ready():
				t.Error("ready before it was called")
			default:
			}
			if probes.Load() < 3 {
				continue
			}
			if _, err := call(p); err != nil {
				t.Fatal(err)
			}
		case <-ctx.Done():
			t.Fatalf("no probe: %d registrations", registrations.Load())
		}
	}
	select {
	case <-w.Ready():
	case <-ctx.Done():
		t.Fatalf("not ready: %d registrations, %d probes", registrations.Load(), probes.Load())
	}
	out, err := call(pod(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "sa" }))
	if err != nil || len(out.Response.Patch) == 0 {
		t.Errorf("answer %+v, %v; expected a patch", out, err)
	}
	before := gets.Load()
	out, err = call(pod(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "nobody" }))
	if err != nil || len(out.Response.Patch) != 0 {
		t.Errorf("answer %+v, %v; expected none", out, err)
	}
	if n := gets.Load() - before; n != 1 {
		t.Errorf("%d requests for an account that the informer doesn't know, expected 1", n)
	}
	stop()
	if err := g.Wait(); err != nil {
		t.Errorf("run: %v", err)
	}
}
