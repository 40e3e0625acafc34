// Package controlplane runs the part of Kubernetes that EKS runs for its customers: etcd, the API server,
// the controller manager and the scheduler, in a namespace outside the node network.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/lab/internal/cgroup"
	"github.com/weft-cni/weft/lab/internal/labstate"
	"github.com/weft-cni/weft/lab/internal/process"
)

// Config is what a control plane needs to know.
type Config struct {
	Lab    labstate.Lab
	Assets string
	// Namespace is the network namespace that it runs in, with the addresses in Addresses.
	Namespace string
	// Addresses are its interfaces' in the VPC; the first is the kubernetes Endpoints'.
	Addresses []netip.Addr
	// EndpointHost is the name by which nodes find it, Issuer the issuer of service account tokens.
	EndpointHost string
	Issuer       string
	ServiceCIDR  netip.Prefix
	// Shut are the networks that it must reach by the egress proxy alone.
	Shut []netip.Prefix
	// EgressSocket is the egress proxy's; empty for a control plane that connects by itself.
	EgressSocket string
}

// Port is the API server's. EKS has it on 443.
const Port = 443

// ControlPlane is a control plane with its certificates.
type ControlPlane struct {
	cfg                             Config
	certs                           *Certificates
	group                           cgroup.Group
	apiserver, etcd, kcm, scheduler *process.Service
}

// New makes certificates, configuration and the firewall. Nothing runs yet.
func New(cfg Config) (*ControlPlane, error) {
	certs, err := newCertificates(cfg)
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	// An old data directory would be another cluster's.
	if err := errors.Join(os.RemoveAll(cfg.Lab.EtcdDir()), os.MkdirAll(cfg.Lab.EtcdDir(), 0o700)); err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	if cfg.EgressSocket != "" {
		if err := os.WriteFile(filepath.Join(cfg.Lab.PKIDir(), egressFile), egressConfig(cfg.EgressSocket), 0o600); err != nil {
			return nil, fmt.Errorf("control plane: %w", err)
		}
	}
	group, err := cgroup.Create(cfg.Lab.Cgroup("cp"))
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	c := &ControlPlane{cfg: cfg, certs: certs, group: group}
	c.etcd = c.service("etcd", c.etcdArgs())
	c.apiserver = c.service("kube-apiserver", c.apiserverArgs())
	c.kcm = c.service("kube-controller-manager", c.kcmArgs())
	c.scheduler = c.service("kube-scheduler", c.schedulerArgs())
	return c, nil
}

// Certificates returns the authorities and what people and nodes get from them.
func (c *ControlPlane) Certificates() *Certificates { return c.certs }

func (c *ControlPlane) service(component string, args []string) *process.Service {
	return &process.Service{Command: process.Command{
		Name:   component,
		Path:   filepath.Join(c.cfg.Assets, "kubebox"),
		Args:   append([]string{component}, args...),
		Env:    []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "GRPC_ENFORCE_ALPN_ENABLED=true"},
		Netns:  c.cfg.Namespace,
		Cgroup: c.group,
		Log:    LogPath(c.cfg.Lab, component),
	}}
}

// LogPath is a component's log.
func LogPath(lab labstate.Lab, component string) string {
	return filepath.Join(lab.LogDir(), component+".log")
}

// Run keeps the control plane running until ctx ends. The controller manager and the scheduler start when
// the API server is ready: started before, they wait ten seconds before they try again.
func (c *ControlPlane) Run(ctx context.Context) error {
	if err := shut(c.cfg.Namespace, c.cfg.Shut); err != nil {
		return fmt.Errorf("control plane: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.etcd.Run(ctx) })
	g.Go(func() error { return c.apiserver.Run(ctx) })
	for _, s := range []*process.Service{c.kcm, c.scheduler} {
		g.Go(func() error {
			if err := c.WaitReady(ctx); err != nil {
				return nil // ctx ended; the cause is another's
			}
			return s.Run(ctx)
		})
	}
	return g.Wait()
}

// WaitReady returns when the API server says that it is ready.
func (c *ControlPlane) WaitReady(ctx context.Context) error {
	client, err := c.httpClient()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if ready(ctx, client) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API server isn't ready (its log: lab logs apiserver): %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func ready(ctx context.Context, client *http.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/readyz", Port), nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// States returns how the components are.
func (c *ControlPlane) States() []process.State {
	return []process.State{c.etcd.State(), c.apiserver.State(), c.kcm.State(), c.scheduler.State()}
}
