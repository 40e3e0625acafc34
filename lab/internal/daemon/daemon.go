// Package daemon is the process that a lab lives in: AWS, EKS' own machinery and the supervisor of the
// control plane, told what to do over a socket by the lab command.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weft-cni/weft/lab/internal/cluster"
	"github.com/weft-cni/weft/lab/internal/labstate"
)

// Daemon serves one lab.
type Daemon struct {
	lab labstate.Lab
	log *slog.Logger
	// life is the daemon's: what a request starts must outlive the request.
	life context.Context

	mu      sync.Mutex
	cluster *cluster.Cluster
}

// Run serves until ctx ends.
func Run(ctx context.Context, lab labstate.Lab, log *slog.Logger) error {
	if err := os.MkdirAll(lab.RunDir(), 0o755); err != nil {
		return fmt.Errorf("daemon of lab %s: %w", lab.Name, err)
	}
	if err := os.Remove(lab.AdminSocket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("daemon of lab %s: %w", lab.Name, err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", lab.AdminSocket())
	if err != nil {
		return fmt.Errorf("daemon of lab %s: %w", lab.Name, err)
	}
	if err := os.Chmod(lab.AdminSocket(), 0o600); err != nil {
		return fmt.Errorf("daemon of lab %s: %w", lab.Name, err)
	}
	g, life := errgroup.WithContext(ctx)
	d := &Daemon{lab: lab, log: log, life: life}
	server := &http.Server{
		Handler: d.routes(), ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return life },
	}
	g.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("daemon of lab %s: %w", lab.Name, err)
		}
		return nil
	})
	g.Go(func() error {
		<-life.Done()
		return server.Close()
	})
	err = g.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cluster != nil {
		err = errors.Join(err, d.cluster.Wait())
	}
	return err
}

// begin makes the daemon's one cluster.
func (d *Daemon) begin(opts cluster.Options) (*cluster.Cluster, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cluster != nil {
		return nil, &StateError{Text: fmt.Sprintf("lab %s has a cluster already: delete it with: lab delete cluster --name %s", d.lab.Name, d.lab.Name)}
	}
	d.cluster = cluster.New(d.life, opts)
	return d.cluster, nil
}

// StateError says that the lab isn't in the state that a request needs.
type StateError struct{ Text string }

func (e *StateError) Error() string { return e.Text }

func (d *Daemon) current() (*cluster.Cluster, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cluster == nil {
		return nil, &StateError{Text: fmt.Sprintf("lab %s has no cluster yet", d.lab.Name)}
	}
	return d.cluster, nil
}
