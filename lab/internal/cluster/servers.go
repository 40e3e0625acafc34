package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/weft-cni/weft/lab/internal/door"
	"github.com/weft-cni/weft/lab/internal/eks/images"
	"github.com/weft-cni/weft/lab/internal/eks/registry"
	"github.com/weft-cni/weft/lab/internal/fabric"
	"github.com/weft-cni/weft/lab/internal/labstate"
	"github.com/weft-cni/weft/lab/internal/netns"
	"github.com/weft-cni/weft/lab/internal/pki"
)

const registryPort = 5000

// serve starts everything that listens inside the lab's namespaces.
func (c *Cluster) serve() error {
	var err error
	if c.registry, err = registry.New(filepath.Join(c.lab.Dir(), "registry")); err != nil {
		return err
	}
	resolver := fabric.VPCResolver(c.opts.Config.VPC)
	at := netip.AddrPortFrom(resolver, registryPort)
	if err := c.http("registry", c.lab.Netns("vpc"), at, &http.Server{Handler: c.registry}); err != nil {
		return err
	}
	for _, start := range []func() error{c.serveNames, c.serveAWS, c.serveWorld} {
		if err := start(); err != nil {
			return err
		}
	}
	return nil
}

// http serves at an address of a namespace until the cluster's life ends.
func (c *Cluster) http(name, namespace string, at netip.AddrPort, server *http.Server) error {
	l, err := netns.Listen(namespace, "tcp", at.String())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	c.serveOn(name, l, server)
	return nil
}

func (c *Cluster) serveOn(name string, l net.Listener, server *http.Server) {
	server.ReadHeaderTimeout = 10 * time.Second
	server.ErrorLog = slog.NewLogLogger(c.log.Handler(), slog.LevelDebug)
	c.background(name, func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = server.Close() })
		defer stop()
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
}

// dialFromVPC connects as the control plane's interfaces in the VPC.
func (c *Cluster) dialFromVPC(ctx context.Context, network, address string) (net.Conn, error) {
	return netns.DialContext(c.lab.Netns("xeni"))(ctx, network, address)
}

// relay makes the API server reachable from the machine, on the loopback address only, and writes the
// person's kubeconfig.
func (c *Cluster) relay(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("relay to the API server: %w", err)
	}
	// The same address leads there from the workstation, so that one kubeconfig serves both.
	workstation, err := netns.Listen(c.lab.Netns("inet"), "tcp", l.Addr().String())
	if err != nil {
		return errors.Join(fmt.Errorf("relay to the API server: %w", err), l.Close())
	}
	for name, l := range map[string]net.Listener{"relay": l, "workstation's relay": workstation} {
		c.background(name, func(ctx context.Context) error { return door.Forward(ctx, l, c.dialPlane) })
	}
	certs := c.plane.Certificates()
	server := "https://" + l.Addr().String()
	kubeconfig, err := pki.Kubeconfig(c.eks.Name, server, certs.CA.PEM, certs.Admin)
	if err != nil {
		return err
	}
	if err := labstate.WriteFile(c.lab.Kubeconfig(), kubeconfig, 0o600); err != nil {
		return err
	}
	return c.save(func(r *labstate.Record) { r.Relay = server })
}

// images puts EKS' own images into the registry.
func (c *Cluster) images(ctx context.Context) error {
	refs := images.RefsFor(c.opts.Config.Region)
	pause, err := images.Pause(filepath.Join(c.opts.Assets, "pause"))
	if err != nil {
		return err
	}
	if err := c.registry.Push(ctx, refs.Pause, pause); err != nil {
		return err
	}
	if c.opts.Config.Has("kube-proxy") {
		img, err := images.KubeProxy()
		if err != nil {
			return err
		}
		if err := c.registry.Push(ctx, refs.KubeProxy, img); err != nil {
			return err
		}
	}
	if c.opts.Config.Has("coredns") {
		img, err := images.CoreDNS(filepath.Join(c.opts.Assets, "coredns"))
		if err != nil {
			return err
		}
		if err := c.registry.Push(ctx, refs.CoreDNS, img); err != nil {
			return err
		}
	}
	return nil
}

// LoadImages puts the images of an archive into the registry and returns their names.
func (c *Cluster) LoadImages(ctx context.Context, archive string) ([]string, error) {
	if c.registry == nil {
		return nil, errors.New("the lab's registry isn't up yet")
	}
	return c.registry.PushArchive(ctx, archive)
}
