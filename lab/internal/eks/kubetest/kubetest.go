// Package kubetest is a real Kubernetes API server for tests, in a network namespace of its own.
package kubetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/weft-cni/weft/lab/internal/assets"
	"github.com/weft-cni/weft/lab/internal/netns"
)

// Server is an API server without nodes, controllers or a scheduler.
type Server struct {
	// Namespace is the network namespace in which it listens on 127.0.0.1:6443.
	Namespace string
	Config    *rest.Config
	Client    kubernetes.Interface
}

const token = "kubetest"

// Start runs etcd and the API server until the test ends. The test is skipped where that can't be: without
// root, or before kubebox is built.
func Start(t *testing.T) *Server {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: an API server in a network namespace needs root")
	}
	kubebox := find()
	if kubebox == "" {
		t.Skip("SKIPPED: no kubebox: build it with `lab assets`, or say where one is with WEFT_KUBEBOX")
	}
	s := &Server{Namespace: fmt.Sprintf("kubetest-%d-%s", os.Getpid(), strings.ToLower(t.Name()))}
	if err := netns.Create(s.Namespace); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(s.Namespace); err != nil {
			t.Error(err)
		}
	})
	if err := loopbackUp(s.Namespace); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(token+",admin,admin,system:masters\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "sa.key")
	if err := writeKey(key); err != nil {
		t.Fatal(err)
	}
	s.run(t, kubebox, filepath.Join(dir, "etcd.log"), "etcd", "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380", "--initial-cluster=default=http://127.0.0.1:2380")
	log := filepath.Join(dir, "kube-apiserver.log")
	died := s.run(t, kubebox, log, "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--bind-address=127.0.0.1", "--secure-port=6443",
		"--cert-dir="+filepath.Join(dir, "certs"), "--token-auth-file="+tokens, "--authorization-mode=RBAC",
		"--service-cluster-ip-range=10.100.0.0/16", "--service-account-issuer=https://kubetest", "--service-account-key-file="+key,
		"--service-account-signing-key-file="+key, "--api-audiences=https://kubetest", "--allow-privileged=true", "--disable-admission-plugins=ServiceAccount",
		"--endpoint-reconciler-type=none",
		// There is no default route to find an address by; nobody uses this one.
		"--advertise-address=192.0.2.1")
	s.Config = &rest.Config{
		Host: "https://127.0.0.1:6443", BearerToken: token, QPS: 1000, Burst: 1000,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}, // its certificate is its own
		Dial:            netns.DialContext(s.Namespace),
	}
	client, err := kubernetes.NewForConfig(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	s.Client = client
	s.await(t, log, died)
	return s
}

// Listen opens a socket beside the API server.
func (s *Server) Listen(network, address string) (net.Listener, error) {
	return netns.Listen(s.Namespace, network, address)
}

// find returns the path of kubebox: what WEFT_KUBEBOX says, or the newest of the cache.
func find() string {
	if path := os.Getenv("WEFT_KUBEBOX"); path != "" {
		return path
	}
	cache, err := assets.CacheDir()
	if err != nil {
		return ""
	}
	built, err := filepath.Glob(filepath.Join(cache, "set-*", "kubebox"))
	if err != nil {
		return ""
	}
	newest, at := "", time.Time{}
	for _, path := range built {
		if info, err := os.Stat(path); err == nil && info.ModTime().After(at) {
			newest, at = path, info.ModTime()
		}
	}
	return newest
}

// run starts a component that is killed when the test ends, or when the test's process does. The channel is
// closed when it has ended.
func (s *Server) run(t *testing.T, kubebox, log string, args ...string) <-chan struct{} {
	t.Helper()
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, kubebox, args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Stdout, cmd.Stderr = out, out
	// The signal comes when the thread that started the process ends: the one below stays for as long.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var g errgroup.Group
	died := make(chan struct{})
	g.Go(func() error {
		defer close(died)
		return netns.Do(s.Namespace, cmd.Run)
	})
	t.Cleanup(func() {
		cancel()
		var exit *exec.ExitError
		if err := g.Wait(); err != nil && !errors.As(err, &exit) && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", args[0], err)
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
	})
	return died
}

// await waits until the API server is ready and has its first namespaces.
func (s *Server) await(t *testing.T, log string, died <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.Client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
			continue
		case <-died:
		case <-ctx.Done():
		}
		tail, _ := os.ReadFile(log) // the answer's error is the news; the log only helps
		t.Fatalf("the API server isn't ready: %v\n%s", err, tail[max(0, len(tail)-4000):])
	}
}
