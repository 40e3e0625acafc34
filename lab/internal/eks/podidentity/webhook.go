package podidentity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
)

// Address is where the API server finds the webhook: beside it, so that it needs no Service, pod or network of
// the cluster.
const Address = "127.0.0.1:23443"

const mutatePath = "/mutate"

// Config is what a webhook needs of its surroundings.
type Config struct {
	Client kubernetes.Interface
	Region string
	// Listen opens Address in the API server's network namespace.
	Listen func(network, address string) (net.Listener, error)
	Log    *slog.Logger
}

// Webhook mutates pods. Its certificate is its own, made anew by New and put into the webhook's
// configuration by Run, so there is nothing to rotate.
type Webhook struct {
	cfg         Config
	certificate tls.Certificate
	bundle      []byte
	lister      listers.ServiceAccountLister
	factory     informers.SharedInformerFactory

	reviewed sync.Once
	asked    chan struct{} // closed by the first review
	ready    chan struct{}
}

// New makes a webhook that isn't running yet.
func New(cfg Config) (*Webhook, error) {
	if cfg.Client == nil || cfg.Listen == nil || cfg.Log == nil || cfg.Region == "" {
		return nil, errors.New("pod identity webhook: Client, Region, Listen and Log must be set")
	}
	host, _, err := net.SplitHostPort(Address)
	if err != nil {
		return nil, err
	}
	certificate, bundle, err := selfSigned(net.ParseIP(host))
	if err != nil {
		return nil, fmt.Errorf("pod identity webhook: certificate: %w", err)
	}
	factory := informers.NewSharedInformerFactory(cfg.Client, 0)
	return &Webhook{
		cfg:         cfg,
		certificate: certificate,
		bundle:      bundle,
		lister:      factory.Core().V1().ServiceAccounts().Lister(),
		factory:     factory,
		asked:       make(chan struct{}),
		ready:       make(chan struct{}),
	}, nil
}

// Ready is closed when the API server has been seen to call the webhook: pods created from then on are
// mutated. Before, they would be let through without their role.
func (w *Webhook) Ready() <-chan struct{} { return w.ready }

// Run registers the webhook with the API server and serves until the context ends.
func (w *Webhook) Run(ctx context.Context) error {
	l, err := w.cfg.Listen("tcp", Address)
	if err != nil {
		return fmt.Errorf("pod identity webhook: listen on %s: %w", Address, err)
	}
	server := &http.Server{
		Handler:           w,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(w.cfg.Log.Handler(), slog.LevelInfo),
	}
	w.factory.Start(ctx.Done())
	defer w.factory.Shutdown()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		secure := tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{w.certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}})
		if err := server.Serve(secure); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("pod identity webhook: serve: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	g.Go(func() error { return w.prepare(ctx) })
	return g.Wait()
}

// prepare registers the webhook and waits until it works.
func (w *Webhook) prepare(ctx context.Context) error {
	for kind, ok := range w.factory.WaitForCacheSync(ctx.Done()) {
		if !ok && ctx.Err() == nil {
			return fmt.Errorf("pod identity webhook: no list of %v", kind)
		}
	}
	err := wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if err := register(ctx, w.cfg.Client, w.bundle); err != nil {
			w.cfg.Log.Info("pod identity webhook not registered yet", "error", err)
			return false, nil
		}
		return true, nil
	})
	if err != nil {
		return nil // the context ended
	}
	// The API server hears of its webhooks by an informer, a second or so later.
	err = wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		select {
		case <-w.asked:
			return true, nil
		default:
		}
		if err := w.probe(ctx); err != nil {
			w.cfg.Log.Debug("pod identity webhook probe", "error", err)
		}
		return false, nil
	})
	if err == nil {
		close(w.ready)
		w.cfg.Log.Info("pod identity webhook ready")
	}
	return nil
}

// probe has the API server admit a pod without creating it.
func (w *Webhook) probe(ctx context.Context) error {
	no := false
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod-identity-webhook-probe", Namespace: metav1.NamespaceDefault},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: &no,
			Containers:                   []corev1.Container{{Name: "probe", Image: "pause"}},
		},
	}
	_, err := w.cfg.Client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// selfSigned makes a certificate that vouches for itself, and its PEM form.
func selfSigned(ip net.IP) (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "pod-identity-webhook"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:           []net.IP{ip},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, bundle, nil
}
