// Package apiserver runs a real etcd and Kubernetes API server, without nodes, in the network namespace that
// the process is in.
package apiserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/weft-cni/weft/test/rig"
)

const (
	address    = "127.0.0.1:6443"
	etcd       = "http://127.0.0.1:2379"
	adminToken = "scale"
)

// Server is a running one.
type Server struct {
	dir   string
	procs []*exec.Cmd
	logs  []*os.File
}

// Start starts both from the folder of built programs, with their state in dir, and waits until they answer.
func Start(ctx context.Context, programs, dir string) (_ *Server, err error) {
	s := &Server{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	key, err := s.serviceAccountKey()
	if err != nil {
		return nil, err
	}
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(adminToken+",scale,1,system:masters\n"), 0o600); err != nil {
		return nil, err
	}
	err = s.run(programs, "etcd", "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn", "--quota-backend-bytes=4294967296",
		"--listen-client-urls="+etcd, "--advertise-client-urls="+etcd, "--listen-peer-urls=http://127.0.0.1:2380")
	if err != nil {
		return nil, err
	}
	err = s.run(programs, "kube-apiserver", "--etcd-servers="+etcd, "--secure-port=6443", "--bind-address=127.0.0.1",
		"--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none", "--cert-dir="+filepath.Join(dir, "certs"), "--token-auth-file="+tokens,
		"--service-account-issuer=https://issuer.invalid", "--service-account-key-file="+key, "--service-account-signing-key-file="+key,
		"--service-cluster-ip-range=10.100.0.0/16", "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount")
	if err != nil {
		return nil, err
	}
	c, err := kubernetes.NewForConfig(s.Config())
	if err != nil {
		return nil, err
	}
	return s, rig.Await(ctx, 2*time.Minute, "the API server is ready", func() error {
		_, err := c.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// Config is a client's, as cluster administrator and without a limit of its own.
func (s *Server) Config() *rest.Config {
	return &rest.Config{Host: "https://" + address, BearerToken: adminToken, QPS: -1, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

// Host is where the server is, and a cluster administrator's token.
func (s *Server) Host() (url, token string) { return "https://" + address, adminToken }

// Put stores an object, as JSON, below /registry, past the API server, which serves it from then on.
func (s *Server) Put(ctx context.Context, key string, object any) error {
	value, err := json.Marshal(object)
	if err != nil {
		return err
	}
	// The names are etcd's; both are base64 in its JSON.
	body, err := json.Marshal(struct {
		Key   []byte `json:"key"`
		Value []byte `json:"value"`
	}{[]byte("/registry/" + key), value})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, etcd+"/v3/kv/put", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("etcd answers %s: %s", resp.Status, answer)
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	return nil
}

func (s *Server) serviceAccountKey() (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.dir, "sa.key")
	return path, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), 0o600)
}

func (s *Server) run(programs, name string, args ...string) error {
	log, err := os.Create(filepath.Join(s.dir, name+".log"))
	if err != nil {
		return err
	}
	s.logs = append(s.logs, log)
	cmd := exec.Command(filepath.Join(programs, name), args...)
	cmd.Stdout, cmd.Stderr = log, log
	// The main thread starts them and lives as long as the process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	s.procs = append(s.procs, cmd)
	return nil
}

// Stop ends both.
func (s *Server) Stop() error {
	var errs []error
	for _, p := range s.procs {
		if err := p.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
		var exit *exec.ExitError
		if err := p.Wait(); err != nil && !errors.As(err, &exit) {
			errs = append(errs, err)
		}
	}
	for _, l := range s.logs {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
