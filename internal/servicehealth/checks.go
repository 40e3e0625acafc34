// Package servicehealth answers load balancers that ask a node, at a service's health check node port, whether it has
// endpoints of the service.
package servicehealth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/internal/loadbalancer"
)

// What one service's port takes of clients that mean no good.
const (
	maxClients  = 64
	maxHeader   = 4 << 10
	maxDuration = 5 * time.Second
	retryEvery  = 5 * time.Second
)

// Checks are the ports of a node. Listen opens one; Healthy tells whether the node's services are kept up to date.
type Checks struct {
	Listen  func(port uint16) (net.Listener, error)
	Healthy func() bool
	Log     *slog.Logger

	mu     sync.Mutex
	want   map[loadbalancer.Name]loadbalancer.HealthCheck
	failed map[loadbalancer.Name]string
	kick   chan struct{}
}

// New has no ports yet.
func New(healthy func() bool, log *slog.Logger) *Checks {
	return &Checks{
		Listen:  func(port uint16) (net.Listener, error) { return net.Listen("tcp", fmt.Sprintf(":%d", port)) },
		Healthy: healthy, Log: log,
		want: map[loadbalancer.Name]loadbalancer.HealthCheck{}, failed: map[loadbalancer.Name]string{}, kick: make(chan struct{}, 1),
	}
}

// Set says what is answered about a service from now on; nil: nothing.
func (c *Checks) Set(service loadbalancer.Name, check *loadbalancer.HealthCheck) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, had := c.want[service]
	switch {
	case check == nil && !had, check != nil && had && before == *check:
		return
	case check == nil:
		delete(c.want, service)
	default:
		c.want[service] = *check
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Failed are services whose port couldn't be opened, with why.
func (c *Checks) Failed() map[loadbalancer.Name]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[loadbalancer.Name]string, len(c.failed))
	for name, why := range c.failed {
		out[name] = why
	}
	return out
}

// Run opens and closes ports until ctx ends, which closes all.
func (c *Checks) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	open := map[loadbalancer.Name]*port{}
	g.Go(func() error {
		retry := time.NewTicker(retryEvery)
		defer retry.Stop()
		for {
			c.pass(ctx, g, open)
			select {
			case <-ctx.Done():
				for _, p := range open {
					p.close()
				}
				return nil
			case <-c.kick:
			case <-retry.C:
			}
		}
	})
	return g.Wait()
}

// pass brings the open ports to what is wanted.
func (c *Checks) pass(ctx context.Context, g *errgroup.Group, open map[loadbalancer.Name]*port) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// First what goes: a port may be another service's now.
	for name, p := range open {
		if check, ok := c.want[name]; !ok || check.Port != p.number {
			p.close()
			delete(open, name)
		}
	}
	for name := range c.failed {
		if _, ok := c.want[name]; !ok {
			delete(c.failed, name)
		}
	}
	for name, check := range c.want {
		if p := open[name]; p != nil {
			p.local.Store(int64(check.Local))
			continue
		}
		l, err := c.Listen(check.Port)
		if err != nil {
			if c.failed[name] != err.Error() {
				c.Log.Error("load balancers can't ask about a service", "service", name.String(), "err", err)
			}
			c.failed[name] = err.Error()
			continue
		}
		delete(c.failed, name)
		p := c.newPort(ctx, name, check)
		open[name] = p
		g.Go(func() error { return p.serve(l, c.Log) })
	}
}

// A port answers about one service.
type port struct {
	service loadbalancer.Name
	number  uint16
	local   atomic.Int64
	healthy func() bool
	server  *http.Server
}

func (c *Checks) newPort(ctx context.Context, name loadbalancer.Name, check loadbalancer.HealthCheck) *port {
	p := &port{service: name, number: check.Port, healthy: c.Healthy}
	p.local.Store(int64(check.Local))
	p.server = &http.Server{
		Handler: p, ReadTimeout: maxDuration, ReadHeaderTimeout: maxDuration, WriteTimeout: maxDuration, IdleTimeout: maxDuration,
		MaxHeaderBytes: maxHeader, BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	p.server.SetKeepAlivesEnabled(false)
	return p
}

func (p *port) close() {
	// Whatever is still said on a connection is of no use to anybody: the service has another port or is gone.
	_ = p.server.Close()
}

func (p *port) serve(l net.Listener, log *slog.Logger) error {
	if err := p.server.Serve(netutil.LimitListener(l, maxClients)); !errors.Is(err, http.ErrServerClosed) {
		log.Error("a service's health check ended", "service", p.service.String(), "err", err)
	}
	return nil
}

// answer is in the form of kube-proxy's.
type answer struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int  `json:"localEndpoints"`
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

// ServeHTTP answers 200 if the node has endpoints that are ready, else 503.
func (p *port) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	a := answer{LocalEndpoints: int(p.local.Load()), ServiceProxyHealthy: p.healthy()}
	a.Service.Namespace, a.Service.Name = p.service.Namespace, p.service.Name
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(a.LocalEndpoints))
	code := http.StatusOK
	if a.LocalEndpoints == 0 || !a.ServiceProxyHealthy {
		code = http.StatusServiceUnavailable
	}
	w.WriteHeader(code)
	// Who asks may be gone already.
	_ = json.NewEncoder(w).Encode(a)
}
