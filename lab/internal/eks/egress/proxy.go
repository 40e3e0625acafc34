// Package egress is the way from the lab's control plane into the VPC: the API server hands every connection
// to kubelets, webhooks and aggregated APIs to this proxy, which reaches what the VPC routes and nothing else.
package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"sigs.k8s.io/apiserver-network-proxy/konnectivity-client/proto/client"
)

// NotAllowed is what a user reads when the API server was to reach an address that the VPC doesn't route: EKS's
// own words. They come through unchanged only by konnectivity's gRPC protocol; HTTP CONNECT wraps them.
const NotAllowed = "Address is not allowed"

// DialTimeout bounds a connection attempt. It is longer than any time-out of the API server (a webhook's is at
// most 30 s), so that what users see is the caller's.
const DialTimeout = 60 * time.Second

// maxPacket is the largest message taken: clients send what they are given in one, whatever its size.
const maxPacket = 64 << 20

// Config is what a proxy needs of its surroundings.
type Config struct {
	// Socket is the path of the unix socket that the API server connects to.
	Socket string
	// Routes says whether the VPC routes an address: whether some ENI has it. IPv4 addresses come unmapped.
	Routes func(netip.Addr) bool
	// Dial connects from the control plane's side of the VPC; it gets IP literals only.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Log  *slog.Logger
}

// Proxy serves konnectivity's ProxyService.
type Proxy struct {
	cfg      Config
	listener *net.UnixListener
	counters counters
	client.UnimplementedProxyServiceServer
}

// New opens the socket, for its owner alone: from then on connections queue, so the API server can start before
// Run. An old socket at the path is replaced.
func New(cfg Config) (*Proxy, error) {
	if cfg.Socket == "" || cfg.Routes == nil || cfg.Dial == nil || cfg.Log == nil {
		return nil, errors.New("egress proxy: Socket, Routes, Dial and Log must be set")
	}
	l, err := listen(cfg.Socket)
	if err != nil {
		return nil, fmt.Errorf("egress proxy: %w", err)
	}
	return &Proxy{cfg: cfg, listener: l}, nil
}

// listen makes the socket under another name first: at the final one it never exists with wider rights.
func listen(path string) (*net.UnixListener, error) {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(fresh))
	}
	return l, nil
}

// Run serves until the context ends, then breaks every connection and removes the socket.
func (p *Proxy) Run(ctx context.Context) error {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxPacket))
	client.RegisterProxyServiceServer(server, p)
	g, serving := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := server.Serve(p.listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("egress proxy: serve %s: %w", p.cfg.Socket, err)
		}
		return nil
	})
	g.Go(func() error {
		<-serving.Done()
		server.Stop()
		return nil
	})
	err := g.Wait()
	if gone := os.Remove(p.cfg.Socket); gone != nil && !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("egress proxy: %w", gone))
	}
	return err
}

// Counts returns what the proxy has done so far.
func (p *Proxy) Counts() Counts { return p.counters.read() }

// target is the pure part of a dial request: the address to connect to, or why not.
func target(protocol, address string, routes func(netip.Addr) bool) (netip.AddrPort, error) {
	if protocol != "tcp" {
		return netip.AddrPort{}, fmt.Errorf("protocol not supported: %s", protocol)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("not an address: %s", address)
	}
	// The API server asks for a name when a Node has only a Hostname. Nothing out here resolves names.
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("not an address: %s", host)
	}
	to, err := netip.ParseAddrPort(net.JoinHostPort(ip.Unmap().String(), port))
	if err != nil || to.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("not a port: %s", port)
	}
	if to.Addr().Zone() != "" || !routes(to.Addr()) {
		return netip.AddrPort{}, errNotAllowed
	}
	return to, nil
}

//lint:ignore ST1005 these are EKS's own words
var errNotAllowed = errors.New(NotAllowed)

// dialText is what the API server shows: the error of the connection attempt, without what callers wrapped
// around it.
func dialText(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Error()
	}
	return err.Error()
}
